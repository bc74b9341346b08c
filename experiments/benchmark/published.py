"""Algorithm 1 as it is published, line by line: what a reader of the paper would write first.

Layers one after the other; step sizes by a search that evaluates the objective afresh at every
trial; the output problem by FISTA; nothing carried from one formula to the next.  The formulas are
compiled one by one, the loops around them are Python's.  ReLU and softmax cross-entropy, as in the
paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pdadmm_jax as pdadmm
from pdadmm_jax.numerics.products import multiply

Array = jax.Array
SEARCH_START, SEARCH_GROWTH = 10.0, 2.0  # as the authors' code has them, and so have its bounds:
FISTA_STEPS, FISTA_CHANGE = 500, 1e-3  # at most so many steps, until the sum changes by less


class Variables(NamedTuple):
    """Lists by layer, rows being samples; q[l] and u[l] belong to the boundary above layer l."""

    p: list[Array]
    W: list[Array]
    b: list[Array]
    z: list[Array]
    q: list[Array]
    u: list[Array]


class Effort(NamedTuple):
    """How often the searches of an iteration evaluated the objective, and FISTA's steps."""

    trials: int
    fista_steps: int


def variables_of(state: pdadmm.admm.State, data: pdadmm.Data) -> Variables:
    """The same variables, layer by layer."""

    def rows(name: str, holders: Any) -> list[Array]:
        return [jnp.array(row) for holder in holders for row in getattr(holder, name)]

    boundaries = [layer.below for layer in state.layers if layer.below is not None]
    return Variables(
        p=[jnp.asarray(data.x), *rows("p", boundaries)],
        W=rows("W", state.layers),
        b=rows("b", state.layers),
        z=rows("z", state.layers),
        q=rows("q", boundaries),
        u=rows("u", boundaries),
    )


def iterate(
    v: Variables,
    y: Array,
    nu: float,
    rho: float,
    fista_steps: int = FISTA_STEPS,
    fista_change: float = FISTA_CHANGE,
) -> tuple[Variables, Effort]:
    """One iteration of Algorithm 1."""
    p, W, b, z, q, u = map(list, v)
    last = len(W) - 1
    trials = 0
    for k in range(1, last + 1):  # line 1
        fixed = W[k], b[k], z[k], q[k - 1], u[k - 1], nu, rho
        p[k], count = search(p[k], gradient_p, phi, fixed)
        trials += count
    for k in range(last + 1):  # line 2
        W[k], count = search(W[k], gradient_W, residual_term, (p[k], b[k], z[k], nu))
        trials += count
    for k in range(last + 1):  # line 3
        b[k] = update_b(p[k], W[k], z[k])
    for k in range(last):  # line 4
        z[k] = update_z(p[k], W[k], b[k], z[k], q[k])
    z[last], steps = fista(z[last], y, p[last], W[last], b[last], nu, fista_steps, fista_change)
    for k in range(last):  # line 5
        q[k] = update_q(p[k + 1], u[k], z[k], nu, rho)
    for k in range(last):  # line 6
        u[k] = update_u(u[k], p[k + 1], q[k], rho)
    return Variables(p, W, b, z, q, u), Effort(trials, steps)


@jax.jit
def residual_term(W: Array, p: Array, b: Array, z: Array, nu: float) -> Array:
    """(nu/2) ||z - p W - b||^2."""
    return nu / 2 * jnp.sum((z - multiply(p, W) - b) ** 2)


@jax.jit
def phi(p: Array, W: Array, b: Array, z: Array, q: Array, u: Array, nu: float, rho: float) -> Array:
    """What line 1 lowers: the residual's term, <u, p - q> and (rho/2) ||p - q||^2."""
    boundary = jnp.sum(u * (p - q)) + rho / 2 * jnp.sum((p - q) ** 2)
    return residual_term(W, p, b, z, nu) + boundary


@jax.jit
def gradient_p(
    p: Array, W: Array, b: Array, z: Array, q: Array, u: Array, nu: float, rho: float
) -> Array:
    """d phi / d p."""
    return u + rho * (p - q) - nu * multiply(z - multiply(p, W) - b, W.T)


