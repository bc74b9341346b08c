"""The augmented Lagrangian, term by term, and the primal residual."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.hyperparameters import Hyperparameters, at_precision_of
from pdadmm_jax.mesh import P, on_stages, specs_of, whole
from pdadmm_jax.neighbours import from_below, outputs_of, topmost
from pdadmm_jax.stage import Stage, add_up, gather
from pdadmm_jax.state import Data, State, as_arrays, boundaries_of, check_match, dtype_of, plan_of

# One number, or one per iteration in the history that ``run`` returns.
Value = Float[Array, "*history"]


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
    residual = jnp.sqrt(_squares_by_layer(state, jnp.asarray(layers) - 1, plan.depth))
    return residual if state.placement is None else whole(residual, state.placement.mesh)


def layer_terms(stage: Stage, state: State, data: Data, hyper: Hyperparameters) -> Terms:
    """One stage's part of the terms within layers, for its own samples; the others are zero."""
    risk = jnp.sum(data.keep(hyper.loss.value(state.layers[-1].z[0], data.y)))
    weights = [layer.W for layer in state.layers] + ([state.link.W] if state.link else [])
    zero = jnp.zeros_like(risk)
    return Terms(
        risk=jnp.where(stage.last, risk, zero),
        linear=0.5 * hyper.nu * _sum_of(jnp.sum((s.z - s.a) ** 2) for s in state.layers),
        activation=zero,
        weight=0.5 * hyper.mu * _sum_of(jnp.sum(W**2) for W in weights),
        dual=zero,
        consensus=zero,
    )


def boundary_terms(state: State, f_below: list[Array], hyper: Hyperparameters) -> Terms:
    """One stage's part of the terms between layers, for its own samples; the others are zero.

    Args:
        state: its variables.
        f_below: f(z) of the layers below its boundaries.
        hyper: hyperparameters.
    """
    boundaries = boundaries_of(state)
    zero = jnp.zeros((), boundaries[-1].p.dtype)
    pairs = zip(boundaries, f_below, strict=True)
    return Terms(
        risk=zero,
        linear=zero,
        activation=0.5 * hyper.nu * _sum_of(jnp.sum((b.q - f) ** 2) for b, f in pairs),
        weight=zero,
        dual=_sum_of(jnp.sum(b.u * (b.p - b.q)) for b in boundaries),
        consensus=0.5 * hyper.rho * _sum_of(jnp.sum((b.p - b.q) ** 2) for b in boundaries),
    )


def _sum_of(numbers: Iterable[Array]) -> Array:
    return jnp.sum(jnp.stack(list(numbers)))


def squared_residuals(stage: Stage, state: State) -> Float[Array, " boundaries"]:
    """One stage's part of ||p_{l+1} - q_l||_F^2 of every boundary, for its own samples."""
    return _squares_by_layer(state, stage.inputs, stage.depth)


@jax.jit
def _terms(state: State, data: Data, hyper: Hyperparameters) -> Terms:
    check_match(state, data, hyper)
    function = on_stages(
        _all_terms, plan_of(state), state.placement, specs_of(state, dtype_of(state)), P()
    )
    return function(state, data, hyper)


def _all_terms(stage: Stage, state: State, data: Data, hyper: Hyperparameters) -> Terms:
    outputs = outputs_of(state, data, hyper)
    arrived = stage.mail.upward(topmost(outputs))
    within = layer_terms(stage, state, data, hyper)
    between = boundary_terms(state, from_below(outputs, arrived, stage), hyper)
    own = jax.tree.map(jnp.add, within, between)
    split, weight = add_up(stage, own._replace(weight=()), own.weight)
    return split._replace(weight=weight)


def _squares_by_layer(state: State, numbers: Array, depth: int) -> Array:
    """||p - q||^2 of the boundaries at hand, whose layers have these numbers, in their places."""
    squares = [jnp.sum((p - q) ** 2, axis=(1, 2)) for p, q, _ in boundaries_of(state)]
    return gather(numbers, jnp.concatenate(squares), depth)[1:]
