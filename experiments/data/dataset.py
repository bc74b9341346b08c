"""What the dataset layer hands around: samples as stored, a dataset as trained on, one error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the command line's options are parsed without the library, which takes a second
    from pdadmm_jax import Network, Params
    from pdadmm_jax.network import Scaling
    from pdadmm_jax.problems.problem import Problem


class DataError(ValueError):
    """A dataset that cannot be had as asked for.

    The message is kept on one line, whatever a library's own message looked like: it names the
    offending value and the way out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


class NotAtHand(DataError):
    """A dataset that is found nowhere, or that something which reads it is missing for."""


@dataclass(frozen=True)
class Images:
    """One split as its authors published it, in their order."""

    pixels: np.ndarray  # (N, height, width, channels), uint8 if published as images
    labels: Mapping[str, np.ndarray]  # kind of label -> (N,) integers

    def first(self, count: int | None) -> "Images":
        """Returns the first `count` images, or all of them."""
        return Images(self.pixels[:count], {kind: y[:count] for kind, y in self.labels.items()})

    def check(self, origin: str, shape: tuple[int, int, int], classes: Mapping[str, int]) -> None:
        """Raises `DataError` unless images and labels are those of the dataset.

        Args:
          origin: Where they came from, for the message.
          shape: Height, width and channels of every image.
          classes: Kind of label -> number of classes.
        """
        if self.pixels.shape[1:] != shape:
            raise DataError(f"{origin}: images of shape {self.pixels.shape[1:]}, expected {shape}")
        for kind, count in classes.items():
            labels = self.labels[kind]
            if len(labels) != len(self.pixels):
                raise DataError(f"{origin}: {len(self.pixels)} images but {len(labels)} {kind}s")
            outside = labels[(labels < 0) | (labels >= count)]
            if outside.size:
                raise DataError(f"{origin}: {kind} {outside[0]} is not in 0..{count - 1}")


Splits = Mapping[str, Images]  # "train" and "test"


@dataclass(frozen=True)
class Source:
    """Samples and targets as they were found, of which none is held out yet."""

    x: Mapping[str, np.ndarray]  # "train" and "test" -> (N, ...), as stored
    y: Mapping[str, np.ndarray]  # "train" and "test" -> (N,) int32 or (N, targets) floats
    labels: np.ndarray | None  # (C,), what the classes are called; None if the targets are numbers
    features: Callable[[np.ndarray], np.ndarray]  # of such x: (N, features) floats
    levels: int  # the stored value that stands for 1.0
    found: str  # one line: where
    columns: tuple[str, ...] | None = None  # names of the features, where a file has them


@dataclass(frozen=True)
class Dataset:
    """Arrays to train and evaluate on; every x is float32, standardised if that was asked for or is
    the default.

    Every y holds class numbers from 0 up, (N,) int32, or, for regression, (N, targets) float32.
    """

    name: str
    source: str  # one line: where the data came from
    x_train: np.ndarray  # (N, features)
    y_train: np.ndarray  # (N,) or (N, targets)
    x_validation: np.ndarray  # (M, features), M = 0 if nothing is held out
    y_validation: np.ndarray  # (M,) or (M, targets)
    x_test: np.ndarray  # (T, features)
    y_test: np.ndarray  # (T,) or (T, targets)
    labels: np.ndarray | None  # (C,), what the classes are called; None for regression
    levels: int = 1  # what stored values were divided by first
    columns: tuple[str, ...] | None = None  # names of the features, where a file has them
    x_scaling: Scaling | None = None  # what came last, by the training samples
    y_scaling: Scaling | None = None

    @property
    def regression(self) -> bool:
        """Whether the targets are numbers, not classes."""
        return self.labels is None

    @property
    def classes(self) -> int:
        """How many classes there are; raises `DataError` if the targets are numbers."""
        self.check_classes()
        return len(self.labels if self.labels is not None else ())

    @property
    def outputs(self) -> int:
        """How many numbers a network has to give for a sample."""
        return self.y_train.shape[1] if self.regression else self.classes

    def check_classes(self) -> None:
        """Raises `DataError` if the targets are numbers, which have no accuracy."""
        if self.regression:
            raise DataError(
                f"the targets of {self.name} are numbers, but this command measures accuracies:"
                " use train, or --data.task classification if they are classes"
            )

    def network(self, params: Params, config: Problem) -> Network:
        """Returns the network of trained weights, with what samples and answers mean here."""
        from pdadmm_jax import Network

        names = None if self.labels is None else tuple(self.labels.tolist())
        return Network.of(
            params, config, inputs=self.x_scaling, targets=self.y_scaling, classes=names
        )
