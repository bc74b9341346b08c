"""The augmented Lagrangian, term by term, and the primal residual."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import AnyArray, Array, Float
from pdadmm_jax.admm.config import Hyperparameters, at_precision_of
from pdadmm_jax.admm.exchange import f_below, from_below, tops_of
from pdadmm_jax.admm.state import (
    Boundary,
    Data,
    State,
    as_arrays,
    boundaries_of,
    check_match,
    dtype_of,
    plan_of,
)
from pdadmm_jax.numerics.reductions import row_sums
from pdadmm_jax.parallel.mesh import P, on_stages, specs_of, whole
from pdadmm_jax.parallel.stage import Stage, add_up, gather

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


def terms(state: State, data: Data, hyper: Hyperparameters) -> Terms:
    """The terms of the augmented Lagrangian at a state.

    Args:
        state: any state.
        data: the data it was made for.
        hyper: hyperparameters.

    Raises:
        ValueError: data of another shape or dtype than the state's.
    """
    return _terms(state, as_arrays(data), at_precision_of(hyper, dtype_of(state)))


@jax.jit
def primal_residual(state: State) -> Float[Array, " boundaries"]:
    """||p_{l+1} - q_l||_F of every boundary, l = 1..L-1."""
    plan = plan_of(state)
    layers = [*plan.stack, *(head or plan.depth + 1 for head in plan.inputs)]
    squares = jnp.concatenate([jnp.sum((p - q) ** 2, (1, 2)) for p, q, _ in boundaries_of(state)])
    residual = jnp.sqrt(gather(jnp.asarray(layers) - 1, squares, plan.depth)[1:])
    return residual if state.placement is None else whole(residual, state.placement.mesh)


def layer_terms(
    stage: Stage, state: State, residuals: Iterable[Array], data: Data, hyper: Hyperparameters
) -> Terms:
    """One stage's part of the terms within layers, for its own samples; the others are zero.

    Args:
        stage: the stage.
        state: its variables.
        residuals: ||z - a||^2 of all its layers, in any parts.
        data: its samples.
        hyper: hyperparameters.
    """
    risk = jnp.sum(data.keep(hyper.loss.value(state.layers[-1].z[0], data.y)))
    weights = [layer.W for layer in state.layers] + ([state.link.W] if state.link else [])
    zero = jnp.zeros_like(risk)
    return Terms(
        risk=jnp.where(stage.last, risk, zero),
        linear=0.5 * hyper.nu * _sum_of(map(jnp.sum, residuals)),
        activation=zero,
        weight=0.5 * hyper.mu * _sum_of(jnp.sum(W**2) for W in weights),
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


def boundary_terms(sums: Sequence[BoundarySums], hyper: Hyperparameters) -> Terms:
    """One stage's part of the terms between layers, for its own samples; the others are zero."""
    gap, dual, activation = map(_sum_of, zip(*(map(jnp.sum, one) for one in sums), strict=True))
    zero = jnp.zeros((), dual.dtype)
    return Terms(
        risk=zero,
        linear=zero,
        activation=0.5 * hyper.nu * activation,
        weight=zero,
        dual=dual,
        consensus=0.5 * hyper.rho * gap,
    )


def _sum_of(numbers: Iterable[Array]) -> Array:
    return jnp.sum(jnp.stack(list(numbers)))


@jax.jit
def _terms(state: State, data: Data, hyper: Hyperparameters) -> Terms:
    check_match(state, data, hyper)
    function = on_stages(
        _all_terms, plan_of(state), state.placement, specs_of(state, dtype_of(state)), P()
    )
    return function(state, data, hyper)


def _all_terms(stage: Stage, state: State, data: Data, hyper: Hyperparameters) -> Terms:
    residuals = [(layer.z - layer.a) ** 2 for layer in state.layers]
    within = layer_terms(stage, state, residuals, data, hyper)
    tops = tops_of(state, data, hyper)
    lows = from_below(tops, stage.mail.upward(tops[-1]), stage)
    f = [f_below(low, s.z, data, hyper) for s, low in zip(state.layers[1:], lows, strict=True)]
    sums = list(map(boundary_sums, boundaries_of(state), f))
    between = boundary_terms(sums, hyper)
    own = jax.tree.map(jnp.add, within, between)
    split, weight = add_up(stage, own._replace(weight=()), own.weight)
    return split._replace(weight=weight)
