"""Back-propagation with Optax: full batch, as the paper compares itself, and in mini-batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

import pdadmm_jax as pdadmm
from experiments.compare.methods.method import Method
from pdadmm_jax._typing import Array, PRNGKeyArray
from pdadmm_jax.sweeps.passes import batches_of

Optimizer = Callable[[Any], optax.GradientTransformation]  # of the learning rate

BATCH = 128


def batches_in(samples: int) -> int:
    """Updates of a pass in batches, the last of which may be smaller."""
    return math.ceil(samples / BATCH)


class Descent(NamedTuple):
    """Weights, what the optimizer remembers, and what chooses the next order of the samples."""

    params: pdadmm.Params
    memory: Any
    key: PRNGKeyArray


def full_batch(
    title: str, optimizer: Optimizer, candidates: tuple[float, ...], published: float | None
) -> Method:
    """A pass is one step along the gradient over all samples."""

    def one_pass(
        state: Descent, data: pdadmm.Data, hyper: pdadmm.Hyperparameters, rate: Array
    ) -> Descent:
        return _step(state, data, hyper, optimizer(rate))

    return _method(title, optimizer, candidates, published, one_pass, lambda samples: 1)


def mini_batches(title: str, optimizer: Optimizer, candidates: tuple[float, ...]) -> Method:
    """A pass is a step for every batch of a random order, the last of which may be smaller."""

    def one_pass(
        state: Descent, data: pdadmm.Data, hyper: pdadmm.Hyperparameters, rate: Array
    ) -> Descent:
        samples = data.x.shape[0]
        key, own = jax.random.split(state.key)
        order = jax.random.permutation(own, samples)

        def step(state: Descent, rows: Array) -> tuple[Descent, None]:
            chosen = order[rows]
            batch = pdadmm.Data(data.x[chosen], data.y[chosen], rows >= 0)
            return _step(state, batch, hyper, optimizer(rate)), None

        batches = batches_of(samples, BATCH, block=0, devices=1)[:, 0]  # as the sweeps have them
        return lax.scan(step, state._replace(key=key), jnp.asarray(batches))[0]

    return _method(title, optimizer, candidates, None, one_pass, batches_in)


def _method(
    title: str,
    optimizer: Optimizer,
    candidates: tuple[float, ...],
    published: float | None,
    one_pass: Callable[[Descent, pdadmm.Data, pdadmm.Hyperparameters, Array], Descent],
    steps: Callable[[int], int],
) -> Method:
    def start(
        params: pdadmm.Params,
        key: PRNGKeyArray,
        data: pdadmm.Data,
        hyper: pdadmm.Hyperparameters,
        rate: Array,
    ) -> Descent:
        return Descent(params, optimizer(rate).init(params), key)

    def advance(
        state: Descent,
        data: pdadmm.Data,
        hyper: pdadmm.Hyperparameters,
        rate: Array,
        passes: int,
    ) -> Descent:
        def body(state: Descent, _: None) -> tuple[Descent, None]:
            return one_pass(state, data, hyper, rate), None

        return lax.scan(body, state, length=passes)[0]

    return Method(
        title=title,
        number="rate",
        candidates=candidates,
        published=published,
        start=start,
        advance=advance,
        params=lambda state: state.params,
        hops=lambda boundaries, samples: 2 * boundaries * steps(samples),  # forward and back
    )


def _step(
    state: Descent,
    data: pdadmm.Data,
    hyper: pdadmm.Hyperparameters,
    optimizer: optax.GradientTransformation,
) -> Descent:
    slope = jax.grad(pdadmm.mean_loss)(state.params, data, hyper)
    updates, memory = optimizer.update(slope, state.memory, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return state._replace(params=params, memory=memory)
