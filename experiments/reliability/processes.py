"""Small runs as processes of their own, to be killed, stopped and gone on with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

SMALL = (
    *("train", "--network.hidden", "16", "16", "--data.limit", "200", "--refresh-every", "20"),
    *("--evaluate-every", "5", "--checkpoint.every", "5", "--growth.at", "60"),
    *("--growth.layers", "2"),
)


class Done(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str
    seconds: float


def start(*words: object, devices: int = 1) -> subprocess.Popen[str]:
    """Starts ``python -m experiments``."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *map(str, words)],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 600) -> Done:
    """Waits for its end; a hang is killed, and shows as code -9."""
    begin = time.monotonic()
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return Done(process.returncode, out, err, time.monotonic() - begin)


def run(*words: object, devices: int = 1) -> Done:
    """From start to end."""
    return finish(start(*words, devices=devices))


def await_begin(process: subprocess.Popen[str]) -> bool:
    """Reads along until the run directory is there; False if the process ended before."""
    assert process.stdout is not None
    return any(line.startswith("network ") for line in process.stdout)


def await_iteration(process: subprocess.Popen[str], number: int = 1) -> bool:
    """Reads along until an iteration is reported; False if the process ended before."""
    assert process.stdout is not None
    for line in process.stdout:
        words = line.partition("/")[0].split()
        if words[:1] == ["iteration"] and int(words[1]) >= number:
            return True
    return False


def directory_in(out: Path) -> Path:
    """The one run directory there."""
    (path,) = (path for path in out.iterdir() if path.is_dir())
    return path


def saving(directory: Path) -> bool:
    """Whether there is a checkpoint that has been begun and not sealed."""
    paths = (directory / "checkpoints").glob("[0-9]*")
    return any(not (path / "manifest.json").exists() for path in paths if "." not in path.name)
