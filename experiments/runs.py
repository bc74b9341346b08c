"""The run directory: what was asked, what happened, what came out."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NotRequired

import jax
import numpy as np
from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

import pdadmm_jax as pdadmm
from experiments.arrays import read_npz
from experiments.documents import checked_json
from experiments.training import Chunk

METRICS = "metrics.jsonl"


def create(out: Path, name: str, config: Any) -> Path:
    """Makes ``<out>/<date>-<time>-<name>`` and writes config.json into it.

    Raises:
        OSError: it cannot be made or written to.
    """
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    content = {"config": dataclasses.asdict(config), "environment": environment()}
    try:
        names = (f"{stem}-{k}" if k else stem for k in itertools.count())
        path = next(out / name for name in names if _made(out / name))
        write_json(path / "config.json", content)
    except OSError as error:
        raise OSError(
            f"cannot make a run directory in {out} ({error.strerror}): choose another with --out."
        ) from error
    return path


def _made(path: Path) -> bool:
    """Makes a directory; False if another run did so within the same second."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def append_metrics(path: Path, chunk: Chunk) -> None:
    """Adds a line per iteration to metrics.jsonl; the last of a chunk has its evaluation."""
    with (path / METRICS).open("a") as file:
        file.writelines(to_json(line) + "\n" for line in metric_lines(chunk))


class _MetricLine(TypedDict):
    """What every line of metrics.jsonl has; one with an evaluation has more."""

    __pydantic_config__ = ConfigDict(extra="allow")  # pyright: ignore[reportGeneralTypeIssues]

    iteration: int
    layers: int
    lagrangian: float | None
    objective: float | None
    residual: float | None
    residual_per_boundary: list[float | None]
    finite: bool
    converged: bool
    train_loss: NotRequired[float | None]
    train_accuracy: NotRequired[float | None]
    validation_loss: NotRequired[float | None]
    validation_accuracy: NotRequired[float | None]


_METRIC_LINE = TypeAdapter(_MetricLine)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl.

    Raises:
        ValueError: one of them is damaged.
    """
    lines = (path / METRICS).read_bytes().splitlines()
    return [
        dict(checked_json(line, _METRIC_LINE, f"{path / METRICS}, line {number},"))
        for number, line in enumerate(lines, start=1)
    ]


def metric_lines(chunk: Chunk) -> list[dict[str, Any]]:
    """One flat record per iteration, ready for JSON."""
    info = chunk.info
    length = len(info.finite)
    lines = [
        {
            "iteration": chunk.iteration - length + 1 + i,
            "layers": chunk.layers,
            "lagrangian": float(info.lagrangian[i]),
            "objective": float(info.terms.objective[i]),
            **{name: float(values[i]) for name, values in info.terms._asdict().items()},
            "residual": float(np.sum(np.square(info.primal_residual[i], dtype=np.float64))),
            "residual_per_boundary": [float(r) for r in info.primal_residual[i]],
            "largest_tau": float(info.tau[i].max()),
            "largest_theta": float(info.theta[i].max()),
            "finite": bool(info.finite[i]),
            "converged": bool(info.converged[i].all()),
            "in_certified_region": bool(info.in_certified_region[i]),
        }
        for i in range(length)
    ]
    lines[-1] |= {
        "seconds": chunk.seconds,
        "train_loss": chunk.train[0],
        "train_accuracy": chunk.train[1],
    }
    if chunk.drift is not None:
        lines[-1]["drift"] = chunk.drift
    if chunk.validation:
        loss, accuracy = chunk.validation
        lines[-1] |= {"validation_loss": loss, "validation_accuracy": accuracy}
    return lines


def write_weights(path: Path, params: pdadmm.Params) -> None:
    """Writes W1, b1, W2, ... to weights.npz: plain arrays, readable without pickle."""
    arrays = {}
    for layer, (W, b) in enumerate(params, start=1):
        arrays |= {f"W{layer}": np.asarray(W), f"b{layer}": np.asarray(b)}
    with replacing(path / "weights.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_weights(path: Path) -> pdadmm.Params:
    """The weights of weights.npz, from input to output.

    Raises:
        ValueError: they are not those of a network.
    """
    file = path / "weights.npz"
    arrays = read_npz(file)
    depth = max(len(arrays) // 2, 1)
    names = [f"{kind}{layer}" for layer in range(1, depth + 1) for kind in "Wb"]
    if sorted(arrays) != sorted(names):
        raise ValueError(f"{file} has {', '.join(arrays) or 'no arrays'}, not W1, b1, W2, ...")
    if odd := [name for name in names if arrays[name].dtype.kind != "f"]:
        raise ValueError(f"{file}: {odd[0]} is {arrays[odd[0]].dtype}, but has to be floating")
    params = [(arrays[f"W{layer}"], arrays[f"b{layer}"]) for layer in range(1, depth + 1)]
    n_in = params[0][0].shape[:1]
    for layer, (W, b) in enumerate(params, start=1):
        if W.ndim != 2 or W.shape[:1] != n_in or b.shape != W.shape[1:]:
            raise ValueError(
                f"{file}: W{layer} and b{layer} have the shapes {W.shape} and {b.shape}, which do "
                "not fit each other or the layer below"
            )
        n_in = b.shape
    return params


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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to that takes the place of ``path`` once all is written."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
