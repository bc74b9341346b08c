"""A user's own data set: arrays in an npz file, or a table in a csv file (see `tables`).

    x_train, x_test  samples: (N, height, width), (N, height, width, channels), (N, features) or
                     (N,); uint8 or uint16, whose largest value stands for 1, or any other real
                     numbers, taken as they are
    y_train, y_test  targets: whole numbers, booleans or texts are classes, (N,) or (N, 1), numbered
                     in ascending order; floats are numbers to be met, (N,) or (N, targets)

x and y alone stand for the training samples, or, in a test file, for the test samples. Where there
are no test samples, a share of the others is set aside for them.

Other arrays are left alone. Booleans named x_train_... or x_test_... with one entry per sample mark
some of them; how many is said with the source of the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from experiments.data import targets
from experiments.data.config import DataConfig
from experiments.data.dataset import DataError, Source
from experiments.data.protocol import features
from experiments.data.tables import Layout, read_csv

SPLITS = ("train", "test")
LEVELS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65_535}  # 1 for all others
TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class Part:
    """Samples of one split."""

    x: np.ndarray  # (N, height, width, channels)
    y: np.ndarray  # as given; (0,) without targets, which only a trained network's may be
    x_name: str  # what to call x, with the file
    y_name: str
    layout: Layout | None = None  # of a table
    marks: tuple[str, ...] = ()  # how many samples are marked


def read(config: DataConfig) -> Source:
    """Reads the file of the user's, and the one of test samples if there is one.

    Raises:
      DataError: They are not what the text above describes.
    """
    assert config.file is not None
    parts = _parts(config.file, config)
    found = [str(config.file)]
    if config.test_file is not None:
        (test,) = _parts(config.test_file, config, like=parts["train"]).values()
        parts["test"] = test
        found.append(f"test samples of {config.test_file}")
    train = parts["train"]
    if "test" in parts:
        _check_alike(train, parts["test"])
        if config.test is not None:
            raise DataError(f"test is {config.test}, but there are test samples: leave it out")
    y, labels = _targets(parts, config.task)
    x = {split: part.x for split, part in parts.items()}
    if "test" not in parts:
        x, y = _set_aside(x["train"], y["train"], config)
        found.append(f"of which {len(y['test'])} are set aside for the test")
    found += [mark for part in parts.values() for mark in part.marks]
    return Source(
        x,
        y,
        labels,
        features=partial(features, halved=config.protocol == "paper", levels=_levels(train)),
        levels=_levels(train),
        found=", ".join(found),
        columns=train.layout and train.layout.features,
    )


def samples(path: Path, features: int) -> Part:
    """Reads samples for a trained network, whose targets may be missing: all of a table, or what is
    named test, else without a split, else train.

    Args:
      path: The file.
      features: How many the network takes.

    Raises:
      DataError: There are none.
    """
    if path.suffix.lower() in TABLES:
        table = read_csv(path, features=features)
        return Part(_images(table.x), table.y, str(path), f"{path}: the target", table.layout)
    arrays = _arrays(path)
    pairs = (("x_test", "y_test"), ("x", "y"), ("x_train", "y_train"))
    names = next((pair for pair in pairs if pair[0] in arrays), None)
    if names is None:
        raise DataError(f"{path} lacks x: it has {', '.join(arrays) or 'no arrays'}")
    return _part(path, arrays, *names)


def as_features(part: Part, levels: int | None, *, halved: bool) -> np.ndarray:
    """Returns samples as (N, features), stored as those of the training were.

    Args:
      part: The samples.
      levels: The stored value that stood for 1 there; None for values taken as they are.
      halved: Whether images lose half of their height and width.

    Raises:
      DataError: They are stored otherwise.
    """
    if levels is not None and _levels(part) != levels:
        stored = next((str(dtype) for dtype, top in LEVELS.items() if top == levels), "unscaled")
        raise DataError(
            f"{part.x_name} is {part.x.dtype}, but the training samples were {stored}: give both"
            " alike"
        )
    return features(part.x, halved=halved, levels=levels or 1)


def _parts(path: Path, config: DataConfig, like: Part | None = None) -> dict[str, Part]:
    """Reads a file: one with training samples, or, beside those, one with test samples."""
    split = "train" if like is None else "test"
    if path.suffix.lower() in TABLES:
        table = read_csv(path, config.task, like and like.layout)
        x = _images(table.x)
        return {split: Part(x, table.y, str(path), f"{path}: the target", table.layout)}
    arrays = _arrays(path)
    pairs = _pairs(path, arrays, split)
    if len(pairs) > 1 and config.test_file is not None:
        raise DataError(f"test_file is given, but {path} has x_test: use only one")
    return {split: _part(path, arrays, *names) for split, names in pairs.items()}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    from pdadmm_jax._files import read_npz  # not to import JAX before a command runs

    try:
        return read_npz(path)
    except ValueError as error:
        raise DataError(str(error)) from None


def _pairs(path: Path, arrays: Mapping[str, np.ndarray], split: str) -> dict[str, tuple[str, str]]:
    """Names of x and y by split: those of the one asked for, and of the test if it is there."""
    given, pairs = set(arrays), {split: (f"x_{split}", f"y_{split}")}
    if not given.intersection(pairs[split]) and given & {"x", "y"}:
        pairs[split] = ("x", "y")
    if split == "train" and given & {"x_test", "y_test"}:
        pairs["test"] = ("x_test", "y_test")
    needed = [name for pair in pairs.values() for name in pair]
    if missing := [name for name in needed if name not in arrays]:
        raise DataError(
            f"{path} lacks {', '.join(missing)}: give {', '.join(needed)}; it has "
            f"{', '.join(arrays) or 'no arrays'}"
        )
    return pairs


def _part(path: Path, arrays: Mapping[str, np.ndarray], x_name: str, y_name: str) -> Part:
    x, y = _samples(f"{path}: {x_name}", arrays[x_name]), arrays.get(y_name, np.empty(0))
    if y_name in arrays and y.ndim and len(y) != len(x):
        raise DataError(f"{path}: {x_name} has {len(x)} samples, but {y_name} {len(y)} targets")
    marks = tuple(
        f"{name} marks {np.count_nonzero(marks):,} of {len(x):,}"
        for name, marks in arrays.items()
        if name.startswith(f"{x_name}_") and marks.dtype == bool and marks.shape == (len(x),)
    )
    return Part(x, y, f"{path}: {x_name}", f"{path}: {y_name}", marks=marks)


def _samples(what: str, x: np.ndarray) -> np.ndarray:
    """Checks samples and returns them as (N, height, width, channels)."""
    if not 1 <= x.ndim <= 4 or not x.size:
        raise DataError(
            f"{what} has the shape {x.shape}: give (N, features), (N, height, width) or (N, height,"
            " width, channels), none of them 0"
        )
    if x.dtype.kind not in "biuf":
        raise DataError(f"{what} is {x.dtype}: give real numbers")
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    if x.dtype not in LEVELS:
        single = np.can_cast(x.dtype, np.float32)
        with np.errstate(over="ignore"):  # of more than double precision; named below
            x = x.astype(np.float32 if single else np.float64, copy=False)
        targets.check_finite(what, x)
    return _images(x)


def _images(x: np.ndarray) -> np.ndarray:
    """Returns samples of any shape as (N, height, width, channels)."""
    if x.ndim <= 2:
        return x.reshape(len(x), 1, -1, 1)
    return x if x.ndim == 4 else x[..., np.newaxis]


def _levels(part: Part) -> int:
    return LEVELS.get(part.x.dtype, 1)


def _check_alike(train: Part, test: Part) -> None:
    """Refuses test samples of another shape than the training samples, or scaled otherwise."""
    if train.x.shape[1:] != test.x.shape[1:]:
        raise DataError(
            f"{test.x_name} has samples of {_size(test.x)}, but the training samples have"
            f" {_size(train.x)}"
        )
    if _levels(train) != _levels(test):
        raise DataError(
            f"{test.x_name} is {test.x.dtype}, but the training samples are {train.x.dtype}, and"
            " only uint8 and uint16 are scaled: give both alike"
        )


def _size(x: np.ndarray) -> str:
    """How large samples are, in words."""
    _, height, width, channels = x.shape
    return f"{width} features" if height == channels == 1 else f"{height} x {width} x {channels}"


def _targets(
    parts: Mapping[str, Part], task: str | None
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Returns the targets of every split, and what the classes are called, if they are classes."""
    if targets.is_regression(parts["train"].y, task):
        y = {split: targets.numbers(part.y_name, part.y) for split, part in parts.items()}
        widths = {split: rows.shape[1] for split, rows in y.items()}
        if len({*widths.values()}) > 1:
            raise DataError(
                f"{parts['test'].y_name} has {widths['test']} targets for every sample, but the"
                f" training samples have {widths['train']}"
            )
        return y, None
    numbered, labels = targets.classes({part.y_name: part.y for part in parts.values()})
    return dict(zip(parts, numbered, strict=True)), labels


def _set_aside(
    x: np.ndarray, y: np.ndarray, config: DataConfig
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draws the test samples where none are given, otherwise than validation samples are drawn."""
    share, count = config.test_share, len(y)
    aside = max(round(share * count), 1)
    if aside >= count:
        raise DataError(f"test is {share}: none of {count} samples is left to train on")
    order = np.random.default_rng((config.seed, 1)).permutation(count)
    rows = dict(zip(SPLITS, (order[aside:], order[:aside]), strict=True))
    return (
        {split: x[chosen] for split, chosen in rows.items()},
        {split: y[chosen] for split, chosen in rows.items()},
    )