@jax.jit
def gradient_W(W: Array, p: Array, b: Array, z: Array, nu: float) -> Array:
    """d phi / d W."""
    return -nu * multiply(p.T, z - multiply(p, W) - b)


def search(
    x: Array, slope: Callable[..., Array], function: Callable[..., Array], fixed: tuple[Any, ...]
) -> tuple[Array, int]:
    """The first x - slope / tau, tau = 10, 20, 40, ..., that the quadratic model bounds."""
    gradient, old = slope(x, *fixed), function(x, *fixed)
    tau, evaluations = SEARCH_START, 1
    while True:
        new = step(x, gradient, tau)
        evaluations += 1
        if bool(bounded(function(new, *fixed), old, x, new, gradient, tau)):
            return new, evaluations
        tau *= SEARCH_GROWTH


@jax.jit
def step(x: Array, gradient: Array, tau: float) -> Array:
    """x - gradient / tau."""
    return x - gradient / tau


@jax.jit
def bounded(value: Array, old: Array, x: Array, new: Array, gradient: Array, tau: float) -> Array:
    """Whether the model lies above the value, up to the rounding of the sums compared."""
    linear, quadratic = jnp.sum(gradient * (new - x)), tau / 2 * jnp.sum((new - x) ** 2)
    rounding = 8 * jnp.finfo(x.dtype).eps * (value + jnp.abs(old))
    return value <= old + linear + quadratic + rounding


@jax.jit
def update_b(p: Array, W: Array, z: Array) -> Array:
    """The mean of z - p W."""
    return jnp.mean(z - multiply(p, W), axis=0)


@jax.jit
def update_z(p: Array, W: Array, b: Array, z: Array, q: Array) -> Array:
    """The better of ReLU's two candidates, one on each side of zero."""
    a = multiply(p, W) + b
    low, high = jnp.minimum((a + z) / 2, 0), jnp.maximum((a + z + q) / 3, 0)

    def objective(new: Array) -> Array:
        return (new - a) ** 2 + (q - jnp.maximum(new, 0)) ** 2 + (new - z) ** 2

    return jnp.where(objective(low) <= objective(high), low, high)


@jax.jit
def update_q(p_next: Array, u: Array, z: Array, nu: float, rho: float) -> Array:
    """(rho p + u + nu f(z)) / (rho + nu)."""
    return (rho * p_next + u + nu * jnp.maximum(z, 0)) / (rho + nu)


@jax.jit
def update_u(u: Array, p_next: Array, q: Array, rho: float) -> Array:
    """u + rho (p - q)."""
    return u + rho * (p_next - q)


def fista(
    z: Array, y: Array, p: Array, W: Array, b: Array, nu: float, steps: int, change: float
) -> tuple[Array, int]:
    """argmin_z R(z; y) + (nu/2) ||z - p W - b||^2, by accelerated gradient steps.

    The step is 1 / (1/2 + nu), for softmax cross-entropy has no curvature above 1/2.
    """
    momentum, ahead = 1.0, z
    value = float(output_objective(z, y, p, W, b, nu))
    for count in range(1, steps + 1):
        new = ahead - output_gradient(ahead, y, p, W, b, nu) / (0.5 + nu)
        after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / after * (new - z)
        z, momentum = new, after
        old, value = value, float(output_objective(z, y, p, W, b, nu))
        if abs(old - value) < change:
            return z, count
    return z, steps


@jax.jit
def output_objective(z: Array, y: Array, p: Array, W: Array, b: Array, nu: float) -> Array:
    """R(z; y) + (nu/2) ||z - p W - b||^2, the risk being cross-entropy summed over samples."""
    chosen = jnp.take_along_axis(z, y[:, None], axis=1)[:, 0]
    risk = jnp.sum(jax.nn.logsumexp(z, axis=1) - chosen)
    return risk + residual_term(W, p, b, z, nu)


@jax.jit
def output_gradient(z: Array, y: Array, p: Array, W: Array, b: Array, nu: float) -> Array:
    """Its gradient."""
    wrong = jax.nn.softmax(z, axis=1) - jax.nn.one_hot(y, z.shape[1], dtype=z.dtype)
    return wrong + nu * (z - multiply(p, W) - b)
