"""The command line: in this process, or in one of its own where only a process can show it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax

from experiments import __main__
from experiments.train import checkpoints

ROOT = Path(__file__).parents[1]

# What a process of its own is told beside the cache of compiled programs (conftest.py).
ALONE = {"JAX_NUM_CPU_DEVICES": "1", "PYTHONUNBUFFERED": "1"}


class Ended(NamedTuple):
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def run(*words: object) -> Ended:
    """Runs a command in this process, which has 16 devices."""
    out, err = io.StringIO(), io.StringIO()
    texts = [str(word) for word in words]
    with (
        mock.patch.object(sys, "argv", ["experiments", *texts]),  # is written down beside results
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        jax.numpy_dtype_promotion("standard"),  # Optax raises numbers to whole powers
    ):
        try:
            code = __main__.run(texts)
        except SystemExit as stop:  # --help
            code = int(stop.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def train(*words: object) -> int:
    """The exit code of ``train`` in this process."""
    return __main__.run(["train", *map(str, words)])


def finished(command: str, out: Path, *words: object, code: int = 0) -> tuple[str, Any]:
    """What a measuring command printed, and what it wrote."""
    ended = run(*command.split(), *words, "--out", out)
    assert ended.code == code, ended.err
    assert "cannot be drawn" not in ended.out
    (directory,) = out.iterdir()
    for name in ended.out.splitlines()[-1].split(": ")[1].split(", "):
        assert (directory / name).stat().st_size > 0
    return ended.out, json.loads((directory / f"{command.split()[-1]}.json").read_text())


def assert_refused(words: tuple[object, ...], complaint: str) -> None:
    """A user's mistake gets one line that says what is wrong, and exit code 2."""
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert complaint in line


Settings = Mapping[str, str | None]


def start(*words: object, settings: Settings = ALONE) -> subprocess.Popen[str]:
    """Starts ``python -m experiments`` in a process of its own, with one device."""
    environment = {**os.environ, **ALONE, **settings}
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *map(str, words)],
        cwd=ROOT,
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> Ended:
    """Waits for its end; a hang is a failure."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Ended(process.returncode, out, err)


def run_process(*words: object, settings: Settings = ALONE) -> Ended:
    """Runs a command in a process of its own, from start to end."""
    return finish(start(*words, settings=settings))


def await_line(process: subprocess.Popen[str], beginning: str) -> None:
    """Reads along until a line of the output begins so."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(finish(process).err)


# Ways of training, without the command around them.


def last_of(mode: Any, start: Any, iterations: int) -> Any:
    """Where a way of training has come to after so many iterations."""
    *_, chunk = mode.train(start, iterations)
    return chunk.end


def saved(mode: Any, start: Any, directory: Path) -> checkpoints.Found:
    """A checkpoint of it."""
    with checkpoints.writing(directory, keep=1) as writer:
        writer.save(start.iteration, *mode.checkpoint(start))
    found, _ = checkpoints.newest(directory)
    assert found is not None
    return found


class _Countdown(list):
    """A list of signals that has one as soon as it was looked at so many times."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def __len__(self) -> int:
        self.looks -= 1
        return int(self.looks < 0)


@contextlib.contextmanager
def stopping(looks: int) -> Iterator[list]:
    """Stands in for ``stop_requests``: a stop is asked for after so many looks."""
    yield _Countdown(looks)
