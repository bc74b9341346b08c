"""Every test runs under strict dtype promotion; those marked ``x64`` in double precision."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "16")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for whom two processes are at work
# Most of the suite's time is compilation, and code that is not optimised is compiled five times as
# fast.  XLA_FLAGS= before pytest has the tests look at what users run, as CI does for a part.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
)
# Compiled so, threads that wait for parallel loops may be all there are, and wait for ever.
os.environ.setdefault("PJRT_NPROC", "1")  # one thread per device, no parallel loops
# All workers, and the processes that tests start, share one cache of compiled programs.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="pdadmm-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax
import jaxtyping
import pytest

# Annotations are checked at every call, a fifth of the suite's time; not with JAXTYPING_DISABLE=1.
_checked = not jaxtyping.config.jaxtyping_disable
with jaxtyping.install_import_hook(["pdadmm_jax"] * _checked, "beartype.beartype"):
    import pdadmm_jax  # noqa: F401

# Shells have what runs in the background ignore Ctrl-C, nohup a terminal that closes, and so would
# the commands that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True)
def _precision(request: pytest.FixtureRequest) -> Iterator[None]:
    """Double precision for tests marked ``x64``."""
    jax.config.update("jax_enable_x64", request.node.get_closest_marker("x64") is not None)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def compilations(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], int]]:
    """Counts what XLA compiles from here on."""
    jax.config.update("jax_log_compiles", True)
    caplog.set_level(logging.WARNING, logger="jax")
    yield lambda: sum("Finished XLA compilation" in r.getMessage() for r in caplog.records)
    jax.config.update("jax_log_compiles", False)


@pytest.fixture(autouse=True, scope="module")
def _forget_programs() -> Iterator[None]:
    """Every program takes memory maps, of which Linux grants a process 65,530 and then crashes."""
    yield
    jax.clear_caches()
