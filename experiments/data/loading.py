"""From a configuration to a dataset: find the samples, select, hold out, scale."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from experiments.data import own
from experiments.data.catalogue import ENTRIES, Entry
from experiments.data.config import DataConfig
from experiments.data.dataset import DataError, Dataset, NotAtHand, Source, Splits
from experiments.data.protocol import FULL, features, select

if TYPE_CHECKING:
    from pdadmm_jax.network import Scaling


def load(config: DataConfig) -> Dataset:
    """Loads a dataset.

    Samples come from a file of the user's, if one is given; else from the original archives in a
    directory of the user's, if one is given; else, in this order, from a prepared TFDS data
    directory or the network. The archives and the network prepare a directory for the next time.
    There is never a substitute for what was asked for.

    The training samples are shuffled by the seed; the first of them are held out for validation,
    the next ones are trained on. The test samples stay as published.

    Args:
      config: What to load.

    Returns:
      The dataset.

    Raises:
      DataError: It cannot be had as asked for.
    """
    config.check()
    source = own.read(config) if config.file else _published(config)
    _check_halves(config, source)
    train, validation = hold_out(len(source.y["train"]), config)
    x = {
        "train": source.features(source.x["train"][train]),
        "validation": source.features(source.x["train"][validation]),
        "test": source.features(source.x["test"]),
    }
    y = {
        "train": source.y["train"][train],
        "validation": source.y["train"][validation],
        "test": source.y["test"],
    }
    x_scaling = y_scaling = None
    regression = source.labels is None
    if regression if config.standardise is None else config.standardise:
        from pdadmm_jax.network import Scaling

        x_scaling = Scaling.of(x["train"])
        y_scaling = Scaling.of(y["train"]) if regression else None
    x = {split: _singles(f"x_{split}", rows, x_scaling) for split, rows in x.items()}
    if regression:
        y = {split: _singles(f"y_{split}", rows, y_scaling) for split, rows in y.items()}
    return Dataset(
        name=config.title,
        source=source.found,
        **{f"x_{split}": rows for split, rows in x.items()},
        **{f"y_{split}": rows for split, rows in y.items()},
        labels=source.labels,
        levels=source.levels,
        columns=source.columns,
        x_scaling=x_scaling,
        y_scaling=y_scaling,
    )


def hold_out(count: int, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Draws the samples to train on and those to validate on.

    Args:
      count: Number of samples to draw from.
      config: Share of the validation samples, limit, seed.

    Returns:
      Two disjoint arrays of indices. With the same seed and share, a larger limit keeps all that a
      smaller one does.
    """
    order = np.random.default_rng(config.seed).permutation(count)
    held_out = round(config.validation * count)
    train, validation = order[held_out:], order[:held_out]
    if not len(train):
        raise DataError(f"validation is {config.validation}: none of {count} samples is left")
    if config.limit is not None and config.limit > len(train):
        raise DataError(f"limit is {config.limit}, but only {len(train)} samples can be trained on")
    return train[: config.limit], validation


def _check_halves(config: DataConfig, source: Source) -> None:
    height, width = source.x["train"].shape[1:3]
    if config.protocol == "paper" and (height % 2 or width % 2):
        raise DataError(f"protocol 'paper' halves images, not {height} x {width}: use 'full'")


def _singles(what: str, rows: np.ndarray, scaling: Scaling | None) -> np.ndarray:
    """Standardises rows, if asked to, and rounds them to single precision.

    Raises:
      DataError: It has no number for one of them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        singles = np.asarray(rows if scaling is None else scaling.apply(rows), np.float32)
    if not (finite := np.isfinite(singles)).all():
        way = ", or give --data.standardise" if scaling is None else ""
        raise DataError(
            f"{what} has {rows[~finite][0]}, too large for single precision: scale the data{way}"
        )
    return singles


def _published(config: DataConfig) -> Source:
    entry = ENTRIES[config.name]
    splits, found = _archived(config, entry)
    selection = entry.paper if config.protocol == "paper" and entry.paper else FULL
    train = select(splits["train"].first(selection.train), selection)
    test = select(splits["test"], selection)
    return Source(
        x={"train": train[0], "test": test[0]},
        y={"train": train[1], "test": test[1]},
        labels=np.array(selection.classes or range(entry.classes[selection.label])),
        features=partial(features, halved=selection.halve, levels=entry.levels),
        levels=entry.levels,
        found=found,
    )


def _archived(config: DataConfig, entry: Entry) -> tuple[Splits, str]:
    """Returns the images as published, and a line that says where they are from."""
    if not entry.archives:
        return entry.checked(entry.parse({}), config.name), "bundled with the code"
    try:
        from experiments.data import official
    except ImportError as error:
        raise NotAtHand(
            f"{config.name} needs {error.name}, which is not installed: install"
            " tensorflow-datasets, importlib_resources and pillow, or use digits"
        ) from None
    try:
        return official.images(config, entry)
    except OSError as error:  # a file or directory that may not be read, say
        raise DataError(f"{config.name}: {error}") from None
