"""``python -m experiments soak``: many iterations, and what grows meanwhile."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.reliability.config import SoakConfig
from experiments.reliability.processes import directory_in, start
from experiments.report.measurement import Measurement, table
from experiments.runtime import run_directory as runs
from experiments.study.course import ROUNDING

MOST_GROWTH = 0.05  # of memory, from the first fifth of a run to the end
MOST_DRIFT = 1e-4  # of p W + b between two refreshes, relative to its largest entry

_RUN = (
    *("train", "--network.hidden", "32", "32", "32", "--data.limit", "400"),
    *("--method.certified", "--checkpoint.every", "100", "--evaluate-every", "20"),
)


class Soaked(NamedTuple):
    """What was seen of a run.

    Attributes:
        iterations: how many there were.
        seconds: how long it took.
        memory: megabytes resident after a fifth of it, at the end, and at most in between.
        rise: largest rise of the Lagrangian in an iteration, relative to its first value.
        drift: largest relative error that p W + b had before it was computed anew.
    """

    iterations: int
    seconds: float
    memory: tuple[float, float, float]
    rise: float
    drift: float

    @property
    def growth(self) -> float:
        """Of memory, relative."""
        begin, _, most = self.memory
        return most / begin - 1


def main(config: SoakConfig) -> int:
    """Trains and watches; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    measurement = Measurement("soak", config)
    found = soaked(measurement.directory / "runs", config.iterations)
    shutil.rmtree(measurement.directory / "runs")
    wrong = wrong_with(found)
    measurement.show(_table(found))
    for text in wrong:
        measurement.show(f"error: {text}")
    measurement.save(found._asdict())
    return 1 if wrong else 0


def soaked(out: Path, iterations: int) -> Soaked:
    """Trains in a process of its own, whose memory is looked at from outside."""
    begin = time.monotonic()
    process = start(*_RUN, "--iterations", iterations, "--out", out)
    assert process.stdout is not None
    samples: list[tuple[int, float]] = []
    for line in process.stdout:
        if line.startswith("iteration "):
            samples.append((int(line.partition("/")[0].split()[1]), _resident(process.pid)))
    _, err = process.communicate()
    if process.returncode:
        raise RuntimeError(err)
    lines = runs.read_metrics(directory_in(out))
    lagrangian = np.asarray([line["lagrangian"] for line in lines], float)
    # What is allocated once, as for the first checkpoint, is there after a fifth of the run.
    later = [megabytes for iteration, megabytes in samples[:-1] if iteration >= iterations / 5]
    return Soaked(
        iterations=len(lines),
        seconds=time.monotonic() - begin,
        memory=(later[0], later[-1], max(later)),
        rise=float(np.max(np.diff(lagrangian))) / lagrangian[0],
        drift=max(line["drift"] for line in lines if "drift" in line),
    )


def wrong_with(found: Soaked) -> list[str]:
    """What should not have been seen."""
    wrong = []
    if found.growth > MOST_GROWTH:
        wrong.append(f"memory grew by {found.growth:.1%}")
    if found.rise > ROUNDING["float32"]:
        wrong.append(f"the Lagrangian rose by {found.rise:.1e} of its first value")
    if found.drift > MOST_DRIFT:
        wrong.append(f"p W + b drifted by {found.drift:.1e}")
    return wrong


def _resident(process: int) -> float:
    """Megabytes that a process has in memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _table(found: Soaked) -> Any:
    made = table("", "")
    begin, end, most = found.memory
    made.add_row("iterations", f"{found.iterations:,}")
    made.add_row("seconds", f"{found.seconds:.0f}")
    made.add_row(
        "memory after a fifth, at the end, at most, MB", f"{begin:.0f}, {end:.0f}, {most:.0f}"
    )
    made.add_row("growth of memory", f"{found.growth:.1%}")
    made.add_row("largest rise of the Lagrangian over its first value", f"{found.rise:.1e}")
    made.add_row("largest drift of p W + b", f"{found.drift:.1e}")
    return made
