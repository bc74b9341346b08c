"""A user's own data set: one npz file, with the arrays that Keras has in its mnist.npz.

    x_train, x_test  samples: (N, height, width), (N, height, width, channels) or (N, features);
                     uint8 or uint16, whose largest value stands for 1, or booleans or floats, which
                     are in [0, 1] already
    y_train, y_test  labels: (N,) or (N, 1), whole numbers from 0 up; those in y_train are the
                     classes, in ascending order

Other arrays are left alone. Booleans named x_train_... or x_test_... with one entry per sample mark
some of them; how many is said with the source of the data.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.data.catalogue import Entry
from experiments.data.dataset import DataError, Images, Splits
from experiments.data.protocol import Selection
from experiments.runtime.npz_files import read_npz

SPLITS = ("train", "test")
LEVELS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65_535}  # 1 for all others


def read(path: Path) -> tuple[Entry, Splits, str]:
    """Reads a file of the user's.

    Returns:
      What is particular to the data set, its samples, and a line that says where they are from.

    Raises:
      DataError: It is not what the text above describes.
    """
    arrays = _arrays(path)
    x = {split: _samples(f"{path}: x_{split}", arrays[f"x_{split}"]) for split in SPLITS}
    y = {split: _labels(f"{path}: y_{split}", arrays[f"y_{split}"]) for split in SPLITS}
    if x["test"].dtype != x["train"].dtype:
        raise DataError(f"{path}: x_train is {x['train'].dtype}, but x_test {x['test'].dtype}")
    classes = np.unique(y["train"])
    if len(classes) < 2:
        raise DataError(f"{path}: y_train is {classes[0]} throughout, but 2 classes are needed")
    if (unknown := np.setdiff1d(y["test"], classes)).size:
        raise DataError(f"{path}: y_test has {unknown[0]}, which y_train has not")
    splits = {
        split: Images(x[split], {"label": np.searchsorted(classes, y[split])}) for split in SPLITS
    }
    entry = Entry(
        archives=(),
        parse=lambda _: splits,
        shape=x["train"].shape[1:],
        sizes={split: len(x[split]) for split in SPLITS},
        classes={"label": len(classes)},
        paper=Selection(halve=True),
        levels=LEVELS.get(x["train"].dtype, 1),
    )
    return entry, entry.checked(splits, str(path)), ", ".join((str(path), *_marks(arrays, x)))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = read_npz(path)
    except ValueError as error:
        raise DataError(str(error)) from None
    needed = [f"{kind}_{split}" for split in SPLITS for kind in "xy"]
    if missing := [name for name in needed if name not in arrays]:
        raise DataError(
            f"{path} lacks {', '.join(missing)}: give {', '.join(needed)}; it has "
            f"{', '.join(arrays) or 'no arrays'}"
        )
    return arrays


def _samples(what: str, x: np.ndarray) -> np.ndarray:
    """Checks samples and returns them as (N, height, width, channels)."""
    if not 2 <= x.ndim <= 4 or not x.size:
        raise DataError(
            f"{what} has the shape {x.shape}: give (N, features), (N, height, width) or (N, height,"
            " width, channels), none of them 0"
        )
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    if x.dtype not in LEVELS and x.dtype.kind not in "bf":
        raise DataError(f"{what} is {x.dtype}: give uint8, uint16, or floats from 0 to 1")
    if x.dtype.kind == "f":
        if not np.isfinite(x).all():
            raise DataError(f"{what} has values that are not finite")
        if x.min() < 0 or x.max() > 1:
            raise DataError(f"{what} reaches from {x.min():g} to {x.max():g}: scale it to [0, 1]")
    if x.ndim == 2:
        return x[:, np.newaxis, :, np.newaxis]
    return x if x.ndim == 4 else x[..., np.newaxis]


def _labels(what: str, y: np.ndarray) -> np.ndarray:
    """Checks labels and returns them as (N,)."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or not y.size:
        raise DataError(f"{what} has the shape {y.shape}: give (N,), and N above 0")
    if y.dtype.kind not in "iu":
        raise DataError(f"{what} is {y.dtype}: give whole numbers")
    if y.min() < 0:
        raise DataError(f"{what} has {y.min()}: give labels from 0 up")
    return y


def _marks(arrays: Mapping[str, np.ndarray], x: Mapping[str, np.ndarray]) -> list[str]:
    """How many samples every array of marks marks."""
    return [
        f"{name} marks {np.count_nonzero(marks):,} of {len(x[split]):,}"
        for split in SPLITS
        for name, marks in arrays.items()
        if name.startswith(f"x_{split}_")
        and marks.dtype == bool
        and marks.shape == (len(x[split]),)
    ]
