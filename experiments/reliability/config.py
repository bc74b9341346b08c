"""What the commands that try reliability can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.options.checks import check_counts


@dataclass(frozen=True)
class CrashConfig:
    """Kills a small run at random moments, goes on with it, and compares it with one left alone.

    Moments are spread from the first iteration to the end of the process, saves and the last
    files included, and one in ten lies before; the seed chooses them.
    """

    kills: int = 100
    """How many runs are killed."""

    seed: int = 0
    """Chooses the moments."""

    parallel: int = 2
    """Runs at the same time."""

    iterations: int = 200
    """Length of a run, in iterations; every fifth saves."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for numbers that leave nothing to try."""
        check_counts(self, least={"iterations": 20, "seed": 0})


@dataclass(frozen=True)
class DamageConfig:
    """Damages the files of a checkpoint, fills the disk, and looks at what a run makes of it."""

    bits: int = 20
    """Bits flipped in every file, one at a time."""

    seed: int = 0
    """Chooses the bits."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for numbers that leave nothing to try."""
        check_counts(self, least={"seed": 0})


@dataclass(frozen=True)
class RanksConfig:
    """Kills, stops and delays each process of a run in turn, while it trains and while it saves.

    All have to be out in time with a reason, or unharmed by a delay, and the run that goes on has
    to end like one left alone.
    """

    processes: tuple[int, ...] = (2, 4)
    """Numbers of processes to try."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for numbers that make no cluster."""
        if not self.processes or min(self.processes) < 2:
            raise ValueError("processes has to name numbers of 2 or more.")


@dataclass(frozen=True)
class SoakConfig:
    """Trains a small network for long, and watches memory, descent and rounding."""

    iterations: int = 20_000
    """How many iterations."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for too few iterations to see anything."""
        check_counts(self, least={"iterations": 1000})
