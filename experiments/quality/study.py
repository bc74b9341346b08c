"""``python -m experiments quality``: what helps pdADMM to learn, tried one idea at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import build
from experiments.compare import trial_store as records
from experiments.compare.curves import STYLES
from experiments.compare.methods import METHODS, Method
from experiments.compare.results import Result, plus_minus, summary
from experiments.compare.runner import Bench, at_work, concluded
from experiments.compare.trial import Task, Trial
from experiments.compare.tuning import TUNING, tuned
from experiments.data import load
from experiments.quality.config import QualityConfig
from experiments.quality.figure import Drawn, figure
from experiments.quality.instruments import read
from experiments.quality.variants import VARIANTS, method_of, named, numbers_of
from experiments.report.measurement import table
from experiments.report.plotting import ORANGE
from experiments.report.saved_output import Shown
from experiments.runtime import run_directory as runs
from experiments.runtime.errors import usage_errors


class Found(NamedTuple):
    """What a variant or a method came to.

    Attributes:
        name: of the variant or the method.
        title: the same for people.
        chosen: its numbers by name, as they were chosen.
        result: courses from every seed.
        hops: that have to wait for one another in an iteration.
    """

    name: str
    title: str
    chosen: Mapping[str, float]
    result: Result
    hops: float | None

    @property
    def readings(self) -> list[Mapping[str, Any]]:
        """What the instruments showed at the end, of every seed that got there."""
        return [course[-1].readings for course in self.result.courses if course[-1].readings]

    def layers(self, name: str) -> np.ndarray | None:
        """Cosine or ratio of every layer, mean over the seeds; None for what has no variables."""
        values = [one["own"][name] for one in self.readings]
        return np.mean(values, 0) if values else None


def main(config: QualityConfig) -> int:
    """Runs what is missing and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:  # a file has room for whole lines
        console.width = 140
    return concluded(study, config, console)


def study(config: QualityConfig, console: Console) -> list[Found]:
    """Chooses every variant's numbers, trains with them, and reports.

    Raises:
        UsageError: the configuration cannot be carried out.
        Interrupted: a stop was asked for.
    """
    with usage_errors():
        task = task_of(config)
        name = f"quality-{config.data.name}"
        directory = records.study_directory(config.out, name, config)
        # How much is compared does not matter to what a trial comes to.
        shared = replace(config, only=None, methods=(), seeds=1)
        trials = records.trials_directory(config.out, name, shared)
    shown = Shown(console, directory)
    shown.show(described(config, task))
    with at_work(trials, console) as bench:
        found = [one_variant(name, config, task, bench) for name in config.only or VARIANTS]
        found += [one_method(name, config, task, bench) for name in config.methods]
    found.sort(key=lambda one: -float(np.mean(one.result.last("accuracy"))))
    shown.show(results_table(found))
    shown.show(readings_table(found))
    figure(directory / "quality.png", list(map(_drawn, found)), VARIANTS["plain"].title)
    content = {one.name: _kept(one) for one in found}
    runs.write_json(directory / "quality.json", content)
    shown.save("quality.png")
    console.print(f"saved to {directory}: config.json, quality.json, quality.png; trials: {trials}")
    return found


