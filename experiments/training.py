"""The training loop: chunks of iterations on the device, an evaluation after each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

import pdadmm_jax as pdadmm
from experiments.build import Splits

Score = tuple[float, float]  # mean loss and accuracy of the forward pass


class Start(NamedTuple):
    """All that the next iteration depends on, and the time it took to come here.

    Attributes:
        state: the variables; its counter says how many iterations were done.
        hyper: hyperparameters from here on.
        seconds: training time so far, compilation and evaluation apart.
        compile_seconds: time spent compiling so far.
    """

    state: pdadmm.State
    hyper: pdadmm.Hyperparameters
    seconds: float = 0.0
    compile_seconds: float = 0.0

    @property
    def iteration(self) -> int:
        """Number of the last iteration done, from 1."""
        return int(self.state.iteration)


class Chunk(NamedTuple):
    """What one dispatch did.

    Attributes:
        end: where the next chunk starts.
        info: reports of its iterations, on the host, leading axis (iterations,).
        train: mean loss and accuracy on the training samples.
        validation: the same on the held-out ones, if there are any.
        layers: depth of the network.
        drift: largest relative error that p W + b had, if it was computed anew.
    """

    end: Start
    info: pdadmm.Info
    train: Score
    validation: Score | None
    layers: int
    drift: float | None

    @property
    def iteration(self) -> int:
        """Number of its last iteration, from 1."""
        return self.end.iteration

    @property
    def before(self) -> int:
        """Number of the last iteration before it."""
        return self.iteration - len(self.info.finite)

    def passes(self, every: int) -> bool:
        """Whether a multiple of ``every`` iterations is reached within it."""
        return self.before // every < self.iteration // every


def train(
    start: Start,
    splits: Splits,
    *,
    iterations: int,
    evaluate_every: int,
    refresh_every: int,
    grow_at: tuple[int, ...] = (),
    grow_by: int = 0,
) -> Iterator[Chunk]:
    """Runs the iterations, yielding after every evaluation.

    Where chunks end follows from the iterations' numbers alone, so that a run that goes on from
    the end of a chunk computes what it would have computed without the pause.

    Args:
        start: where to start; its state is used up.
        splits: data.
        iterations: number of the last one.
        evaluate_every: iterations between two evaluations.
        refresh_every: iterations after which the next evaluation computes p W + b anew.
        grow_at: iterations after which the network grows.
        grow_by: layers inserted each time.
    """
    run = jax.jit(pdadmm.run, static_argnames="iterations", donate_argnames="state")
    refresh = jax.jit(pdadmm.refresh, donate_argnames="state")
    state, hyper, seconds, compile_seconds = start
    done = start.iteration
    programs = {}

    def ready(key: Any, function: Any, **static: int) -> Any:
        nonlocal compile_seconds
        if key not in programs:
            begin = time.perf_counter()
            programs[key] = function.lower(state, splits.solved, hyper, **static).compile()
            compile_seconds += time.perf_counter() - begin
        return programs[key]

    while done < iterations:
        growths = [at for at in grow_at if at > done]
        stop = min(iterations, done - done % evaluate_every + evaluate_every, *growths)
        if done in grow_at:
            state = pdadmm.grow(state, hyper, grow_by)
            programs.clear()
        iterate = ready(stop - done, run, iterations=stop - done)
        anew = ready("refresh", refresh) if done // refresh_every < stop // refresh_every else None

        begin = time.perf_counter()
        state, info = iterate(state, splits.solved, hyper)
        drift = None
        if anew is not None:
            state, drift = anew(state, splits.solved, hyper)
        jax.block_until_ready((state, info))
        seconds += time.perf_counter() - begin
        done = stop

        params = pdadmm.params(state)
        score = partial(score_of, params, hyper=hyper.replace(precision="float32"))
        yield Chunk(
            end=Start(state, hyper, seconds, compile_seconds),
            info=jax.tree.map(np.asarray, info),
            train=score(splits.train),
            validation=score(splits.validation) if splits.validation else None,
            layers=len(params),
            drift=None if drift is None else float(drift.max()),
        )


def score_of(params: pdadmm.Params, data: pdadmm.Data, hyper: pdadmm.Hyperparameters) -> Score:
    """Mean loss and accuracy of the forward pass."""
    loss, accuracy = pdadmm.loss_and_accuracy(params, data, hyper)
    return float(loss), float(accuracy)
