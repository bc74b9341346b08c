"""A trained network, and samples in the form that it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pdadmm_jax as pdadmm
from experiments.data import DataConfig, load, own, targets
from experiments.data.dataset import DataError
from experiments.prediction.options import SamplesConfig
from experiments.runtime import run_directory as runs
from experiments.train.resume import options_of
from pdadmm_jax.problems.losses import SquaredError


class Samples(NamedTuple):
    """Samples in their own units.

    Attributes:
        x: (N, features).
        y: class numbers, (N,), or targets, (N, targets); None for none.
        source: where they are from.
    """

    x: Any  # NumPy's, as are those of y
    y: Any
    source: str


class Stored(NamedTuple):
    """How samples of a file become features.

    Attributes:
        levels: the stored value that stands for 1.
        halved: whether images lose half of their height and width.
        columns: names of a table's features; None for any.
    """

    levels: int | None = None
    halved: bool = False
    columns: tuple[str, ...] | None = None


def network_of(run: Path) -> pdadmm.Network:
    """The network of a run, or of a file.

    Raises:
        ValueError: there is none.
    """
    return pdadmm.load(run) if run.is_file() else runs.read_weights(run)


def samples_of(run: Path, network: pdadmm.Network, config: SamplesConfig) -> Samples:
    """The samples that were asked for.

    Raises:
        ValueError: they cannot be had, or are not like those of the training.
        UsageError: the run has no options.
    """
    if run.is_file():
        stored = Stored()
    else:
        data = options_of(run, "run").data
        if config.file is None:
            return _own(data, config.split)
        stored = _stored(run, halved=data.protocol == "paper")
    assert config.file is not None  # as checked
    return _of_file(config.file, network, stored)


def _stored(run: Path, *, halved: bool) -> Stored:
    """How a run has stored its samples, which it says at its end."""
    try:
        summary: Any = runs.read_summary(run)
    except FileNotFoundError:
        raise DataError(f"{run} has no {runs.SUMMARY}: let it end (train --resume {run})") from None
    found = summary["data"]
    return Stored(found["levels"], halved, found["columns"] and tuple(found["columns"]))


def _own(config: DataConfig, split: str) -> Samples:
    """Samples of the data that the run was trained on."""
    dataset = load(replace(config, standardise=False))  # the network does
    x, y = (getattr(dataset, f"{name}_{split}") for name in "xy")
    if not len(x):
        raise DataError(f"data.split is {split}, of which the run has no samples: use another")
    return Samples(x, y, f"{dataset.name}, {split} samples")


def _of_file(path: Path, network: pdadmm.Network, stored: Stored) -> Samples:
    """All samples of a file."""
    features, *_, outputs = network.widths
    part = own.samples(path, features)
    x = own.as_features(part, stored.levels, halved=stored.halved)
    if part.layout is not None and None not in (part.layout.features, stored.columns):
        _check_names(path, part.layout.features, stored.columns)
    if x.shape[1] != features:
        raise DataError(
            f"{part.x_name} has {x.shape[1]} features, but the network takes {features}"
        )
    if not part.y.size:
        return Samples(x, None, str(path))
    if network.classes is None and network.loss == SquaredError():
        y = targets.numbers(part.y_name, part.y)
        if y.shape[1] != outputs:
            raise DataError(f"{part.y_name} has {y.shape[1]} targets, but the network {outputs}")
        return Samples(x, y, str(path))
    known = np.arange(max(outputs, 2)) if network.classes is None else np.array(network.classes)
    (_, y), _ = targets.classes({"the network": known, part.y_name: part.y})
    return Samples(x, y, str(path))


def _check_names(
    path: Path, found: tuple[str, ...] | None, expected: tuple[str, ...] | None
) -> None:
    """Refuses columns in another order, or other ones."""
    for column, (name, wanted) in enumerate(zip(found or (), expected or (), strict=True), 1):
        if name != wanted:
            raise DataError(
                f"{path}: feature {column} is {name}, but of the training samples {wanted}"
            )
