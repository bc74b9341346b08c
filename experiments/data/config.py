"""What a user can ask of the dataset layer."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import tyro

from experiments.data.catalogue import ENTRIES, Name
from experiments.data.dataset import DataError

PROTOCOLS = ("full", "paper")
Task = Literal["classification", "regression"]
OF_A_FILE = ("test_file", "test", "task")  # options


@dataclass(frozen=True)
class DataConfig:
    """Which dataset, in which form, and where to find it."""

    name: Name = "digits"
    """Dataset; digits comes with the code, the others are looked up as said below."""

    file: Path | None = None
    """A file of your own instead.  An npz file: x_train, y_train, x_test, y_test, as in Keras's
    mnist.npz.  A csv file: targets in the column y, label or target, else in the last one.  Targets
    that are whole numbers or texts are classes, other numbers are learnt by regression."""

    test_file: Path | None = None
    """Another file of your own, with the test samples."""

    test: float | None = None
    """Share of the samples that are set aside for the test where a file has no test samples; 0.2
    if not given."""

    task: Task | None = None
    """What the targets of a file are, if not what they look like: classes, or numbers."""

    protocol: Literal["full", "paper"] = "full"
    """Everything at full resolution, or the reduced form used in the pdADMM paper."""

    prepared: Path | None = None
    """TFDS data directory to read from, and to prepare in: TFDS_DATA_DIR or ~/tensorflow_datasets
    if not given."""

    archives: Path | None = None
    """Directory of the dataset's original archives, or one with a folder of its name for them."""

    validation: float = 0.1
    """Share of the training samples held out for validation."""

    limit: int | None = None
    """Train on this many samples only; validation and test are left as they are."""

    standardise: tyro.conf.DisallowNone[bool | None] = None
    """Give every feature, and every target of a regression, mean 0 and standard deviation 1 over
    the training samples; by default for a regression, not for classes."""

    seed: int = 0
    """Chooses which samples are held out or set aside, and which ones a limit keeps."""

    download: bool = True
    """Fetch archives that are found nowhere else."""

    @property
    def test_share(self) -> float:
        """The share of a file's samples to set aside."""
        return 0.2 if self.test is None else self.test

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
        else:
            self._check_published()
        if not 0 <= self.validation < 1 or math.isnan(self.validation):
            raise DataError(f"validation is {self.validation}: give a share from 0 up to below 1")
        if self.limit is not None and self.limit < 1:
            raise DataError(f"limit is {self.limit}: give at least 1, or leave it out")
        if self.seed < 0:
            raise DataError(f"seed is {self.seed}: give 0 or more")

    def _check_file(self, file: Path) -> None:
        for option, path in (("file", file), ("test_file", self.test_file)):
            if path is not None and not path.is_file():
                raise DataError(
                    f"{option} is {path}, which is no file: give an npz or csv file, or none"
                )
        for name in ("name", "prepared", "archives"):
            if getattr(self, name) != getattr(DataConfig, name):
                raise DataError(f"{name} is {getattr(self, name)}, but file is given: use only one")
        if self.task is not None:
            _one_of("task", self.task, get_args(Task))
        if not 0 < self.test_share < 1:
            raise DataError(f"test is {self.test}: give a share above 0 and below 1")

    def _check_published(self) -> None:
        entry = ENTRIES[self.name]
        if self.protocol == "paper" and entry.paper is None:
            raise DataError(f"protocol 'paper' is not defined for {self.name}: use 'full'")
        for option in OF_A_FILE:
            if (value := getattr(self, option)) is not None:
                raise DataError(f"{option} is {value}, but file is not given: give both or neither")
        for option, path in (("archives", self.archives), ("prepared", self.prepared)):
            if path is not None and not entry.archives:
                raise DataError(
                    f"{option} is {path}, but {self.name} comes with the code: leave it out, or"
                    " name another dataset"
                )


def _one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise DataError(f"{field} is {value!r}: choose one of {', '.join(choices)}")
