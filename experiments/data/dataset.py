"""What the dataset layer hands around: images as stored, a dataset as trained on, one error."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


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
class Dataset:
    """Arrays to train and evaluate on; every x is float32 in [0, 1], every y int32 from 0 up."""

    name: str
    classes: int
    source: str  # one line: where the data came from
    x_train: np.ndarray  # (N, features)
    y_train: np.ndarray  # (N,)
    x_validation: np.ndarray  # (M, features), M = 0 if nothing is held out
    y_validation: np.ndarray  # (M,)
    x_test: np.ndarray  # (T, features)
    y_test: np.ndarray  # (T,)
