"""A trial: one method with one number from one seed, from one evaluation to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pdadmm_jax as pdadmm
from experiments.algorithms.algorithm import Algorithm
from experiments.algorithms.loop import Chunk, Programs, Schedule, TrainState, growing, train
from experiments.compare.methods import METHODS, Method


@dataclass(frozen=True)
class Trial:
    """What is run.

    Attributes:
        method: its name in ``METHODS``.
        number: the method's one number.
        seed: of the first weights and of the order of the samples.
        tuning: whether it is scored on held-out samples, to choose the number; else on the test
            samples, for the result.
    """

    method: str
    number: float
    seed: int
    tuning: bool

    @property
    def name(self) -> str:
        """A file's name for it."""
        kind = "tuning" if self.tuning else "result"
        return f"{self.method}-{self.number:g}-{self.seed}-{kind}"

    @property
    def title(self) -> str:
        """Its name for people."""
        method = METHODS[self.method]
        kind = "tuning, " if self.tuning else ""
        return f"{method.title} ({kind}{method.number} {self.number:g}, seed {self.seed})"


class Point(NamedTuple):
    """An evaluation of a trial after some passes.

    Attributes:
        passes: over the training samples.
        seconds: of training so far, compilation and evaluation apart.
        compile_seconds: of compilation so far; next to nothing after a trial of the same method.
        train_loss: mean over the training samples.
        train_accuracy: share of the training samples.
        loss: the same of the samples that the trial is scored on.
        accuracy: the same.
    """

    passes: int
    seconds: float
    compile_seconds: float
    train_loss: float
    train_accuracy: float
    loss: float
    accuracy: float


class Task(NamedTuple):
    """What all trials of a kind have in common.

    Attributes:
        train: samples to train on.
        scored: samples to be scored on.
        problem: activation and loss; methods put their own numbers in.
        widths: of the network.
        initializer: of the first weights.
        passes: how long to train.
        evaluate_every: passes between two points.
        first_layers: with how many layers methods begin that can grow, to be grown to all of them
            after half of the passes; None for all at once.  A method may begin with fewer, has so
            many after half of the passes, and all after 0.6 of them.
    """

    train: pdadmm.Data
    scored: pdadmm.Data
    problem: pdadmm.admm.Config
    widths: tuple[int, ...]
    initializer: Any
    passes: int
    evaluate_every: int
    first_layers: int | None

    def depths(self, method: Method) -> list[int]:
        """How many layers a method has, one number after the other."""
        layers = len(self.widths) - 1
        if self.first_layers is None or method.algorithm.grow is None:
            return [layers]
        return sorted(
            {min(method.begins_with or layers, self.first_layers), self.first_layers, layers}
        )


class Trained(NamedTuple):
    """A trial that came to its end: its history, and its last weights."""

    points: list[Point]
    params: pdadmm.Params


def history(trial: Trial, task: Task, programs: Programs) -> Iterator[Point]:
    """Runs a trial from one evaluation to the next.

    Args:
        trial: what to run.
        task: what it has in common with others.
        programs: those compiled so far, shared by trials that differ in number and seed alone.
    """
    return map(_point, _chunks(trial, task, programs, None))


def trained(trial: Trial, task: Task, programs: Programs, after: Trained | None = None) -> Trained:
    """Runs a trial to its end.

    Args:
        trial: what to run.
        task: what it has in common with others.
        programs: those compiled so far.
        after: a trial whose weights it starts from, and whose passes and seconds it adds to; None
            to start from the weights that its seed makes.
    """
    chunks = list(_chunks(trial, task, programs, after and after.params))
    points = list(map(_point, chunks))
    if after is not None:
        passes, seconds, compile_seconds = after.points[-1][:3]
        points = [
            point._replace(
                passes=passes + point.passes,
                seconds=seconds + point.seconds,
                compile_seconds=compile_seconds + point.compile_seconds,
            )
            for point in points
        ]
    return Trained(points, METHODS[trial.method].algorithm.params(chunks[-1].end.state))


def _chunks(
    trial: Trial, task: Task, programs: Programs, params: pdadmm.Params | None
) -> Iterator[Chunk]:
    algorithm = states_only(METHODS[trial.method].algorithm)
    start, key = begin(trial, task, params)
    depths = task.depths(METHODS[trial.method]) if params is None else []
    parts = growing(depths or [len(task.widths) - 1], task.passes)
    growth = [(end, new - old) for (old, end), (new, _) in pairwise(parts)]
    schedule = Schedule(task.passes, task.evaluate_every, growth=tuple(growth))
    splits = {"train": task.train, "scored": task.scored}
    return train(algorithm, start, task.train, key, schedule, splits, programs)


def _point(chunk: Chunk) -> Point:
    times = chunk.end.seconds, chunk.end.compile_seconds
    return Point(chunk.iteration, *times, *chunk.scores["train"], *chunk.scores["scored"])


def begin(
    trial: Trial, task: Task, params: pdadmm.Params | None = None
) -> tuple[TrainState, jax.Array]:
    """The start of a trial, by default at the weights that seed and depth make; and its key.

    All methods that begin with as many layers begin with the same weights.
    """
    method, widths = METHODS[trial.method], task.widths
    number = jnp.asarray(trial.number, task.train.x.dtype)
    config = method.configured(task.problem, widths, number)
    widths = (*widths[: task.depths(method)[0]], widths[-1])
    key, order = jax.random.split(jax.random.key(trial.seed))
    if params is None:
        params = pdadmm.random_params(
            key, widths, task.initializer, activation=task.problem.activation
        )
    state = method.algorithm.from_params(jax.tree.map(jnp.array, params), task.train, config)
    return TrainState(jax.block_until_ready(state), config), order


@cache
def states_only(algorithm: Algorithm) -> Algorithm:
    """The same without metrics, whose cost differs from method to method and is not compared."""

    def run(state: Any, data: Any, options: Any, key: Any, steps: int) -> Any:
        return algorithm.run(state, data, options, key, steps)[0], None

    return algorithm._replace(run=run)
