"""The training loop: dispatches that are compiled, timed, evaluated and handed out one by one.

Everything that trains is built on it: ``train`` adds checkpoints and what to do about divergence,
comparisons add tuning, studies look at what every iteration reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import pdadmm_jax as pdadmm
from experiments.algorithms.algorithm import Algorithm
from pdadmm_jax._typing import PRNGKeyArray

Score = tuple[float, float]  # mean loss of the forward pass, and its accuracy or R^2


class TrainState(NamedTuple):
    """All that the next iteration depends on, and the time it took to come here.

    Attributes:
        state: the algorithm's variables, of which ``iteration`` counts the iterations done.
        config: the algorithm's configuration from here on.
        seconds: training time so far, compilation and evaluation apart.
        compile_seconds: time spent compiling so far.
    """

    state: Any
    config: Any
    seconds: float = 0.0
    compile_seconds: float = 0.0

    @property
    def iteration(self) -> int:
        """Number of the last iteration done, from 1."""
        return int(self.state.iteration)


def growing(depths: Sequence[int], iterations: int) -> list[tuple[int, int]]:
    """Depths of a network that grows, and after how many iterations each has done its part.

    The first has half of them, those between a tenth each, the last one what is left.
    """
    ends = [iterations * (5 + number) // 10 for number in range(len(depths) - 1)]
    return list(zip(depths, [*ends, iterations], strict=True))


class Schedule(NamedTuple):
    """How far to train, and what happens on the way.

    Attributes:
        iterations: number of the last one.
        evaluate_every: iterations between two evaluations.
        refresh_every: iterations after which the next evaluation recomputes p W + b.
        growth: (after how many iterations, how many layers are inserted), ascending.
    """

    iterations: int
    evaluate_every: int
    refresh_every: int | None = None
    growth: tuple[tuple[int, int], ...] = ()

    def next_end(self, done: int) -> int:
        """The iteration that the next dispatch ends at.

        It follows from the iterations' numbers alone, so that a resumed run computes what it would
        have computed without the interruption.
        """
        regular = done - done % self.evaluate_every + self.evaluate_every
        return min([self.iterations, regular, *(at for at, _ in self.growth if at > done)])

    def refreshes(self, done: int, end: int) -> bool:
        """Whether p W + b is recomputed at the end of a dispatch."""
        every = self.refresh_every
        return every is not None and done // every < end // every


class Chunk(NamedTuple):
    """What one dispatch did.

    Attributes:
        iteration: number of its last iteration, from 1.
        end: where the next one starts; its arrays are donated when the loop goes on.
        length: iterations in it.
        info: what the algorithm reports of each, leading axis (length,), in this process's memory.
        drift: relative errors that p W + b had, where it was recomputed.
        scores: mean loss, and accuracy or R^2, by the names of the splits.
    """

    iteration: int
    end: TrainState
    length: int
    info: Any
    drift: Any
    scores: dict[str, Score]

    @property
    def before(self) -> int:
        """Number of the last iteration before it."""
        return self.iteration - self.length

    @property
    def finite(self) -> bool:
        """Whether all values are finite, after every iteration."""
        return bool(np.all(self.info.finite))

    def passes(self, every: int) -> bool:
        """Whether a multiple of ``every`` iterations is reached within it."""
        return self.before // every < self.iteration // every


class Programs:
    """Compiled programs, each made once for arguments of the same shapes, and the time it took."""

    def __init__(self) -> None:
        """None so far."""
        self.seconds = 0.0
        self._compiled: dict[Any, Any] = {}

    def compiled(self, function: Callable[..., Any], *arguments: Any, steps: int | None) -> Any:
        """The program of a function whose first argument is donated.

        Args:
            function: pure.
            *arguments: those it is going to be called with, or others of the same shapes.
            steps: its last argument, if it has one that is static.
        """
        leaves, structure = jax.tree.flatten(arguments)
        avals = tuple((jax.typeof(leaf), getattr(leaf, "sharding", None)) for leaf in leaves)
        key = function, steps, structure, avals
        if key not in self._compiled:
            begin = time.perf_counter()
            words = {} if steps is None else {"steps": steps}
            jitted = jax.jit(function, donate_argnums=0, static_argnames=tuple(words))
            self._compiled[key] = jitted.lower(*arguments, **words).compile()
            self.seconds += time.perf_counter() - begin
        return self._compiled[key]


def train(
    algorithm: Algorithm,
    start: TrainState,
    data: pdadmm.Data,
    key: PRNGKeyArray,
    schedule: Schedule,
    splits: Mapping[str, pdadmm.Data],
    programs: Programs | None = None,
) -> Iterator[Chunk]:
    """Trains, yielding after every evaluation.

    Args:
        algorithm: how.
        start: where to start; its arrays are donated.
        data: training samples.
        key: of the order of the samples.
        schedule: how far, and what happens on the way.
        splits: samples to evaluate on, by name.
        programs: compiled so far, to be shared by runs of the same shapes.
    """
    programs = Programs() if programs is None else programs
    state, config, seconds, compile_seconds = start
    done = start.iteration
    while done < schedule.iterations:
        end = schedule.next_end(done)
        layers = sum(number for at, number in schedule.growth if at == done)
        if layers and algorithm.grow is not None:
            state = jax.block_until_ready(algorithm.grow(state, config, layers))
        before = programs.seconds
        run = programs.compiled(algorithm.run, state, data, config, key, steps=end - done)
        refresh = None
        if algorithm.refresh is not None and schedule.refreshes(done, end):
            refresh = programs.compiled(algorithm.refresh, state, data, config, steps=None)
        compile_seconds += programs.seconds - before

        begin = time.perf_counter()
        state, info = run(state, data, config, key)
        drift = None
        if refresh is not None:
            state, drift = refresh(state, data, config)
        jax.block_until_ready((state, info))
        seconds += time.perf_counter() - begin

        yield Chunk(
            end,
            TrainState(state, config, seconds, compile_seconds),
            end - done,
            jax.tree.map(np.asarray, info),
            drift if drift is None else np.asarray(drift),
            evaluate(algorithm, state, config, splits),
        )
        done = end


def evaluate(
    algorithm: Algorithm, state: Any, config: Any, splits: Mapping[str, pdadmm.Data]
) -> dict[str, Score]:
    """Mean loss of the forward pass on every split, and its accuracy or R^2."""
    found = {name: algorithm.evaluate(state, data, config) for name, data in splits.items()}
    return {name: (float(loss), float(score)) for name, (loss, score) in found.items()}
