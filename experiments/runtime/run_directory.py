"""The run directory: what was asked, what happened, what came out."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import itertools
import json
import math
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NotRequired

import jax
from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

import pdadmm_jax as pdadmm
from experiments.runtime.errors import UsageError
from experiments.runtime.json_files import checked_json, read_json
from pdadmm_jax._files import replacing

CONFIG = "config.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
WEIGHTS = "weights.npz"


def create(out: Path, name: str, config: Any) -> Path:
    """Makes ``<out>/<date>-<time>-<name>`` and writes config.json into it.

    Raises:
        OSError: it cannot be made or written to; nothing is left of it.
    """
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    content = _config_content(config)  # first, for JAX may have no devices
    try:
        names = (f"{stem}-{k}" if k else stem for k in itertools.count())
        path = next(out / name for name in names if _made(out / name))
        try:
            write_json(path / CONFIG, content)
        except OSError:
            shutil.rmtree(path)
            raise
    except OSError as error:
        raise OSError(
            f"cannot make a run directory in {out} ({error.strerror}): choose another with --out."
        ) from error
    return path


def write_config(path: Path, config: Any) -> None:
    """Writes config.json: what was asked for, and of which hardware and versions."""
    write_json(path / CONFIG, _config_content(config))


def _config_content(config: Any) -> dict[str, Any]:
    return {"config": dataclasses.asdict(config), "environment": environment()}


def _made(path: Path) -> bool:
    """Makes a directory; False if another run did so within the same second."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        if not path.exists():  # but something above it, such as a link to nowhere
            raise
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps a run directory to this process.

    The lock is the operating system's, on the directory itself: it leaves no file, and goes with
    the process that holds it, however that ends.  A file system without locks, or without those on
    directories, gets a warning: whoever resumes a run there has to know that nobody else does.

    Raises:
        ValueError: another process has it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ValueError(
            f"another process is at work in {path}: wait until it has ended, or end it."
        ) from error
    except OSError as error:
        print(
            f"warning: the file system of {path} has no locks ({error.strerror}): nothing keeps a "
            "second process from resuming this run while it goes on",
            file=sys.stderr,
        )
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Tells in one line why a run directory cannot be written to, and how to resume.

    Raises:
        UsageError: in place of the operating system's error.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write to {path} ({error.strerror}): make room or writable, and resume with "
            f"--resume {path}; what was saved so far is whole."
        ) from error


class Metrics:
    """metrics.jsonl, a line for every iteration."""

    def __init__(self, run: Path) -> None:
        """Takes the file as it is, to append to.

        Args:
            run: the run directory.
        """
        self._path = run / METRICS
        text = self._path.read_bytes() if self._path.exists() else b""
        self._size, self._digest = len(text), hashlib.sha256(text)

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Adds lines."""
        text = "".join(to_json(line) + "\n" for line in lines).encode()
        with self._path.open("ab") as file:
            file.write(text)
        self._size += len(text)
        self._digest.update(text)

    def mark(self) -> dict[str, Any]:
        """What ``cut_back`` needs to find back to here, once all of it has reached the disk."""
        if self._path.exists():
            with self._path.open("rb") as file:
                os.fsync(file.fileno())
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}


def cut_back(run: Path, mark: dict[str, Any] | None) -> str | None:
    """Drops the lines of metrics.jsonl after a mark, or all of them.

    Returns:
        What is wrong with those before it, if anything; then the file is set aside and begins
        anew, for numbers that cannot be trusted are no ground to lose a run on.
    """
    path, size = run / METRICS, mark["bytes"] if mark else 0
    if not path.exists():
        return f"{path} is missing and begins anew" if size else None
    with path.open("rb") as file:
        whole = mark is None or hashlib.sha256(file.read(size)).hexdigest() == mark["sha256"]
    if whole:
        os.truncate(path, size)
        return None
    aside = path.with_name(f"{METRICS}.damaged")
    path.replace(aside)
    return f"{path} is not what was written: it is now {aside.name} and begins anew"


class _Line(TypedDict):
    """What every line of metrics.jsonl has; one with an evaluation has more."""

    __pydantic_config__ = ConfigDict(extra="allow")  # pyright: ignore[reportGeneralTypeIssues]

    iteration: int
    layers: int
    finite: bool
    converged: bool
    train_loss: NotRequired[float | None]
    train_accuracy: NotRequired[float | None]
    train_r2: NotRequired[float | None]
    validation_loss: NotRequired[float | None]
    validation_accuracy: NotRequired[float | None]
    validation_r2: NotRequired[float | None]


class _FullBatchLine(_Line):
    lagrangian: float | None
    objective: float | None
    residual: float | None
    residual_per_boundary: list[float | None]


class _SweepsLine(_Line):
    loss: float | None


_LINE = TypeAdapter(_FullBatchLine | _SweepsLine)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; none if there is no such file.

    Raises:
        ValueError: one of them is damaged.
    """
    file = path / METRICS
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [
        dict(checked_json(line, _LINE, f"{file}, line {number},"))
        for number, line in enumerate(lines, start=1)
    ]


class Summary(TypedDict):
    """What summary.json has at least."""

    __pydantic_config__ = ConfigDict(extra="allow")  # pyright: ignore[reportGeneralTypeIssues]

    iterations: int


_SUMMARY = TypeAdapter(Summary)


def read_summary(path: Path) -> Summary:
    """What a run came to, from the summary.json in its directory.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is damaged.
    """
    return read_json(path / SUMMARY, _SUMMARY)


def write_weights(path: Path, network: pdadmm.Network) -> None:
    """Writes the network to weights.npz, readable without pickle and by ``pdadmm_jax.load``."""
    network.save(path / WEIGHTS)


def read_weights(path: Path) -> pdadmm.Network:
    """The network of weights.npz.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    return pdadmm.load(path / WEIGHTS)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file."""
    with replacing(path) as temporary:
        temporary.write_text(to_json(content, indent=2) + "\n")


def to_json(content: Any, **options: Any) -> str:
    """JSON proper, which knows no NaN: numbers that are not finite become null."""

    def proper(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: proper(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [proper(entry) for entry in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(proper(content), allow_nan=False, default=str, **options)


def environment() -> dict[str, str]:
    """Hardware and versions, for whoever reads the numbers later."""
    devices = jax.devices()
    return {
        "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "cores": str(os.cpu_count()),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "pdadmm_jax": pdadmm.__version__,
    }
