"""Run directories: looked at, compared, cut short and damaged."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runtime import run_directory as runs
from experiments.train import checkpoints

_TIMES = ("seconds",)  # of metrics.jsonl, which no two runs share


def directory_in(out: Path) -> Path:
    """The one run directory there."""
    (path,) = (path for path in out.iterdir() if path.is_dir())
    return path


def lines_of(run: Path) -> list[dict[str, Any]]:
    """What a run wrote about its iterations."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def unlike(one: Path, other: Path) -> list[str]:
    """In what two run directories differ, to the last bit; times apart."""
    found = []
    if not _same(_weights(one), _weights(other)):
        found.append("weights")
    if _without_times(one) != _without_times(other):
        found.append("metrics.jsonl")
    if not _same(_last_state(one), _last_state(other)):
        found.append("last checkpoint")
    return found


def farthest(one: Path, other: Path) -> float:
    """The largest difference between the weights of two runs, relative to the largest weight."""
    mine, others = _weights(one), _weights(other)
    return max(float(np.max(np.abs(mine[k] - others[k])) / np.max(np.abs(mine[k]))) for k in mine)


def cut_off(whole: Path, run: Path, after: int) -> Path:
    """A copy of a run as it would be, killed some iterations after a checkpoint was sealed."""
    shutil.copytree(whole, run)
    for number, path in checkpoints.sealed(run / checkpoints.DIRECTORY):
        if number > after:
            shutil.rmtree(path)
    for name in ("summary.json", "weights.npz", "training.png", "output.json"):
        (run / name).unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[: after + 3]) + lines[after + 3][:40])
    return run


def flip(file: Path, chosen: random.Random) -> None:
    """Flips one bit of a file."""
    content = bytearray(file.read_bytes())
    content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
    file.write_bytes(content)


def assert_damage_is_found(directory: Path, bits: int, chosen: random.Random) -> None:
    """Damages every file of the newest checkpoint in every way, one at a time.

    The damage has to be found and named, and the checkpoint before it taken.
    """
    (_, before), (_, newest) = checkpoints.sealed(directory)[-2:]
    ways = {
        "a flipped bit": lambda file: flip(file, chosen),
        "a truncated file": lambda file: os.truncate(file, chosen.randrange(file.stat().st_size)),
        "an emptied file": lambda file: os.truncate(file, 0),
        "a missing file": lambda file: file.unlink(),
    }
    files = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 1
    for file in files:
        original = file.read_bytes()
        for name, way in ways.items():
            for _ in range(bits if name == "a flipped bit" else 1):
                way(file)
                good, complaints = checkpoints.newest(directory)
                # One without its manifest never was finished, which is nothing to complain about.
                unsealed = file.name == "manifest.json" and not file.exists()
                assert good is not None, (name, file)
                assert good.path == before, (name, file)
                assert unsealed or any(file.name in one for one in complaints), (name, file)
                file.write_bytes(original)


def _weights(run: Path) -> dict[str, np.ndarray]:
    pairs = enumerate(runs.read_weights(run).weights, start=1)
    return {
        f"{name}{k}": np.asarray(v) for k, pair in pairs for name, v in zip("Wb", pair, strict=True)
    }


def _without_times(run: Path) -> list[dict[str, Any]]:
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
