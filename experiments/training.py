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


class Chunk(NamedTuple):
    """What one dispatch did.

    Attributes:
        state: state after the chunk.
        info: reports of its iterations, on the host, leading axis (iterations,).
        seconds: training time since the start, compilation and evaluation apart.
        compile_seconds: time spent compiling since the start.
        train: mean loss and accuracy on the training samples.
        validation: the same on the held-out ones, if there are any.
        layers: depth of the network.
        drift: largest relative error that p W + b had, if it was computed anew.
    """

    state: pdadmm.State
    info: pdadmm.Info
    seconds: float
    compile_seconds: float
    train: Score
    validation: Score | None
    layers: int
    drift: float | None

    @property
    def iteration(self) -> int:
        """Number of the last iteration done, from 1."""
        return int(self.state.iteration)


def train(
    state: pdadmm.State,
    splits: Splits,
    hyper: pdadmm.Hyperparameters,
    *,
    iterations: int,
    evaluate_every: int,
    refresh_every: int,
    grow_at: tuple[int, ...] = (),
    grow_by: int = 0,
) -> Iterator[Chunk]:
    """Runs the iterations, yielding after every evaluation.

    Args:
        state: where to start.
        splits: data.
        hyper: hyperparameters.
        iterations: how many.
        evaluate_every: iterations between two evaluations.
        refresh_every: iterations after which the next evaluation computes p W + b anew.
        grow_at: iterations after which the network grows.
        grow_by: layers inserted each time.
    """
    run = jax.jit(pdadmm.run, static_argnames="iterations", donate_argnames="state")
    refresh = jax.jit(pdadmm.refresh, donate_argnames="state")
    seconds = compile_seconds = 0.0
    done = 0
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
            state=state,
            info=jax.tree.map(np.asarray, info),
            seconds=seconds,
            compile_seconds=compile_seconds,
            train=score(splits.train),
            validation=score(splits.validation) if splits.validation else None,
            layers=len(params),
            drift=None if drift is None else float(drift.max()),
        )


def score_of(params: pdadmm.Params, data: pdadmm.Data, hyper: pdadmm.Hyperparameters) -> Score:
    """Mean loss and accuracy of the forward pass."""
    loss, accuracy = pdadmm.loss_and_accuracy(params, data, hyper)
    return float(loss), float(accuracy)
