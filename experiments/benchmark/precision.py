"""``python -m experiments speed precision``: what rounding the inputs of products does to a run.

The digits, four layers, once for every precision with a = p W + b recomputed now and then, and
once with nothing but what its updates make of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import build
from experiments.algorithms.admm import ADMM
from experiments.algorithms.loop import Schedule, TrainState, train
from experiments.benchmark.options import PrecisionConfig
from experiments.data import load
from experiments.data.config import DataConfig
from experiments.report.measurement import Measurement, table
from experiments.runtime import run_directory as runs
from experiments.runtime.errors import usage_errors
from pdadmm_jax.numerics.products import PRECISIONS

HIDDEN_LAYERS = 3


class History(NamedTuple):
    """One run.

    Attributes:
        precision: of the products' inputs.
        refreshed: whether a was recomputed now and then.
        lagrangian: after every iteration.
        iterations: after which the drift was looked at.
        drift: largest error of a in any layer, relative to its largest entry.
        accuracy: on the validation samples, in the end.
    """

    precision: str
    refreshed: bool
    lagrangian: np.ndarray
    iterations: list[int]
    drift: list[float]
    accuracy: float

    @property
    def largest_rise(self) -> float:
        """Of the Lagrangian within an iteration, relative to what it was at first."""
        return max(float(np.max(np.diff(self.lagrangian))), 0.0) / float(self.lagrangian[0])


def main(options: PrecisionConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    with usage_errors():
        dataset = load(DataConfig())
        widths = (dataset.x_train.shape[1], *[options.neurons] * HIDDEN_LAYERS, dataset.classes)
        build.check_fits(widths, len(dataset.y_train))
    measurement = Measurement("precision", options)
    measurement.show(
        f"{dataset.name}, {HIDDEN_LAYERS} hidden layers x {options.neurons}, "
        f"{options.iterations} iterations on {runs.environment()['devices']}"
    )
    splits = build.splits(dataset, np.float32, None)
    kinds = [(precision, refreshed) for refreshed in (True, False) for precision in PRECISIONS]
    histories = [
        history(options, splits, *kind)
        for kind in track(
            kinds, "runs", console=measurement.console, disable=not measurement.console.is_terminal
        )
    ]
    measurement.show(_table(histories, options.refresh_every))
    measurement.draw("benchmark.precision_figure", histories)
    measurement.save({"histories": [_plain(one) for one in histories]})
    return 0


def history(
    options: PrecisionConfig, splits: build.Splits, precision: str, refreshed: bool
) -> History:
    """Trains, measuring the drift whenever a could be recomputed."""
    config = pdadmm.admm.Config(precision=precision)
    data, key = splits.solved, jax.random.key(options.seed)
    widths = (data.x.shape[1], *[options.neurons] * HIDDEN_LAYERS, int(jnp.max(data.y)) + 1)
    start = TrainState(pdadmm.admm.init(key, data, widths, config), config)
    every = options.refresh_every
    schedule = Schedule(options.iterations, every, every if refreshed else None)
    lagrangian, drifts, iterations, accuracy = [], [], [], 0.0
    for chunk in train(ADMM, start, data, key, schedule, splits.of("validation")):
        drift = chunk.drift
        if drift is None:
            _, drift = pdadmm.admm.refresh(chunk.end.state, data, config)
        lagrangian.append(np.asarray(chunk.info.lagrangian, np.float64))
        drifts.append(float(drift.max()))
        iterations.append(chunk.iteration)
        _, accuracy = chunk.scores["validation"]
    return History(precision, refreshed, np.concatenate(lagrangian), iterations, drifts, accuracy)


def _plain(one: History) -> dict[str, Any]:
    return one._asdict() | {
        "lagrangian": one.lagrangian[np.asarray(one.iterations) - 1].tolist(),
        "largest_rise": one.largest_rise,
    }


def _table(histories: list[History], refresh_every: int) -> Table:
    numbers = "Lagrangian", "largest rise", "last drift", "largest", "validation"
    made = table("", "a recomputed", *numbers)
    for one in histories:
        made.add_row(
            one.precision,
            f"every {refresh_every}" if one.refreshed else "never",
            f"{one.lagrangian[-1]:.4g}",
            f"{one.largest_rise:.0e}",
            f"{one.drift[-1]:.1e}",
            f"{max(one.drift):.1e}",
            f"{one.accuracy:.2%}",
        )
    return made
