"""One run in several processes, by JAX's own runtime."""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import numpy as np

from experiments.options.devices import ClusterConfig
from experiments.runtime.errors import UsageError
from experiments.runtime.jax_startup import jax_refusals
from experiments.runtime.launch import LOOPBACK, SUPERVISED

T = TypeVar("T")

_SECONDS_TO_GATHER = 120
_SECONDS_WITHOUT_A_SIGN_OF_LIFE = 10


def initialize(config: ClusterConfig) -> None:
    """Makes this process one of several that see all their devices as one.

    Where nothing is said of coordinator and numbers, JAX looks for them in the environment, where
    Slurm, Open MPI, Kubernetes and TPU pods leave them.

    Raises:
        ValueError: neither the configuration nor the environment say enough.
    """
    given: dict[str, Any] = {
        "coordinator_address": config.coordinator,
        "num_processes": config.processes,
        "process_id": config.process,
    }
    if os.environ.get(SUPERVISED):
        threading.Thread(target=_end_with_the_launcher, daemon=True).start()
        _talk_by_loopback()
        given["coordinator_bind_address"] = config.coordinator
        given["cluster_detection_method"] = "deactivate"  # all is said, whatever else is there
    try:
        jax.distributed.initialize(
            **given,
            initialization_timeout=_SECONDS_TO_GATHER,
            heartbeat_timeout_seconds=_SECONDS_WITHOUT_A_SIGN_OF_LIFE,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the processes did not find each other ({error}): start all of them with the same "
            "cluster.coordinator, HOST:PORT of the first, or use a launcher that JAX knows."
        ) from error


def is_distributed() -> bool:
    """Whether this is one of several processes."""
    return jax.distributed.is_initialized()


def on_one_machine() -> bool:
    """Whether all processes are known to be on this machine, where they share what it has."""
    return not is_distributed() or SUPERVISED in os.environ


def is_main_process() -> bool:
    """Whether this process writes files and to the screen; one of all does."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether any process has raised the flag; all of them have to ask."""
    if not is_distributed():
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def broadcast(value: Any) -> Any:
    """What the first process says, in all of them; anything that JSON can hold."""
    if not is_distributed():
        return value
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.asarray(len(text))))
    own = text if is_main_process() else np.zeros(length, np.uint8)
    heard = multihost_utils.broadcast_one_to_all(own)
    return json.loads(np.asarray(heard, np.uint8).tobytes())


def main_process_first(work: Callable[[], T]) -> T:
    """Does what all processes do, but the first one ahead of the others.

    So that files which the work prepares for the next time are prepared once.
    """
    if is_main_process():
        result = work()
        meet()
        return result
    meet()
    return work()


def meet() -> None:
    """Waits until all processes have come here."""
    if is_distributed():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("pdadmm")


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Lets an error end this process at once, after it has said why.

    The interpreter's own way out would wait for the other processes, which wait for this one.
    What they do then is the runtime's business: it ends them when a message fails or the signs of
    life of this process stay away.
    """
    try:
        with jax_refusals():
            yield
    except BaseException as error:
        if not is_distributed():
            raise
        code = 1
        if isinstance(error, UsageError):
            code, reason = 2, str(error)
        elif another_is_gone(error):
            cause = " ".join(str(error).split())
            reason = f"process {jax.process_index()} ends, for it lost another: {cause}"
        else:
            traceback.print_exception(error)
            reason = f"process {jax.process_index()} ends by {error!r}"
        print(f"error: {reason}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def another_is_gone(error: BaseException) -> bool:
    """Whether a message to or from another process failed."""
    if not is_distributed():
        return False
    return "gloo" in str(error).lower() or isinstance(error, jax.errors.JaxRuntimeError)


def _talk_by_loopback() -> None:
    """Has processes of one machine exchange messages by its loopback interface alone.

    A proxy would look for that address on a machine of its own.  And CPUs would listen where the
    name of this machine leads, which may be nowhere: JAX has no setting for that, but takes a
    backend that is registered anew.
    """
    os.environ.update(grpc_proxy="")  # whatever it would take from others
    jax.config.update("jax_check_proxy_envs", False)
    if jax.config.values["jax_cpu_collectives_implementation"] != "gloo":
        return
    from jax._src import distributed, xla_bridge
    from jax.extend.backend import register_backend_factory
    from jaxlib import _jax  # pyright: ignore[reportAttributeAccessIssue]

    def cpu() -> Any:
        client = distributed.global_state.client
        messages = _jax.make_gloo_tcp_collectives(distributed_client=client, hostname=LOOPBACK)
        return xla_bridge.make_cpu_client(messages)

    register_backend_factory("cpu", cpu, priority=0, fail_quietly=False)


def _end_with_the_launcher() -> None:
    while os.read(sys.stdin.fileno(), 1):  # a buffered read would not let the interpreter end
        pass
    os._exit(1)
