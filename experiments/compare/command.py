"""``python -m experiments compare``: one network, trained by every method at its best."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from rich.console import Console

import pdadmm_jax as pdadmm
from experiments import build
from experiments.compare import trial_store as records
from experiments.compare.curves import curves
from experiments.compare.methods import METHODS
from experiments.compare.options import CompareConfig
from experiments.compare.results import Result, results_table, summary
from experiments.compare.runner import Bench, at_work, concluded
from experiments.compare.trial import Task, Trial
from experiments.compare.tuning import TUNING, tuned
from experiments.data import Dataset, load
from experiments.report.saved_output import Shown
from experiments.runtime import run_directory as runs
from experiments.runtime.errors import usage_errors


def main(config: CompareConfig) -> int:
    """Runs what is missing and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    return concluded(study, config, Console(highlight=False, soft_wrap=True))


class Study(NamedTuple):
    """What a comparison came to.

    Attributes:
        source: where the data are from.
        train: training samples.
        test: test samples.
        results: one of every method.
    """

    source: str
    train: int
    test: int
    results: list[Result]


def study(config: CompareConfig, console: Console) -> Study:
    """Tunes every method, trains with what was chosen, and reports.

    Raises:
        UsageError: the configuration cannot be carried out.
        Interrupted: a stop was asked for.
    """
    title = config.data.title
    with usage_errors():
        dataset = load(replace(config.data, validation=0.0))
        final = task_of(config, dataset, tuning=False)
        tuning = task_of(config, tuning_part(config), tuning=True) if config.tune else final
        directory = records.study_directory(config.out, f"compare-{title}", config)
        # How much is compared does not matter to what a trial comes to.
        shared = replace(config, methods=(), seeds=1, tuning_seeds=1)
        trials = records.trials_directory(config.out, f"compare-{title}", shared)
    shown = Shown(console, directory)
    shown.show(described(config, dataset, tuning, final))
    with at_work(trials, console) as bench:
        results = [result(method, config, tuning, final, bench) for method in config.methods]
    shown.show(results_table(results))
    courses = {one.method: one.courses for one in results}
    heading = f"{title}: {' - '.join(map(str, final.widths))}"
    curves(directory / "compare.png", courses, heading)
    runs.write_json(directory / "compare.json", {"results": [summary(one) for one in results]})
    shown.save("compare.png")
    console.print(f"saved to {directory}: config.json, compare.json, compare.png; trials: {trials}")
    return Study(dataset.source, len(dataset.y_train), len(dataset.y_test), results)


def result(name: str, config: CompareConfig, tuning: Task, final: Task, bench: Bench) -> Result:
    """One method: its number, and what it comes to from every seed."""
    method = METHODS[name]
    number = method.published or method.candidates[len(method.candidates) // 2]
    if config.tune:
        seeds = range(TUNING, TUNING + config.tuning_seeds)
        number = tuned(
            method.candidates,
            lambda tried: [bench.run(Trial(name, tried, seed, True), tuning) for seed in seeds],
        )
    trials = [Trial(name, number, seed, False) for seed in range(config.seeds)]
    found = Result(name, number, [bench.run(trial, final) for trial in trials])
    accuracy, seconds = found.accuracy(2), sum(found.last("seconds"))
    bench.say(f"{method.title}: {method.number} {number:g}, test {accuracy} % in {seconds:.1f} s")
    return found


def described(config: CompareConfig, dataset: Dataset, tuning: Task, final: Task) -> str:
    """What is about to be compared."""
    widths = " - ".join(map(str, final.widths))
    tuned = (
        f"; tuning trains on {len(tuning.train.x)} and is scored on {len(tuning.scored.x)} others"
        if config.tune
        else ""
    )
    return (
        f"{dataset.name} ({dataset.source}): {len(final.train.x)} training samples, "
        f"{len(final.scored.x)} test samples{tuned}; network {widths}; {config.passes} passes, "
        f"{config.seeds} seed(s)"
    )


def tuning_part(config: CompareConfig) -> Dataset:
    """The data while tuning: some samples held out, and no more trained on than there are."""
    limits = [n for n in (config.tuning_limit, config.data.limit) if n is not None]
    rest = load(replace(config.data, limit=None))
    kept = slice(min(limits, default=None))
    return replace(rest, x_train=rest.x_train[kept], y_train=rest.y_train[kept])


def task_of(config: CompareConfig, dataset: Dataset, *, tuning: bool) -> Task:
    """What is trained on, and scored on: held-out samples to tune, test samples for the result.

    Raises:
        ValueError: the network is too large, or no sample is held out to tune on.
    """
    widths = (dataset.x_train.shape[1], *config.network.hidden, dataset.classes)
    build.check_fits(widths, len(dataset.y_train))
    splits = build.splits(dataset, np.float32, None)
    return Task(
        train=splits.train,
        scored=build.held_out(splits, config.data) if tuning else splits.test,
        hyper=pdadmm.Hyperparameters(activation=pdadmm.activation(config.network.activation)),
        widths=widths,
        initializer=build.INITIALIZERS[config.network.initializer],
        passes=config.passes,
        evaluate_every=config.evaluate_every,
        first_layers=config.first_layers,
    )
