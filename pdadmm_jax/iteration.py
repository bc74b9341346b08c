"""One iteration of Algorithm 1 over all layers, and many of them in one dispatch."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pdadmm_jax._typing import Array, Bool, Float
from pdadmm_jax.hyperparameters import Hyperparameters, at_precision_of
from pdadmm_jax.lagrangian import Terms, Value, primal_residual, terms_of
from pdadmm_jax.neighbours import from_above, from_below
from pdadmm_jax.state import Boundary, Data, Layer, State, as_arrays, check_match, dtype_of
from pdadmm_jax.theory import certificate_of
from pdadmm_jax.updates import (
    update_b,
    update_p,
    update_q,
    update_u,
    update_W,
    update_z,
    update_z_output,
)


class Info(NamedTuple):
    """What an iteration reports; nothing in it feeds back into the next.

    ``run`` returns the same with a leading axis over iterations.

    Attributes:
        terms: of the augmented Lagrangian after the iteration; ``terms.lagrangian`` adds them up.
        primal_residual: ||p_{l+1} - q_l||_F of every boundary.
        tau: largest step-size ratio of every layer's p-update, 0 for the first layer.
        theta: largest step-size ratio of every layer's W-update.
        converged: False for a layer whose z-update met its bound on iterations.
        finite: False once any variable or the Lagrangian is NaN or infinite; ``nonfinite`` says
            which.
        in_certified_region: whether (nu, rho, S) lies where Lemma 1 certifies descent.  After a
            change of nu the duals need one iteration before it does.
    """

    terms: Terms
    primal_residual: Float[Array, "*history boundaries"]
    tau: Float[Array, "*history layers"]
    theta: Float[Array, "*history layers"]
    converged: Bool[Array, "*history layers"]
    finite: Bool[Array, "*history"]
    in_certified_region: Bool[Array, "*history"]

    @property
    def lagrangian(self) -> Value:
        """L_rho after the iteration."""
        return self.terms.lagrangian


class Effort(NamedTuple):
    """What the solves of one layer report."""

    tau: Array
    theta: Array
    converged: Array


def step(state: State, data: Data, hyper: Hyperparameters) -> tuple[State, Info]:
    """One iteration of Algorithm 1: lines 1-4 on every layer, then lines 5-6 on every boundary.

    Args:
        state: current variables.
        data: the data the state was made for.
        hyper: hyperparameters.

    Returns:
        The next state and a report on it.

    Raises:
        ValueError: data of another shape or dtype than the state's.
    """
    return _step(state, as_arrays(data), at_precision_of(hyper, dtype_of(state)))


def run(state: State, data: Data, hyper: Hyperparameters, iterations: int) -> tuple[State, Info]:
    """Many iterations in one dispatch.

    Args:
        state: current variables.
        data: the data the state was made for.
        hyper: hyperparameters.
        iterations: how many, at least 1; a new number compiles anew.

    Returns:
        The last state, and the reports of all iterations stacked along a new first axis.

    Raises:
        ValueError: data of another shape or dtype than the state's, or no iterations.
    """
    if not isinstance(iterations, (int, np.integer)) or iterations < 1:
        raise ValueError(f"iterations is {iterations}, but has to be a whole number, at least 1.")
    return _run(state, as_arrays(data), at_precision_of(hyper, dtype_of(state)), int(iterations))


# Numbers reach these two as arrays of the state's dtype, whatever kind the user wrote, so that no
# mixture of kinds compiles anew.


@jax.jit
def _step(state: State, data: Data, hyper: Hyperparameters) -> tuple[State, Info]:
    check_match(state, data, hyper)
    solve = jax.vmap(partial(solve_layer, data=data, hyper=hyper))
    couple = jax.vmap(partial(couple_layer, hyper=hyper))

    q_above = from_above([stack.below and stack.below.q for stack in state.layers])
    layers, efforts = zip(*map(solve, state.layers, q_above), strict=True)
    f_below = from_below([hyper.activation(stack.z) for stack in layers])
    new = State(tuple(map(couple, layers, f_below)), state.iteration + 1)
    return new, _report(new, f_below, efforts, data, hyper)


@partial(jax.jit, static_argnums=3)
def _run(state: State, data: Data, hyper: Hyperparameters, iterations: int) -> tuple[State, Info]:
    return lax.scan(lambda s, _: _step(s, data, hyper), state, length=iterations)


def solve_layer(
    layer: Layer, q_above: Array | None, data: Data, hyper: Hyperparameters
) -> tuple[Layer, Effort]:
    """Lines 1-4 of Algorithm 1 on one layer (no stacking axis).

    Args:
        layer: its variables; ``below`` is None for the first layer, whose input is the data.
        q_above: q of the layer above; None for the last layer, whose z answers to the labels.
        data: training data.
        hyper: hyperparameters.
    """
    W, b, z, a, below = layer
    nu, precision = hyper.nu, hyper.precision
    if below is None:
        p, tau = data.x, jnp.zeros((), a.dtype)
    else:
        p, a, tau = update_p(
            below.p, W, a, z, below.q, below.u, nu, hyper.rho, hyper.p_solver, precision
        )
        below = below._replace(p=p)
    W, a, theta = update_W(W, p, a, z, nu, hyper.mu, hyper.W_solver, precision)
    b, a = update_b(b, a, z)
    if q_above is None:
        z, converged = update_z_output(z, a, data.y, hyper.loss, nu)
    else:
        z, converged = update_z(z, a, q_above, hyper.activation, hyper.proximal)
    return Layer(W, b, z, a, below), Effort(tau, theta, converged)


def couple_layer(layer: Layer, f_below: Array | None, hyper: Hyperparameters) -> Layer:
    """Lines 5-6 of Algorithm 1 on a layer's input boundary, f_below being f(z) of the layer below.

    The first layer has none of either.
    """
    if layer.below is None or f_below is None:
        return layer
    p, _, u = layer.below
    q = update_q(p, u, f_below, hyper.nu, hyper.rho)
    return layer._replace(below=Boundary(p, q, update_u(u, p, q, hyper.rho)))


def _report(
    state: State,
    f_below: list[Array | None],
    efforts: tuple[Effort, ...],
    data: Data,
    hyper: Hyperparameters,
) -> Info:
    terms = terms_of(state.layers, f_below, data, hyper)
    effort = jax.tree.map(lambda *stacks: jnp.concatenate(stacks), *efforts)
    # The intercepts act through the carried a alone, which is none of the terms' business.
    intercepts = [jnp.isfinite(stack.b).all() for stack in state.layers]
    return Info(
        terms=terms,
        primal_residual=primal_residual(state),
        tau=effort.tau,
        theta=effort.theta,
        converged=effort.converged,
        finite=jnp.isfinite(terms.lagrangian) & jnp.all(jnp.stack(intercepts)),
        in_certified_region=certificate_of(hyper).holds,
    )
