"""The training loop: chunks of iterations on the device, an evaluation after each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

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
    """

    state: pdadmm.State
    info: pdadmm.Info
    seconds: float
    compile_seconds: float
    train: Score
    validation: Score | None
    layers: int

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
        grow_at: iterations after which the network grows.
        grow_by: layers inserted each time.
    """
    run = jax.jit(pdadmm.run, static_argnames="iterations", donate_argnames="state")
    seconds = compile_seconds = 0.0
    done = 0
    compiled = {}
    while done < iterations:
        growths = [at for at in grow_at if at > done]
        stop = min(iterations, done - done % evaluate_every + evaluate_every, *growths)
        if done in grow_at:
            state = pdadmm.grow(state, hyper, grow_by)
            compiled.clear()
        length = stop - done
        if length not in compiled:
            begin = time.perf_counter()
            lowered = run.lower(state, splits.solved, hyper, iterations=length)
            compiled[length] = lowered.compile()
            compile_seconds += time.perf_counter() - begin

        begin = time.perf_counter()
        state, info = jax.block_until_ready(compiled[length](state, splits.solved, hyper))
        seconds += time.perf_counter() - begin
        done = stop

        params = pdadmm.params(state)
        score = partial(score_of, params, hyper=hyper)
        yield Chunk(
            state=state,
            info=jax.tree.map(np.asarray, info),
            seconds=seconds,
            compile_seconds=compile_seconds,
            train=score(splits.train),
            validation=score(splits.validation) if splits.validation else None,
            layers=len(params),
        )


def score_of(params: pdadmm.Params, data: pdadmm.Data, hyper: pdadmm.Hyperparameters) -> Score:
    """Mean loss and accuracy of the forward pass."""
    loss, accuracy = pdadmm.loss_and_accuracy(params, data, hyper)
    return float(loss), float(accuracy)
