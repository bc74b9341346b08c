"""A trial: one method with one number from one seed, and the course it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pdadmm_jax as pdadmm
from experiments.compare.methods import METHODS, Method


@dataclass(frozen=True)
class Trial:
    """What is run.

    Attributes:
        method: its name, in ``METHODS`` if the task does not say otherwise.
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


NOTHING_READ: dict[str, Any] = {}


class Point(NamedTuple):
    """Where a trial stands after some passes.

    Attributes:
        passes: over the training samples.
        seconds: of training so far, compilation and evaluation apart.
        compile_seconds: of compilation so far; next to nothing after a trial of the same method.
        train_loss: mean over the training samples.
        train_accuracy: share of the training samples.
        loss: the same of the samples that the trial is scored on.
        accuracy: the same.
        readings: what the task's instruments show, at the end of a trial.
    """

    passes: int
    seconds: float
    compile_seconds: float
    train_loss: float
    train_accuracy: float
    loss: float
    accuracy: float
    readings: dict[str, Any] = NOTHING_READ


class Task(NamedTuple):
    """What all trials of a kind have in common.

    Attributes:
        train: samples to train on.
        scored: samples to be scored on.
        hyper: activation and loss; methods put their own numbers in.
        widths: of the network.
        initializer: of the first weights.
        passes: how long to train.
        evaluate_every: passes between two points.
        first_layers: with how many layers methods begin that can grow, to be grown to all of them
            after half of the passes; None for all at once.
        method_of: finds methods by their names.
        instruments: (variables, training samples, hyper) -> readings of methods that have
            variables, at the end of a trial.
    """

    train: pdadmm.Data
    scored: pdadmm.Data
    hyper: pdadmm.Hyperparameters
    widths: tuple[int, ...]
    initializer: Any
    passes: int
    evaluate_every: int
    first_layers: int | None
    method_of: Callable[[str], Method] = METHODS.__getitem__
    instruments: Callable[[Any, pdadmm.Data, pdadmm.Hyperparameters], Any] | None = None


class Outcome(NamedTuple):
    """What a trial came to: its course, and the weights at the end."""

    points: list[Point]
    params: pdadmm.Params


Programs = dict[Any, Any]  # compiled ones, shared by trials that differ in number and seed alone


def course(trial: Trial, task: Task, programs: Programs) -> Iterator[Point]:
    """Runs a trial from one evaluation to the next.

    Args:
        trial: what to run.
        task: what it has in common with others.
        programs: those compiled so far, to which new ones are added.
    """
    return (point for point, _ in _stands(trial, task, programs, None))


def outcome(trial: Trial, task: Task, programs: Programs, after: Outcome | None = None) -> Outcome:
    """Runs a trial to its end.

    Args:
        trial: what to run.
        task: what it has in common with others.
        programs: those compiled so far, to which new ones are added.
        after: a trial whose weights it goes on from, and whose passes and seconds it counts on;
            None to begin with the weights that its seed makes.
    """
    given = None if after is None else after.params
    points, params = zip(*_stands(trial, task, programs, given), strict=True)
    if after is not None:
        points = [_later(point, after.points[-1]) for point in points]
    return Outcome(list(points), params[-1])


def _later(point: Point, begun: Point) -> Point:
    return point._replace(
        passes=begun.passes + point.passes,
        seconds=begun.seconds + point.seconds,
        compile_seconds=begun.compile_seconds + point.compile_seconds,
    )


def _stands(
    trial: Trial, task: Task, programs: Programs, given: pdadmm.Params | None
) -> Iterator[tuple[Point, pdadmm.Params]]:
    """Where a trial stands, and its weights, whose memory the passes that follow may take over."""
    method = task.method_of(trial.method)
    grows = method.grow is not None and given is None
    first_layers = task.first_layers if grows else None
    grow_at = None if first_layers is None else task.passes // 2
    number = jnp.asarray(trial.number, task.train.x.dtype)
    state = jax.block_until_ready(begin(method, trial.seed, task, number, first_layers, given))
    done, seconds, compile_seconds = 0, 0.0, 0.0
    while done < task.passes:
        stop = min(task.passes, done - done % task.evaluate_every + task.evaluate_every)
        if grow_at is not None and done < grow_at:
            stop = min(stop, grow_at)
        if method.grow is not None and first_layers is not None and done == grow_at:
            layers = len(task.widths) - 1 - first_layers
            state = jax.block_until_ready(method.grow(state, task.hyper, number, layers))
        start = time.perf_counter()
        advance = _program(programs, method, state, task, number, stop - done)
        compile_seconds += time.perf_counter() - start
        start = time.perf_counter()
        state = jax.block_until_ready(advance(state, task.train, task.hyper, number))
        seconds += time.perf_counter() - start
        done = stop
        params = method.params(state)
        train, scored = (
            tuple(map(float, pdadmm.loss_and_accuracy(params, data, task.hyper)))
            for data in (task.train, task.scored)
        )
        readings = _readings(method, state, task, number) if done == task.passes else {}
        yield Point(done, seconds, compile_seconds, *train, *scored, readings=readings), params


def titled(trial: Trial, task: Task) -> str:
    """A trial's name for people."""
    method = task.method_of(trial.method)
    kind = "tuning, " if trial.tuning else ""
    return f"{method.title} ({kind}{method.number} {trial.number:g}, seed {trial.seed})"


def _readings(method: Method, state: Any, task: Task, number: jax.Array) -> dict[str, Any]:
    if task.instruments is None or method.variables is None:
        return {}
    variables = method.variables(state, task.train, task.hyper, number)
    return _plain(task.instruments(variables, task.train, task.hyper))


def _plain(value: Any) -> Any:
    """Named tuples as dictionaries, arrays as lists and numbers."""
    if isinstance(value, tuple):
        return {name: _plain(entry) for name, entry in value._asdict().items()}  # pyright: ignore
    return value.tolist()


def _program(
    programs: Programs, method: Method, state: Any, task: Task, number: jax.Array, passes: int
) -> Any:
    """The compiled passes of a method, kept for states of the same shapes."""
    arguments = state, task.train, task.hyper, number
    shapes = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves((state, task.train))]
    key = (method.advance, passes, str(shapes))
    if key not in programs:
        jitted = jax.jit(method.advance, static_argnums=4, donate_argnums=0)
        programs[key] = jitted.lower(*arguments, passes).compile()
    return programs[key]


def begin(
    method: Method,
    seed: int,
    task: Task,
    number: jax.Array,
    first_layers: int | None,
    given: pdadmm.Params | None = None,
) -> Any:
    """A method's state at the weights given, or at those that seed and depth make."""
    widths = task.widths
    if first_layers is not None:
        widths = (*widths[:first_layers], widths[-1])
    key, own = jax.random.split(jax.random.key(seed))
    if given is not None:  # copies, for a state's memory is taken over
        return method.start(jax.tree.map(jnp.array, given), own, task.train, task.hyper, number)
    params = pdadmm.random_params(key, widths, task.initializer)
    return method.start(params, own, task.train, task.hyper, number)
