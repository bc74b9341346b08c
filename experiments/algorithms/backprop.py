"""Back-propagation with Optax: full batch, as the paper compares itself, and in mini-batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

import pdadmm_jax as pdadmm
from experiments.algorithms.algorithm import Algorithm
from pdadmm_jax._typing import Array, Float, Int, PRNGKeyArray
from pdadmm_jax.sweeps.samples import batches_of

Optimizer = Callable[[Any], optax.GradientTransformation]  # of the learning rate


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["rate", "problem"],
    meta_fields=["optimizer", "batch"],
)
@dataclass(frozen=True)
class Config:
    """An optimizer and its learning rate.

    Attributes:
        rate: learning rate.
        problem: activation and loss.
        optimizer: made of the learning rate.
        batch: samples between two updates of the weights; None for all of them.
    """

    rate: Any
    problem: pdadmm.admm.Config
    optimizer: Optimizer = field(metadata={"static": True})
    batch: int | None = None


class State(NamedTuple):
    """Weights and the optimizer's state."""

    params: pdadmm.Params
    optimizer_state: Any
    iteration: Int[Array, ""]


class Info(NamedTuple):
    """What a pass did: the mean of its gradients' losses, and whether that is finite."""

    loss: Float[Array, ""]
    finite: Any


def from_params(params: pdadmm.Params, data: pdadmm.Data, config: Config) -> State:
    """The state at these weights."""
    del data
    params = jax.tree.map(jnp.array, params)
    return State(params, config.optimizer(config.rate).init(params), jnp.zeros((), jnp.int32))


def run(
    state: State, data: pdadmm.Data, config: Config, key: PRNGKeyArray, steps: int
) -> tuple[State, Info]:
    """Some passes: a step on the gradient over all samples, or one for each batch."""

    def one_pass(state: State, _: None) -> tuple[State, Info]:
        if config.batch is None:
            state, loss = _step(state, data, config)
        else:
            order = jax.random.fold_in(key, state.iteration)
            state, loss = _pass_in_batches(state, data, config, config.batch, order)
        return state._replace(iteration=state.iteration + 1), Info(loss, jnp.isfinite(loss))

    return lax.scan(one_pass, state, length=steps)


def _pass_in_batches(
    state: State, data: pdadmm.Data, config: Config, batch: int, key: PRNGKeyArray
) -> tuple[State, Array]:
    """A step for every batch of a random order, the last of which may be smaller."""
    samples = data.x.shape[0]
    order = jax.random.permutation(key, samples)
    batches = batches_of(samples, batch, block=0, devices=1)[:, 0]  # as the sweeps have them
    full = bool((batches >= 0).all())

    def step(state: State, rows: Array) -> tuple[State, Array]:
        chosen = order[rows]
        valid = None if full else rows >= 0
        return _step(state, pdadmm.Data(data.x[chosen], data.y[chosen], valid), config)

    state, losses = lax.scan(step, state, jnp.asarray(batches))
    return state, jnp.mean(losses)


def _step(state: State, data: pdadmm.Data, config: Config) -> tuple[State, Array]:
    loss, gradient = jax.value_and_grad(pdadmm.loss)(state.params, data, config.problem)
    optimizer = config.optimizer(config.rate)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return state._replace(params=params, optimizer_state=optimizer_state), loss


def evaluate(state: State, data: pdadmm.Data, config: Config) -> tuple[Any, Any]:
    """Mean loss and accuracy of the forward pass."""
    return pdadmm.evaluate(state.params, data, config.problem)


BACKPROP = Algorithm(from_params, run, evaluate, params=lambda state: state.params)
