"""Options of ``evaluate`` and ``predict``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

FORMATS = (".csv", ".npz")


@dataclass(frozen=True)
class SamplesConfig:
    """The samples that the network is asked about."""

    file: Path | None = None
    """Npz file (x, or x_test; y, or y_test) or csv table of samples like those of the training, in
    the same units.  Without it the samples are the run's own."""

    split: Literal["train", "validation", "test"] = "test"
    """Which of the run's own samples."""

    def check(self) -> None:
        """Raises ValueError for a file that is not there."""
        if self.file is None:
            return
        if not self.file.is_file():
            raise ValueError(f"data.file is {self.file}, which is no file: give npz or csv.")
        if self.split != "test":
            raise ValueError(
                f"data.split is {self.split}, but data.file is given, whose samples are all taken: "
                "leave one out."
            )


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluates a trained network: mean loss, and accuracy or R^2."""

    run: tyro.conf.Positional[Path]
    """Run directory of train, or an npz file that Network.save of the library wrote."""

    data: SamplesConfig = field(default_factory=SamplesConfig)

    def check(self) -> None:
        """Raises ValueError for a network or samples that are not there."""
        _check_run(self.run, self.data)


@dataclass(frozen=True)
class PredictConfig:
    """Writes what a trained network says of samples: classes by name, or numbers in their units."""

    run: tyro.conf.Positional[Path]
    """Run directory of train, or an npz file that Network.save of the library wrote."""

    data: SamplesConfig = field(default_factory=SamplesConfig)

    out: Path = Path("predictions.csv")
    """File to write: csv, one line per sample, or npz, which has the outputs, too."""

    def check(self) -> None:
        """Raises ValueError for a network or samples that are not there, or another format."""
        _check_run(self.run, self.data)
        if self.out.suffix not in FORMATS:
            raise ValueError(f"out is {self.out}, but has to end in {' or '.join(FORMATS)}.")
        if not self.out.parent.is_dir():
            raise ValueError(f"out is {self.out}, but there is no directory {self.out.parent}.")


def _check_run(run: Path, data: SamplesConfig) -> None:
    data.check()
    if not run.exists():
        raise ValueError(f"run is {run}, which is not there: give a run directory of train.")
    if run.is_file() and data.file is None:
        raise ValueError(f"run is {run}, a network without samples of its own: give --data.file.")
