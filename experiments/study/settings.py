"""``python -m experiments study settings``: what tuning would add to the recommended settings."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import build
from experiments.algorithms.admm import ADMM
from experiments.algorithms.loop import Programs, Schedule, TrainState, train
from experiments.algorithms.sweeps import SWEEPS
from experiments.compare.results import plus_minus
from experiments.data import load
from experiments.report.measurement import Measurement, table
from experiments.runtime.compilation_cache import enable_compilation_cache
from experiments.runtime.errors import usage_errors
from experiments.runtime.interrupts import INTERRUPTED, stop_requests
from experiments.study.options import SettingsConfig
from pdadmm_jax.sweeps.config import FEWEST_UPDATES

Config = pdadmm.admm.Config | pdadmm.sweeps.Config


class Way(NamedTuple):
    """A way to train.

    Attributes:
        rule: the update rule of sweeps, by name; None for Algorithm 1.
        changed: what the number is called that is multiplied by factors.
    """

    rule: str | None
    changed: str


WAYS = {
    "all samples": Way("proximal", "penalty nu"),
    "batches, estimated rates": Way("prodigy", "first estimate"),
    "batches, one rate": Way("adam", "rate"),
    "Algorithm 1": Way(None, "penalty nu = rho"),
}


class Row(NamedTuple):
    """One network trained in one way.

    Attributes:
        way: of the batches.
        layers: of the network.
        recommended: the number that is changed, as recommended.
        score: accuracy, or R^2 where targets are numbers.
        validation: the score on held-out samples of every factor, from every seed.
    """

    way: str
    layers: int
    recommended: float
    score: str
    validation: dict[float, list[float]]

    @property
    def gap(self) -> float:
        """How far the mean score as recommended is below that of the best factor."""
        means = {factor: np.mean(values) for factor, values in self.validation.items()}
        return float(np.nanmax(list(means.values())) - means[1.0])


def main(options: SettingsConfig) -> int:
    """Trains with the recommended settings and with others, and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    enable_compilation_cache()
    with usage_errors():
        dataset = load(options.data)
        shapes = [options.widths(dataset, layers) for layers in options.layers]
        for widths in shapes:
            build.check_fits(widths, len(dataset.y_train))
        splits = build.splits(dataset, np.float32, None)
        build.held_out(splits, options.data)
    measurement = Measurement("settings", options)
    measurement.show(
        f"{dataset.name}: {splits.samples} training samples, {len(dataset.y_validation)} held out; "
        f"hidden layers of {options.neurons}, {options.passes} passes over all samples, "
        f"{options.batch_passes} in batches of {options.batch}, {options.iterations} iterations of "
        f"Algorithm 1, {options.seeds} seed(s)"
    )
    updates = _updates(options.batch_passes, splits.samples, options.batch)
    if updates < FEWEST_UPDATES:
        measurement.show(
            f"{updates} updates in batches: as rates are estimated from {FEWEST_UPDATES} on, one "
            "rate is what is recommended"
        )
    rows: list[Row] = []
    with stop_requests() as asked:
        for way in WAYS:
            for widths in shapes:
                if not asked:
                    with usage_errors():
                        rows.append(_row(way, widths, options, splits))
            done = [row for row in rows if row.way == way]
            if done:
                measurement.show(_table(way, done))
    if asked:
        measurement.show("interrupted: results so far are saved")
    measurement.draw("study.settings_figure", rows)
    measurement.save({"rows": [row._asdict() | {"gap": row.gap} for row in rows]})
    return INTERRUPTED if asked else 0


def _row(way: str, widths: tuple[int, ...], options: SettingsConfig, splits: build.Splits) -> Row:
    """One network, with the number times every factor."""
    loss = "squared_error" if splits.regression else "softmax_cross_entropy"
    config, passes = _recommended(WAYS[way].rule, widths, options, splits.samples, loss)
    programs, found = Programs(), {}
    for factor in options.factors:
        found[factor] = [
            _score(scaled(config, factor), widths, seed, passes, splits, programs)
            for seed in range(options.seeds)
        ]
    score = "R^2" if splits.regression else "accuracy"
    return Row(way, len(widths) - 1, number(config), score, found)


def _recommended(
    rule: str | None, widths: tuple[int, ...], options: SettingsConfig, samples: int, loss: str
) -> tuple[Config, int]:
    """The settings that are recommended, and the passes."""
    if rule is None:
        return pdadmm.admm.recommended(loss=loss), options.iterations
    passes, batch = options.passes, None
    if rule != "proximal":
        passes, batch = options.batch_passes, min(options.batch, samples)
    updates = _updates(passes, samples, batch)
    recipe = pdadmm.sweeps.recommended(widths, batch, updates=updates, loss=loss, rule=rule)
    return recipe, passes


def _updates(passes: int, samples: int, batch: int | None) -> int:
    """Of the weights, in so many passes."""
    return passes * math.ceil(samples / (batch or samples))


def number(config: Config) -> float:
    """What is changed: nu of all samples, in batches the first estimate of rates or the rate."""
    if isinstance(config, pdadmm.admm.Config) or config.batch is None:
        return float(config.nu)
    rule: Any = config.rule
    return float(getattr(rule, _field(rule)))


def scaled(config: Config, factor: float) -> Config:
    """The settings with that number times a factor; of Algorithm 1 rho too."""
    changed = factor * number(config)
    if isinstance(config, pdadmm.admm.Config):
        return config.replace(nu=changed, rho=changed)
    if config.batch is None:
        return config.replace(nu=changed)
    rule: Any = config.rule
    return config.replace(rule=dataclasses.replace(rule, **{_field(rule): changed}))


def _field(rule: pdadmm.sweeps.Rule) -> str:
    return "start" if isinstance(rule, pdadmm.sweeps.Prodigy) else "rate"


def _score(
    config: Config,
    widths: tuple[int, ...],
    seed: int,
    passes: int,
    splits: build.Splits,
    programs: Programs,
) -> float:
    start, order = jax.random.split(jax.random.key(seed))
    data = splits.solved
    if isinstance(config, pdadmm.admm.Config):
        algorithm, first = ADMM, pdadmm.admm.init(start, data, widths, config)
    else:
        algorithm, first = SWEEPS, pdadmm.sweeps.init(start, data, widths, config)
    schedule = Schedule(passes, passes, passes)
    *_, last = train(
        algorithm,
        TrainState(first, config),
        data,
        order,
        schedule,
        splits.of("validation"),
        programs,
    )
    return last.scores["validation"][1]


def _table(way: str, rows: list[Row]) -> Table:
    factors, changed = rows[0].validation, WAYS[way].changed
    made = table(
        "layers",
        changed,
        *(f"x {factor:g}" for factor in factors),
        "best - recommended",
        title=f"\n{way}: held-out {rows[0].score}, %, at the recommended {changed} times factors",
    )
    for row in rows:
        made.add_row(
            str(row.layers),
            f"{row.recommended:.3g}",
            *(plus_minus([100 * share for share in row.validation[f]], 1) for f in factors),
            f"{100 * row.gap:.1f}",
        )
    return made
