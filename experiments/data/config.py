"""What a user can ask of the dataset layer."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.data.catalogue import ENTRIES, Name
from experiments.data.dataset import DataError

PROTOCOLS = ("full", "paper")


@dataclass(frozen=True)
class DataConfig:
    """Which dataset, in which form, and where to find it."""

    name: Name = "digits"
    """Dataset; digits comes with the code, the others are looked up as said below."""

    file: Path | None = None
    """An npz file of your own instead: x_train, y_train, x_test, y_test, as in Keras's mnist.npz;
    samples uint8, uint16 or floats in [0, 1], labels whole numbers."""

    protocol: Literal["full", "paper"] = "full"
    """Everything at full resolution, or the reduced form used in the pdADMM paper."""

    prepared: Path | None = None
    """TFDS data directory to read from, and to prepare in: TFDS_DATA_DIR or ~/tensorflow_datasets
    if not given."""

    archives: Path | None = None
    """Directory of the dataset's original archives, used if it is not prepared yet."""

    validation: float = 0.1
    """Share of the training samples held out for validation."""

    limit: int | None = None
    """Train on this many samples only; validation and test are left as they are."""

    seed: int = 0
    """Chooses which samples are held out and which ones a limit keeps."""

    download: bool = True
    """Fetch archives that are found nowhere else."""

    @property
    def title(self) -> str:
        """What the dataset is called: a file goes by its name, as far as directories' names can."""
        if self.file is None:
            return self.name
        return re.sub(r"[^\w.-]+", "-", self.file.stem)[:60]

    def check(self) -> None:
        """Raises `DataError` if a field is out of range."""
        _one_of("name", self.name, tuple(ENTRIES))
        _one_of("protocol", self.protocol, PROTOCOLS)
        if self.file is not None:
            self._check_file(self.file)
        elif self.protocol == "paper" and ENTRIES[self.name].paper is None:
            raise DataError(f"protocol 'paper' is not defined for {self.name}: use 'full'")
        elif self.archives is not None and not ENTRIES[self.name].archives:
            raise DataError(
                f"archives is {self.archives}, but {self.name} comes with the code: leave it out, "
                "or name the dataset whose archives they are"
            )
        if not 0 <= self.validation < 1 or math.isnan(self.validation):
            raise DataError(f"validation is {self.validation}: give a share from 0 up to below 1")
        if self.limit is not None and self.limit < 1:
            raise DataError(f"limit is {self.limit}: give at least 1, or leave it out")
        if self.seed < 0:
            raise DataError(f"seed is {self.seed}: give 0 or more")

    def _check_file(self, file: Path) -> None:
        if not file.is_file():
            raise DataError(f"file is {file}, which is no file: give an npz file or leave it out")
        for name in ("name", "prepared", "archives"):
            if getattr(self, name) != getattr(DataConfig, name):
                raise DataError(f"{name} is {getattr(self, name)}, but file is given: use only one")


def _one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise DataError(f"{field} is {value!r}: choose one of {', '.join(choices)}")
