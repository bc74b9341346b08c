"""What JAX and XLA are told by the environment and refuse: a line instead of a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from experiments.runtime.errors import UsageError

# The modules of JAX that read its settings and look for devices.
_SETTINGS, _DEVICES = "jax._src.config", "jax._src.xla_bridge"
_ADVICE = re.compile(r" \((set|you may need) .*\)$")  # of JAX, as if no variable were set
_CHOOSING_DEVICES = (
    *("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_NUM_CPU_DEVICES"),
    *("JAX_CUDA_VISIBLE_DEVICES", "JAX_ROCM_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
)


@contextmanager
def jax_refusals() -> Iterator[None]:
    """Turns the errors by which JAX refuses its environment into ``UsageError``.

    They come when it is imported or when devices are first asked for, of many kinds and from few
    places, by which they are known.  Any other error passes.
    """
    try:
        yield
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        places = {frame.f_globals.get("__name__") for frame, _ in frames}
        reason = _ADVICE.sub("", " ".join(str(error).split())).rstrip(".")
        if _SETTINGS in places and (given := _shown(_mentioned(reason))):
            raise UsageError(
                f"JAX does not start with {given} ({reason}): correct or unset it."
            ) from error
        if _DEVICES in places and _SETTINGS not in places:
            raise UsageError(_without_devices(reason)) from error
        raise


def check_xla_flags() -> None:
    """Refuses flags that XLA would end the process for, by asking it in another one.

    Raises:
        UsageError: with what XLA says.
    """
    if "XLA_FLAGS" not in os.environ or "jax" in sys.modules:  # they hold already
        return
    asking = "from jaxlib import xla_client; xla_client.CompileOptions()"
    done = subprocess.run(
        [sys.executable, "-c", asking], capture_output=True, text=True, check=False
    )
    said = re.findall(r"^[EF]\d.*?\] (?!Check failed)(.*)", done.stderr, re.MULTILINE)
    if done.returncode and said:
        raise UsageError(
            f"XLA does not start with {_shown(['XLA_FLAGS'])} ({' '.join(said)}): correct or "
            "unset it."
        )


def _without_devices(reason: str) -> str:
    given = _shown(name for name in _CHOOSING_DEVICES if name in os.environ)
    ways = ["correct or unset it"] if given else []
    if "backend 'cpu'" not in reason:  # which JAX would have found
        ways.append("set JAX_PLATFORMS=cpu to compute on the CPU")
    said = f"JAX finds no devices{f' with {given}' if given else ''}"
    said += f" ({reason})" if reason else ""
    return f"{said}: {', or '.join(ways)}." if ways else f"{said}."


def _mentioned(reason: str) -> list[str]:
    """The variables of JAX that are set and that a message is about: if none is named, all."""
    given = [name for name in os.environ if name.startswith("JAX_")]
    named = [name for name in given if name.removeprefix("JAX_").lower() in reason.lower()]
    return named or given


def _shown(names: Iterator[str] | list[str]) -> str:
    return " ".join(f"{name}={os.environ[name]}" for name in names)
