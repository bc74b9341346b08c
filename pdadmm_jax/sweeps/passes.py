"""Sweeps: ADMM whose samples pass once up and once down the layers, batch by batch.

The auxiliary variables of different samples know of each other through W and b alone.  So they
need not be kept: those of a batch are made anew wherever its samples pass.

    up      p = q = f(z) of the layer below, z = a = p W + b: every constraint holds;
    down    from the last layer to the first, each on its own and given u by the layer above,
                z = argmin (nu/2) ||z - a||^2 - <u, f(z)>       (R(z; y) in place of -<u, f(z)>
                                                                 in the last layer),
                u below = nu (z - a) W^T;
    then    W and b of all layers at once, by a ``Rule``.

Both lines of the way down are Algorithm 1's own, solved together rather than by turns: q is
eliminated from line 4 by Lemma 4, u = nu (q - f(z)), and u is what makes p stationary in line 1's
problem where p = q.  By turns, as in ``admm``, a signal is weakened at every boundary, by about 20
where nu = rho, and takes an iteration for each; here it arrives whole.  In the limit of large nu,
nu (z - a) is the negative gradient of the risk by a, as back-propagation computes it; what is
differentiated is f by its own argument, and every product is one that line 1 or line 2 of
Algorithm 1 has.

On several stages samples stream in blocks: while a stage takes one block up, the next one takes
the block before it, and others come down.  Each pipeline step sends one array up and one down
between neighbouring stages, as an iteration of ``admm`` does.

What is left of the paper's guarantees: each subproblem is solved exactly, and nothing moves where
the risk is stationary (for large nu).  Lemma 1 does not apply, for there is no Lagrangian kept from
step to step: that nu is large enough shows in the loss, which falls, or does not.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pdadmm_jax._typing import Array, Bool, Float, PRNGKeyArray, Shaped
from pdadmm_jax.numerics.differentiation import forward_mode_only
from pdadmm_jax.parallel.mesh import P, on_stages, shards, weight_specs
from pdadmm_jax.parallel.stage import Stage
from pdadmm_jax.problems.data import Data, as_arrays, check_data
from pdadmm_jax.problems.problem import at_precision_of
from pdadmm_jax.sweeps.config import Config
from pdadmm_jax.sweeps.pipeline import Batches, BatchMetrics, run_pass
from pdadmm_jax.sweeps.state import State, check_state


class Info(NamedTuple):
    """What a pass reports; ``run`` returns the same with a leading axis over passes.

    Attributes:
        loss: mean risk of every batch's samples as they went up, before the weights moved.
        converged: False for a batch with a z-problem that hit its iteration limit.
        finite: False once a weight or a loss is NaN or infinite.
    """

    loss: Float[Array, "*history updates"]
    converged: Bool[Array, "*history updates"]
    finite: Bool[Array, "*history"]


def step(
    state: State, data: Data, config: Config, key: Shaped[PRNGKeyArray, ""] | None = None
) -> tuple[State, Info]:
    """One pass over the data, batch by batch: every sample goes once up and once down.

    Args:
        state: weights, and what the rule keeps.
        data: training data, as many as there are; on a mesh, what ``shard_data`` made of them.
        config: numbers and structure.
        key: shuffles the samples; None to take them as they come.  On a mesh each data shard
            shuffles its own.

    Returns:
        The next state, living where the state does, and its info.

    Raises:
        TypeError: another kind of state.
        ValueError: data that do not fit the network, a batch that does not divide over the data
            shards, or reverse-mode differentiation through the step; forward mode works.
    """
    check_state(state, "step")
    return _step(state, as_arrays(data), at_precision_of(config, data.x.dtype), key)


def run(
    state: State,
    data: Data,
    config: Config,
    key: Shaped[PRNGKeyArray, ""] | None = None,
    *,
    steps: int,
) -> tuple[State, Info]:
    """Many passes in one dispatch.

    Args:
        state: weights, and what the rule keeps.
        data: training data.
        config: numbers and structure.
        key: shuffles the samples, differently in every pass; None to take them as they come.
        steps: how many passes, at least 1; a new number compiles again.

    Returns:
        The last state, and the info of all passes stacked along a new first axis.

    Raises:
        TypeError: another kind of state.
        ValueError: as ``step``, or no steps.
    """
    check_state(state, "run")
    if not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ValueError(f"steps is {steps}, but has to be a whole number, at least 1.")
    config = at_precision_of(config, data.x.dtype)
    return _run(state, as_arrays(data), config, key, int(steps))


@jax.jit
def _step(state: State, data: Data, config: Config, key: Array | None) -> tuple[State, Info]:
    return forward_mode_only(_one_pass(state, data, config, key))


@partial(jax.jit, static_argnums=4)
def _run(
    state: State, data: Data, config: Config, key: Array | None, steps: int
) -> tuple[State, Info]:
    keys = None if key is None else jax.random.split(key, steps)

    def body(state: State, key: Array | None) -> tuple[State, Info]:
        return _one_pass(state, data, config, key)

    return forward_mode_only(lax.scan(body, state, keys, length=steps))


def _one_pass(state: State, data: Data, config: Config, key: Array | None) -> tuple[State, Info]:
    placement, dtype = state.placement, state.weights.first.W.dtype
    check_data(data, state.plan.widths, config)
    if data.x.dtype != dtype:
        raise ValueError(f"x has dtype {data.x.dtype}, but the weights {dtype}: cast one of them.")
    specs = results = None
    devices = 1
    held = state.weights, state.rule_state
    if placement is not None:
        devices = shards(placement.mesh)
        own = weight_specs(placement.mesh, held)
        specs, results = (own, P()), (own, P())
    batches = batches_of(
        data.x.shape[0], config.batch, 0 if config.pipelined else config.block, devices
    )
    on_all = on_stages(partial(_stage_pass, batches), state.plan, placement, specs, results)
    (weights, rule_state), info = on_all((held, key), data, config)
    return State(weights, rule_state, state.iteration + 1, placement), info


def _stage_pass(
    batches: np.ndarray, stage: Stage, given: tuple[Any, Array | None], data: Data, config: Config
) -> tuple[Any, Info]:
    """One stage's part."""
    (weights, rule_state), key = given
    rows = jnp.asarray(batches)
    if key is not None:
        order = jax.random.permutation(key, jnp.arange(data.x.shape[0], dtype=jnp.int32))
        rows = jnp.where(rows >= 0, order[rows], -1)
    weights, rule_state, metrics = run_pass(
        stage, weights, rule_state, Batches(data, rows), config, config.pipelined
    )
    return (weights, rule_state), _info_of(stage, weights, metrics)


