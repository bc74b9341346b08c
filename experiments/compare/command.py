"""``python -m experiments compare``: one network, trained by every method at its best."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.console import Console

import pdadmm_jax as pdadmm
from experiments import build
from experiments.compare import trial_store
from experiments.compare.methods import METHODS
from experiments.compare.options import CompareConfig
from experiments.compare.results import Result, results_table, summary
from experiments.compare.runner import Runner, exit_code_of, trial_runner
from experiments.compare.trial import Point, Task, Trial
from experiments.compare.tuning import TUNING, tuned
from experiments.data import Dataset, load
from experiments.options.network import network_title
from experiments.report.saved_output import SavedOutput
from experiments.runtime import run_directory as runs
from experiments.runtime import screen
from experiments.runtime.errors import usage_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def main(options: CompareConfig) -> int:
    """Runs what is missing and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    return exit_code_of(study, options, screen.console())


class Study(NamedTuple):
    """The results of a comparison.

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


def study(options: CompareConfig, console: Console) -> Study:
    """Tunes every method, trains with what was chosen, and reports.

    Raises:
        UsageError: the configuration cannot be carried out.
        Interrupted: a stop was asked for.
    """
    title = options.data.title
    with usage_errors():
        dataset = load(replace(options.data, validation=0.0))
        final = task_of(options, dataset, tuning=False)
        tuning = task_of(options, tuning_part(options), tuning=True) if options.tune else final
        directory = trial_store.study_directory(options.out, f"compare-{title}", options)
        # How much is compared does not matter to what a trial comes to.
        shared = replace(options, methods=(), seeds=1, tuning_seeds=1)
        trials = trial_store.trials_directory(options.out, f"compare-{title}", shared)
    output = SavedOutput(console, directory)
    output.show(described(options, dataset, tuning, final))
    with trial_runner(trials, console) as runner:
        results = [result(method, options, tuning, final, runner) for method in options.methods]
    output.show(results_table(results))
    histories = {one.method: one.histories for one in results}
    heading = f"{title}: {network_title(final.widths)}"
    output.draw("compare.png", lambda: _curves(histories, heading))
    runs.write_json(directory / "compare.json", {"results": [summary(one) for one in results]})
    output.save()
    files = "config.json", "compare.json", *output.figures
    console.print(f"saved to {directory}: {', '.join(files)}; trials: {trials}")
    return Study(dataset.source, len(dataset.y_train), len(dataset.y_test), results)


def result(name: str, options: CompareConfig, tuning: Task, final: Task, runner: Runner) -> Result:
    """One method: its number, and its history from every seed."""
    method = METHODS[name]
    number = method.published or method.candidates[len(method.candidates) // 2]
    if options.tune:
        seeds = range(TUNING, TUNING + options.tuning_seeds)
        number = tuned(
            method.candidates,
            lambda tried: [runner.run(Trial(name, tried, seed, True), tuning) for seed in seeds],
        )
    trials = [Trial(name, number, seed, False) for seed in range(options.seeds)]
    found = Result(name, number, [runner.run(trial, final) for trial in trials])
    accuracy, seconds = found.accuracy(2), sum(found.last("seconds"))
    runner.log(f"{method.title}: {method.number} {number:g}, test {accuracy} % in {seconds:.1f} s")
    return found


def described(options: CompareConfig, dataset: Dataset, tuning: Task, final: Task) -> str:
    """What is about to be compared."""
    widths = network_title(final.widths)
    tuned = (
        f"; tuning trains on {len(tuning.train.x)} and is scored on {len(tuning.scored.x)} others"
        if options.tune
        else ""
    )
    return (
        f"{dataset.name} ({dataset.source}): {len(final.train.x)} training samples, "
        f"{len(final.scored.x)} test samples{tuned}; network {widths}; {options.passes} passes, "
        f"{options.seeds} seed(s)"
    )


def _curves(histories: dict[str, list[list[Point]]], heading: str) -> Figure:
    from experiments.compare.curves import curves

    return curves(histories, heading)


def tuning_part(options: CompareConfig) -> Dataset:
    """The data while tuning: some samples held out, and no more trained on than there are."""
    limits = [n for n in (options.tuning_limit, options.data.limit) if n is not None]
    rest = load(replace(options.data, limit=None))
    kept = slice(min(limits, default=None))
    return replace(rest, x_train=rest.x_train[kept], y_train=rest.y_train[kept])


def task_of(options: CompareConfig, dataset: Dataset, *, tuning: bool) -> Task:
    """What is trained on, and scored on: held-out samples to tune, test samples for the result.

    Raises:
        ValueError: the network is too large, or no sample is held out to tune on.
    """
    widths = (dataset.x_train.shape[1], *options.network.hidden, dataset.classes)
    build.check_fits(widths, len(dataset.y_train))
    splits = build.splits(dataset, np.float32, None)
    return Task(
        train=splits.train,
        scored=build.held_out(splits, options.data) if tuning else splits.test,
        problem=pdadmm.admm.Config(
            activation=options.network.activation, residual_block=options.network.residual_block
        ),
        widths=widths,
        initializer=build.INITIALIZERS[options.network.initializer],
        passes=options.passes,
        evaluate_every=options.evaluate_every,
        first_layers=options.first_layers,
    )
