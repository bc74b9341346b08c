"""The augmented Lagrangian, term by term."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._surroundings import isolated
from pdadmm_jax._typing import AnyArray, Array, Float
from pdadmm_jax.admm.config import Config
from pdadmm_jax.admm.exchange import f_below, from_below, top_of, tops_of
from pdadmm_jax.admm.packed import read
from pdadmm_jax.admm.state import (
    AnyState,
    Boundary,
    Held,
    StageVariables,
    check_match,
    check_state,
    dtype_of,
    split,
)
from pdadmm_jax.numerics.reductions import row_sums
from pdadmm_jax.parallel.mesh import P, on_stages, state_specs
from pdadmm_jax.parallel.packing import fit, message_widths
from pdadmm_jax.parallel.stage import Stage, sum_over_devices
from pdadmm_jax.problems.data import Data, as_arrays
from pdadmm_jax.problems.problem import at_precision_of

# One number, or one per iteration in the history that ``run`` returns; on the host a NumPy array.
Value = Float[AnyArray, "*history"]


class Terms(NamedTuple):
    """The terms of the augmented Lagrangian L_rho (section III of the paper)."""

    risk: Value  # R(z_L; y), summed over samples
    linear: Value  # (nu/2) sum ||z - p W - b||^2
    activation: Value  # (nu/2) sum ||q - f(z)||^2
    weight: Value  # (mu/2) sum ||W||^2
    dual: Value  # sum <u, p - q>
    consensus: Value  # (rho/2) sum ||p - q||^2

    @property
    def objective(self) -> Value:
        """The objective F of Problem 2."""
        return self.risk + self.linear + self.activation + self.weight

    @property
    def lagrangian(self) -> Value:
        """L_rho."""
        return self.objective + self.dual + self.consensus


@isolated
def terms(state: AnyState, data: Data, config: Config) -> Terms:
    """The terms of the augmented Lagrangian at a state.

    Args:
        state: any state.
        data: the data it was made for.
        config: penalties, solvers and structure.

    Raises:
        ValueError: data of another shape or dtype than the state's.
    """
    check_state(state, "terms")
    return _terms(state, as_arrays(data), at_precision_of(config, dtype_of(state)))


def norm(square: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """The root of a sum of squares, whose derivative at zero is zero."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def layer_terms(
    stage: Stage, variables: StageVariables, residuals: Iterable[Array], data: Data, config: Config
) -> Terms:
    """One stage's part of the terms within layers, for its own samples; the others are zero.

    Args:
        stage: the stage.
        variables: what it holds.
        residuals: ||z - a||^2 of all its layers, in any parts.
        data: its samples.
        config: penalties, solvers and structure.
    """
    risk = jnp.sum(data.keep(config.loss.value(variables.last_output.z[0], data.y)))
    first, stacks, edge, last = variables.weights
    weights = [group.W for group in (first, *stacks, edge, last) if group is not None]
    zero = jnp.zeros_like(risk)
    return Terms(
        risk=jnp.where(stage.holds_last, risk, zero),
        linear=0.5 * config.nu * _sum_of(map(jnp.sum, residuals)),
        activation=zero,
        weight=0.5 * config.mu * _sum_of(jnp.sum(W**2) for W in weights),
        dual=zero,
        consensus=zero,
    )


class BoundarySums(NamedTuple):
    """What stacked boundaries add to the Lagrangian: sums over the samples at hand."""

    gap: Float[Array, " n"]  # ||p - q||^2
    dual: Float[Array, " n"]  # <u, p - q>
    activation: Float[Array, " n"]  # ||q - f(z)||^2


def boundary_sums(boundary: Boundary, f_below: Float[Array, "n N h"]) -> BoundarySums:
    """The sums of stacked boundaries, f_below being f(z) of the layers below them."""
    p, q, u = boundary
    gap = p - q
    sums = row_sums(gap**2, u * gap, (q - f_below) ** 2)
    return BoundarySums(*(jnp.sum(rows, 1) for rows in sums))


def boundary_terms(sums: Sequence[BoundarySums], config: Config) -> Terms:
    """One stage's part of the terms between layers, for its own samples; the others are zero."""
    gap, dual, activation = map(_sum_of, zip(*(map(jnp.sum, one) for one in sums), strict=True))
    zero = jnp.zeros((), dual.dtype)
    return Terms(
        risk=zero,
        linear=zero,
        activation=0.5 * config.nu * activation,
        weight=zero,
        dual=dual,
        consensus=0.5 * config.rho * gap,
    )


def _sum_of(numbers: Iterable[Array]) -> Array:
    return jnp.sum(jnp.stack(list(numbers)))


@jax.jit
def _terms(state: AnyState, data: Data, config: Config) -> Terms:
    check_match(state, data, config)
    held, placement = split(state), state.placement
    specs = None if placement is None else state_specs(placement.mesh, held)
    return on_stages(_all_terms, state.plan, placement, specs, P())(held, data, config)


def _all_terms(stage: Stage, held: Held, data: Data, config: Config) -> Terms:
    received = stage.collectives.shift_up(top_of(stage, held.variables, data, config))

    def on_own(own: Stage, variables: StageVariables) -> Terms:
        below = fit(received, message_widths(own)[0])
        return _own_terms(own, variables, below, data, config)

    own = read(stage, on_own, held.variables)
    by_sample, weight = sum_over_devices(stage, own._replace(weight=()), own.weight)
    return by_sample._replace(weight=weight)


def _own_terms(
    stage: Stage, variables: StageVariables, received: Array, data: Data, config: Config
) -> Terms:
    """One stage's part of all terms, given f(z) of the stage below."""
    groups = [variables.edge_output, *variables.stacks, variables.last_output]
    within = layer_terms(
        stage, variables, [(group.z - group.a) ** 2 for group in groups], data, config
    )
    lows = from_below(tops_of(variables, data, config), received, stage)
    z = [*(stack.z for stack in variables.stacks), variables.last_output.z]
    f = [f_below(low, upper, data, config) for low, upper in zip(lows, z, strict=True)]
    between = boundary_terms(list(map(boundary_sums, variables.boundaries, f)), config)
    return jax.tree.map(jnp.add, within, between)
