"""Two runs, compared by what they left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.runtime import run_directory as runs
from experiments.train import checkpoints

_TIMES = ("seconds",)  # of metrics.jsonl, which no two runs share


def unlike(one: Path, other: Path) -> list[str]:
    """In what two run directories differ, to the last bit; times apart."""
    found = []
    if not _same(_weights(one), _weights(other)):
        found.append("weights")
    if _lines(one) != _lines(other):
        found.append("metrics.jsonl")
    if not _same(_last_state(one), _last_state(other)):
        found.append("last checkpoint")
    return found


def farthest(one: Path, other: Path) -> float:
    """The largest difference between the weights of two runs, relative to the largest weight."""
    mine, others = _weights(one), _weights(other)
    return max(float(np.max(np.abs(mine[k] - others[k])) / np.max(np.abs(mine[k]))) for k in mine)


def _weights(run: Path) -> dict[str, np.ndarray]:
    pairs = enumerate(runs.read_weights(run), start=1)
    return {
        f"{name}{k}": np.asarray(v) for k, pair in pairs for name, v in zip("Wb", pair, strict=True)
    }


def _lines(run: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in _TIMES}
        for line in runs.read_metrics(run)
    ]


def _last_state(run: Path) -> dict[str, np.ndarray]:
    found, _ = checkpoints.newest(run / checkpoints.DIRECTORY)
    return checkpoints.contents(found) if found else {}


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[k].tobytes() == other[k].tobytes() and one[k].dtype == other[k].dtype for k in one
    )