def _info_of(stage: Stage, weights: Any, metrics: BatchMetrics) -> Info:
    collectives = stage.collectives
    totals = collectives.samples.total(jnp.stack(metrics))
    metrics = BatchMetrics(*map(collectives.sum_over_stages, totals))
    broken = [~jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)]
    finite = collectives.sum_over_stages(jnp.sum(jnp.stack(broken), dtype=jnp.int32)) == 0
    loss = metrics.loss / metrics.number
    return Info(loss, metrics.unconverged == 0, finite & jnp.isfinite(loss).all())


def batches_of(samples: int, batch: int | None, block: int, devices: int) -> np.ndarray:
    """Which rows pass together, on each of the devices that share the samples.

    Args:
        samples: rows of all devices.
        batch: samples of all devices between two updates; None for all.
        block: samples of all devices that pass at a time; 0 for whole batches.
        devices: how many share the samples.

    Returns:
        Numbers of a device's own rows, (updates, blocks, rows); -1 for none.

    Raises:
        ValueError: a batch of which not every device has as many.
    """
    if batch is not None and batch % devices:
        raise ValueError(
            f"batch is {batch}, but {devices} data shards have to share it evenly: give a multiple."
        )
    own = samples // devices
    batch = min(own if batch is None else batch // devices, own)
    blocks = 1 if not block else math.ceil(batch / math.ceil(block / devices))
    height = math.ceil(batch / blocks)
    updates = math.ceil(own / batch)
    within = np.arange(blocks * height)
    rows = np.arange(updates)[:, None] * batch + within
    rows = np.where((within < batch) & (rows < own), rows, -1)
    return rows.reshape(updates, blocks, height).astype(np.int32)
