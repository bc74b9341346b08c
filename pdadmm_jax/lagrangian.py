"""The augmented Lagrangian, term by term, and the primal residual."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.hyperparameters import Hyperparameters, at_precision_of
from pdadmm_jax.neighbours import from_below
from pdadmm_jax.state import Data, Layer, State, as_arrays, check_match

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
    data = as_arrays(data)
    check_match(state, data, hyper)
    hyper = at_precision_of(hyper, data.x.dtype)
    activated = [hyper.activation(stack.z) for stack in state.layers]
    return terms_of(state.layers, from_below(activated), data, hyper)


def terms_of(
    layers: tuple[Layer, ...], f_below: list[Array | None], data: Data, hyper: Hyperparameters
) -> Terms:
    """``terms`` for callers that have f(z) of the layers below at hand."""
    parts = [_stack_terms(stack, f, hyper) for stack, f in zip(layers, f_below, strict=True)]
    total = jax.tree.map(lambda *terms: sum(terms[1:], start=terms[0]), *parts)
    return total._replace(risk=jnp.sum(hyper.loss.value(layers[-1].z[0], data.y)))


def primal_residual(state: State) -> Float[Array, " boundaries"]:
    """||p_{l+1} - q_l||_F of every boundary, l = 1..L-1."""
    boundaries = [stack.below for stack in state.layers if stack.below is not None]
    return jnp.concatenate([jnp.sqrt(jnp.sum((p - q) ** 2, axis=(1, 2))) for p, q, _ in boundaries])


def _stack_terms(stack: Layer, f_below: Array | None, hyper: Hyperparameters) -> Terms:
    """The terms of one stack of layers and their input boundaries; no risk."""
    zero = jnp.zeros((), stack.W.dtype)
    own = Terms(
        risk=zero,
        linear=0.5 * hyper.nu * jnp.sum((stack.z - stack.a) ** 2),
        activation=zero,
        weight=0.5 * hyper.mu * jnp.sum(stack.W**2),
        dual=zero,
        consensus=zero,
    )
    if stack.below is None or f_below is None:
        return own
    p, q, u = stack.below
    return own._replace(
        activation=0.5 * hyper.nu * jnp.sum((q - f_below) ** 2),
        dual=jnp.sum(u * (p - q)),
        consensus=0.5 * hyper.rho * jnp.sum((p - q) ** 2),
    )