def task_of(config: QualityConfig) -> Task:
    """What is trained on, and scored on: held-out samples, while tuning and at the end."""
    dataset = load(config.data)
    splits = build.splits(dataset, np.float32, None)
    return Task(
        train=splits.train,
        scored=build.held_out(splits, config.data),
        hyper=pdadmm.Hyperparameters(activation=pdadmm.activation(config.network.activation)),
        widths=(dataset.x_train.shape[1], *config.network.hidden, dataset.classes),
        initializer=build.INITIALIZERS[config.network.initializer],
        passes=config.iterations,
        evaluate_every=config.evaluate_every,
        first_layers=max((len(config.network.hidden) + 1) // 2, 2),
        method_of=method_of,
        instruments=read,
    )


def described(config: QualityConfig, task: Task) -> str:
    """What is about to be compared."""
    widths = " - ".join(map(str, task.widths))
    return (
        f"{config.data.name}: {len(task.train.x)} training samples, {len(task.scored.x)} held out "
        f"to choose numbers and to score; network {widths}; {config.iterations} iterations, "
        f"{config.seeds} seed(s)"
    )


def one_variant(name: str, config: QualityConfig, task: Task, bench: Bench) -> Found:
    """A variant: nu with its other numbers in the middle, then each of them with what was best."""
    variant = VARIANTS[name]
    task = task._replace(initializer=variant.initializer or task.initializer)
    values = {number: tried[len(tried) // 2] for number, tried in variant.numbers.items()}

    def tuning(nu: float, values: Mapping[str, float]) -> list[Any]:
        return [bench.run(Trial(named(name, tuple(values.values())), nu, TUNING, True), task)]

    nu = tuned(variant.penalties, lambda nu: tuning(nu, values))
    for number, candidates in variant.numbers.items():
        values[number] = tuned(candidates, lambda v, n=number: tuning(nu, values | {n: v}), more=1)
    full = named(name, tuple(values.values()))
    return _found(name, full, nu, {"nu": nu, **values}, method_of(full), config, task, bench)


def one_method(name: str, config: QualityConfig, task: Task, bench: Bench) -> Found:
    """A method of those that other studies compare, with its one number."""
    method = METHODS[name]
    task = task._replace(method_of=METHODS.__getitem__, first_layers=None)
    number = tuned(method.candidates, lambda n: [bench.run(Trial(name, n, TUNING, True), task)])
    return _found(name, name, number, {method.number: number}, method, config, task, bench)


def _found(
    name: str,
    full: str,
    number: float,
    chosen: Mapping[str, float],
    method: Method,
    config: QualityConfig,
    task: Task,
    bench: Bench,
) -> Found:
    trials = [Trial(full, number, seed, False) for seed in range(config.seeds)]
    result = Result(full, number, [bench.run(trial, task) for trial in trials])
    boundaries, samples = len(task.widths) - 2, len(task.train.x)
    hops = None if method.hops is None else method.hops(boundaries, samples)
    bench.say(f"{method.title}: {_words(chosen)}, held-out accuracy {result.accuracy(1)} %")
    return Found(name, method.title, chosen, result, hops)


def results_table(found: list[Found]) -> Table:
    """What they came to, the best first."""
    made = table("", "chosen", "held-out %", "training loss", "ms", "hops")
    for one in found:
        made.add_row(
            one.title,
            _words(one.chosen),
            one.result.accuracy(1),
            plus_minus(one.result.last("train_loss"), 3),
            f"{1000 * one.result.seconds_per_pass():.1f}",
            "" if one.hops is None else f"{one.hops:.3g}",
        )
    return made


def readings_table(found: list[Found]) -> Table:
    """What the instruments showed at the end: of the first, the middle and the last layer."""
    layers = "first, middle, last layer"
    made = table("", "Lagrangian", f"cosine: {layers}", f"norm ratio: {layers}")
    for one in found:
        if one.readings:
            lagrangian = [reading["lagrangian"] for reading in one.readings]
            made.add_row(
                one.title,
                f"{np.mean(lagrangian):.2g}",
                _three(one.layers("cosine"), "{:.2f}"),
                _three(one.layers("ratio"), "{:.1g}"),
            )
    return made


def _words(chosen: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in chosen.items())


def _three(values: Any, form: str) -> str:
    return " ".join(form.format(values[k]) for k in (0, len(values) // 2, -1))


def _drawn(one: Found) -> Drawn:
    loss = [[point.train_loss for point in course] for course in one.result.courses]
    passes = [point.passes for point in one.result.courses[0]]
    finite = all(map(math.isfinite, one.result.last("train_loss")))
    return Drawn(
        one.title,
        STYLES.get(one.name, (ORANGE, ":")) if one.name in METHODS else None,
        one.result.last("accuracy"),
        passes,
        np.mean(loss, 0) if finite else None,
        one.layers("cosine"),
        one.hops,
    )


def _kept(one: Found) -> dict[str, Any]:
    """All numbers, for JSON."""
    return {
        "title": one.title,
        "chosen": dict(one.chosen),
        "fixed": numbers_of(one.result.method) if one.name in VARIANTS else {},
        "hops": one.hops,
        "readings": one.readings,
        **summary(one.result),
    }
