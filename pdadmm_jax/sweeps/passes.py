"""Sweeps: ADMM whose samples pass once up and once down the layers, batch by batch.

The auxiliary variables of different samples know of each other through W and b alone.  So they
need not be kept: those of a batch are made anew wherever its samples pass.

    up      p = q = f(z) of the layer below, z = a = p W + b: every constraint holds
            (q = f(z) + p at the end of a residual block, ``Config.residual_block``);
    down    from the last layer to the first, each on its own and given u by the layer above,
                z = argmin (nu/2) ||z - a||^2 - <u, f(z)>       (R(z; y) in place of -<u, f(z)>
                                                                 in the last layer),
                u below = nu (z - a) W^T (+ u of the block's end, where a residual block begins);
    then    W and b of all layers at once, by a ``Rule``.

Both lines of the way down are Algorithm 1's own, solved together rather than by turns: q is
eliminated from line 4 by Lemma 4, u = nu (q - f(z)), and u is what makes p stationary in line 1's
problem where p = q.  By turns, as in ``admm``, a signal is weakened at every boundary, by about 20
where nu = rho, and takes an iteration for each; here it arrives whole.  In the limit of large nu,
nu (z - a) is the negative gradient of the risk by a, as back-propagation computes it; what is
differentiated is f by its own argument, and every product is one that line 1 or line 2 of
Algorithm 1 has.

On several stages samples stream in blocks (``pipeline``): while a stage takes one block up, the
next one takes the block before it, and others come down.  Each pipeline step sends one array up and
one down between neighbouring stages, as an iteration of ``admm`` does.  Which weights a block meets
is a matter of the schedule (``Config.schedule``).

What is left of the paper's guarantees: each subproblem is solved exactly, and nothing moves where
the risk is stationary (for large nu).  Lemma 1 does not apply, for there is no Lagrangian kept from
step to step: that nu is large enough shows in the loss, which falls, or does not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pdadmm_jax._checks import check_count, check_key
from pdadmm_jax._surroundings import isolated, nan_for_no_samples
from pdadmm_jax._typing import Array, Bool, Float, PRNGKeyArray, Shaped
from pdadmm_jax.numerics.differentiation import forward_mode_only
from pdadmm_jax.parallel.groups import UNROLLED, LayerGroups, heights, join_stacks, split_stacks
from pdadmm_jax.parallel.mesh import (
    P,
    in_flight_specs,
    key_beside,
    on_stages,
    settled,
    shards,
    weight_specs,
)
from pdadmm_jax.parallel.stage import Stage
from pdadmm_jax.problems.data import Data, as_arrays, check_data
from pdadmm_jax.problems.problem import at_precision_of
from pdadmm_jax.sweeps.config import Config, check_config
from pdadmm_jax.sweeps.samples import batches_of, shuffled
from pdadmm_jax.sweeps.schedules import run_pass
from pdadmm_jax.sweeps.start import restarted_if_needed
from pdadmm_jax.sweeps.state import State, check_state
from pdadmm_jax.sweeps.stream import EMPTIED, microbatches


class Info(NamedTuple):
    """What a pass reports; ``run`` returns the same with a leading axis over passes.

    The entries are about the samples that came to the last layer between one update and the next.
    Where no stage waits these are not the samples that entered meanwhile, and as long as the first
    ones are on their way to the last layer, there are none.

    Attributes:
        loss: their mean risk, at the weights that they met; NaN for no samples.
        converged: False where a z-problem hit its iteration limit meanwhile.
        finite: False once a weight or a loss is NaN or infinite.
    """

    loss: Float[Array, "*history updates"]
    converged: Bool[Array, "*history updates"]
    finite: Bool[Array, "*history"]


@isolated
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
    state, data, config, key = _checked(state, data, config, key)
    with nan_for_no_samples(_reports_no_samples(state, config)):
        return _step(state, data, config, key)


@isolated
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
    steps = check_count("steps", steps)
    state, data, config, key = _checked(state, data, config, key)
    with nan_for_no_samples(_reports_no_samples(state, config)):
        return _run(state, data, config, key, steps)


def _reports_no_samples(state: State, config: Config) -> bool:
    """Whether updates may be reported to which no samples have come."""
    return state.plan.reach > 0 and config.schedule not in EMPTIED


def _checked(
    state: State, data: Data, config: Config, key: Array | None
) -> tuple[State, Data, Config, Array | None]:
    """What a pass is given, in the form it takes; see ``step`` for the errors raised."""
    check_config(config)
    if key is not None:
        check_key(key)
    data = as_arrays(data)
    check_data(data, state.plan.widths, config)
    dtype = jax.tree.leaves(state.weights)[0].dtype
    if data.x.dtype != dtype:
        raise ValueError(f"x has dtype {data.x.dtype}, but the weights {dtype}: cast one of them.")
    key = key_beside(key, data.x, state.placement)
    return settled(state, state.placement), data, at_precision_of(config, dtype), key


@jax.jit
def _step(state: State, data: Data, config: Config, key: Array | None) -> tuple[State, Info]:
    state, info = _passes(state, data, config, None if key is None else key[None], steps=1)
    return forward_mode_only((state, jax.tree.map(lambda every: every[0], info)))


@partial(jax.jit, static_argnums=4)
def _run(
    state: State, data: Data, config: Config, key: Array | None, steps: int
) -> tuple[State, Info]:
    keys = None if key is None else jax.random.split(key, steps)
    return forward_mode_only(_passes(state, data, config, keys, steps))


def _passes(
    state: State, data: Data, config: Config, keys: Array | None, steps: int
) -> tuple[State, Info]:
    state, placement = restarted_if_needed(state, data, config), state.placement
    specs = results = None
    devices = 1
    held = state.weights, state.rule_state, state.in_flight
    if placement is not None:
        devices = shards(placement.mesh)
        own = weight_specs(placement.mesh, held[:2])
        own = (*own, in_flight_specs(placement.mesh, state.in_flight))
        specs, results = (own, P()), (own, P())
    one_block = state.plan.reach and config.schedule != "synchronous"
    number = microbatches(config, state.plan.reach)
    batches = batches_of(
        data.x.shape[0], config.batch, 0 if one_block else config.block, devices, number
    )
    function = partial(_stage_passes, batches, steps)
    on_all = on_stages(function, state.plan, placement, specs, results)
    held, info = on_all((held, keys), data, config)
    return state._replace(
        weights=held[0], rule_state=held[1], in_flight=held[2], iteration=state.iteration + steps
    ), info


def _stage_passes(
    numbers: np.ndarray,
    steps: int,
    stage: Stage,
    given: tuple[Any, Array | None],
    data: Data,
    config: Config,
) -> tuple[Any, Info]:
    """One stage's part of some passes."""
    held, keys = given

    def one_pass(carry: Any, key: Array | None) -> tuple[Any, Array]:
        carry, metrics = run_pass(stage, carry, shuffled(data, numbers, key), config)
        broken = [~jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(carry[0])]
        broken = jnp.sum(jnp.stack(broken), dtype=metrics.loss.dtype)
        totals = stage.collectives.samples.total(jnp.stack(metrics))
        return carry, jnp.vstack([totals, jnp.full(totals.shape[1], broken)])

    layers = heights(held[0]) if stage.plan.alike else []
    # Systems of equations take long to compile, and layers of one shape share theirs.
    unrolled = stage.plan.alike and sum(layers) <= UNROLLED
    if unrolled:
        held = _on_groups(partial(split_stacks, heights=layers), held)
    held, sums = lax.scan(one_pass, held, keys, length=steps)
    if unrolled:
        held = _on_groups(partial(join_stacks, heights=layers), held)
    return held, _info_of(*jnp.moveaxis(stage.collectives.sum_over_stages(sums), 1, 0))


def _on_groups(function: Callable[[LayerGroups], LayerGroups], tree: Any) -> Any:
    """Applies a function to all groups of layers in a pytree."""

    def grouped(one: Any) -> bool:
        return isinstance(one, LayerGroups)

    return jax.tree.map(lambda one: function(one) if grouped(one) else one, tree, is_leaf=grouped)


def _info_of(loss: Array, number: Array, unconverged: Array, broken: Array) -> Info:
    """What is reported of sums over all devices, (passes, updates) each."""
    loss /= number
    sound = jnp.isfinite(loss) | (number == 0)
    return Info(loss, unconverged == 0, (broken == 0).all(-1) & sound.all(-1))
