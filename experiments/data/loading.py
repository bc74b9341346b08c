"""From a configuration to a dataset: find the images, select, scale, hold out."""

from functools import partial

import numpy as np

from experiments.data import own
from experiments.data.catalogue import ENTRIES, Entry
from experiments.data.config import DataConfig
from experiments.data.dataset import DataError, Dataset, NotAtHand, Splits
from experiments.data.protocol import FULL, features, select


def load(config: DataConfig) -> Dataset:
    """Loads a dataset.

    Images come from a file of the user's, if one is given; else, in this order, from a prepared
    TFDS data directory, the original archives in a directory of the user's, the network. The last
    two prepare a directory for the next time. There is never a substitute for what was asked for.

    The training images are shuffled by the seed; the first of them are held out for validation, the
    next ones are trained on. The test images stay as published.

    Args:
      config: What to load.

    Returns:
      The dataset.

    Raises:
      DataError: It cannot be had as asked for.
    """
    config.check()
    entry, splits, source = own.read(config.file) if config.file else _published(config)
    selection = entry.paper if config.protocol == "paper" and entry.paper else FULL
    if selection.halve and any(size % 2 for size in entry.shape[:2]):
        height, width, _ = entry.shape
        raise DataError(f"protocol 'paper' halves images, not {height} x {width}: use 'full'")
    pixels, y = select(splits["train"].first(selection.train), selection)
    test_pixels, y_test = select(splits["test"], selection)
    train, validation = hold_out(len(y), config)
    flatten = partial(features, halved=selection.halve, levels=entry.levels)
    return Dataset(
        name=config.title,
        classes=len(selection.classes or range(entry.classes[selection.label])),
        source=source,
        x_train=flatten(pixels[train]),
        y_train=y[train],
        x_validation=flatten(pixels[validation]),
        y_validation=y[validation],
        x_test=flatten(test_pixels),
        y_test=y_test,
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


def _published(config: DataConfig) -> tuple[Entry, Splits, str]:
    entry = ENTRIES[config.name]
    if not entry.archives:
        return entry, entry.checked(entry.parse({}), config.name), "bundled with the code"
    try:
        from experiments.data import official
    except ImportError as error:
        raise NotAtHand(
            f"{config.name} needs {error.name}, which is not installed: install"
            " tensorflow-datasets, importlib_resources and pillow, or use digits"
        ) from None
    try:
        return entry, *official.images(config, entry)
    except OSError as error:  # a file or directory that may not be read, say
        raise DataError(f"{config.name}: {error}") from None
