"""The six updates of Algorithm 1, each on one layer: pure functions that know no mesh.

Notation of the paper, rows being samples: N samples, a layer from width n_in to width n_out.
``a = p W + b`` is not a variable of the problem but carried along, so that every update costs the
products written in its body and no other: two for p, two for W (one more if solved exactly).
``q_in, u_in`` belong to the boundary at the layer's input, p_l = q_{l-1}.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from pdadmm_jax._checks import check_shapes
from pdadmm_jax._typing import Array, Bool, Float, Number
from pdadmm_jax.admm.solvers import Quadratic, Solver, SolverStep
from pdadmm_jax.numerics.products import Precision, multiply
from pdadmm_jax.parallel.sample_reductions import ALL_AT_HAND, SampleReductions
from pdadmm_jax.problems.activations import Activation
from pdadmm_jax.problems.losses import Loss, Targets


class Updated(NamedTuple):
    """A variable that moved, and what its move made of the layer's linear map.

    Attributes:
        value: the updated variable.
        a: p W + b after the move, shape (N, n_out).
        ratio: largest step-size ratio used (tau of p, theta of W).
    """

    value: Array
    a: Array
    ratio: Array


def pull_on_p(
    W: Float[Array, "n_in n_out"],
    a: Float[Array, "N n_out"],
    z: Float[Array, "N n_out"],
    precision: Precision = "float32",
) -> Float[Array, "N n_in"]:
    """(z - a) W^T, the part of p's gradient that no other layer has a part in.

    Kept apart from the rest, which on a mesh may have to wait for f(z) from another stage.

    Args:
        W: weights.
        a: p W + b.
        z: pre-activation variable.
        precision: of the matrix product; see ``products``.
    """
    return lax.optimization_barrier(multiply(z - a, W.T, precision))


def pull_on_W(
    p: Float[Array, "N n_in"],
    a: Float[Array, "N n_out"],
    z: Float[Array, "N n_out"],
    precision: Precision = "float32",
) -> Float[Array, "n_in n_out"]:
    """p^T (z - a), the part of W's gradient that samples have a part in.

    Args:
        p: input of the layer.
        a: p W + b.
        z: pre-activation variable.
        precision: of the matrix product; see ``products``.
    """
    return multiply(p.T, z - a, precision)


def update_p(
    p: Float[Array, "N n_in"],
    W: Float[Array, "n_in n_out"],
    a: Float[Array, "N n_out"],
    z: Float[Array, "N n_out"],
    q_in: Float[Array, "N n_in"],
    u_in: Float[Array, "N n_in"],
    nu: Number,
    rho: Number,
    solver: Solver,
    precision: Precision = "float32",
    samples: SampleReductions = ALL_AT_HAND,
    pull: Float[Array, "N n_in"] | None = None,
) -> Updated:
    """Line 1, a majorised or exact step on

    argmin_p  (nu/2) ||z - p W - b||^2 + <u_in, p - q_in> + (rho/2) ||p - q_in||^2.

    Args:
        p: input of the layer.
        W: weights.
        a: p W + b.
        z: pre-activation variable.
        q_in: activation variable of the layer below.
        u_in: dual variable of p = q_in.
        nu: penalty on z = p W + b.
        rho: penalty on p = q_in.
        solver: how far to go; see ``solvers``.
        precision: of the matrix products, but for the Gram matrix, which has to be factorised.
        samples: reductions over all samples; so for W and b.
        pull: ``pull_on_p(W, a, z)`` if that is known already.

    Returns:
        The new p and its a = p W + b.

    Raises:
        ValueError: shapes that do not fit each other; so for every update.
    """
    (N, n_in), n_out = p.shape, W.shape[-1]
    below, above = (N, n_in), (N, n_out)
    check_shapes(W=(W, (n_in, n_out)), a=(a, above), z=(z, above), q_in=(q_in, below))
    check_shapes(u_in=(u_in, below))
    nu, rho = _in_dtype_of(p, nu, rho)
    pull = pull_on_p(W, a, z, precision) if pull is None else pull
    gradient = u_in + rho * (p - q_in) - nu * pull
    step = solver.step(
        Quadratic(
            gradient,
            image=lambda d: multiply(d, W, precision),
            gram=lambda: multiply(W, W.T),
            weight=nu,
            floor=rho,
            axis=1,
            samples=samples,
        )
    )
    return _updated(p, a, step)


def move_W(
    W: Float[Array, "n_in n_out"],
    p: Float[Array, "N n_in"],
    pull: Float[Array, "n_in n_out"],
    nu: Number,
    mu: Number,
    solver: Solver,
    precision: Precision = "float32",
    samples: SampleReductions = ALL_AT_HAND,
) -> SolverStep:
    """Line 2 without its end: which way W moves, and how far.

    Args:
        W: weights.
        p: input of the layer.
        pull: ``pull_on_W(p, a, z)`` of the samples at hand.
        nu: penalty on z = p W + b.
        mu: weight penalty, 0 in the paper.
        solver: how far to go; see ``solvers``.
        precision: of the matrix products, but for the Gram matrix, which has to be factorised.
        samples: reductions over all samples.
    """
    nu, mu = _in_dtype_of(p, nu, mu)
    return solver.step(
        Quadratic(
            mu * W - nu * samples.total(pull),
            image=lambda d: multiply(p, d, precision),
            gram=lambda: samples.total(multiply(p.T, p)),
            weight=nu,
            floor=mu,
            axis=0,
            samples=samples,
        )
    )


def update_W(
    W: Float[Array, "n_in n_out"],
    p: Float[Array, "N n_in"],
    a: Float[Array, "N n_out"],
    z: Float[Array, "N n_out"],
    nu: Number,
    mu: Number,
    solver: Solver,
    precision: Precision = "float32",
    samples: SampleReductions = ALL_AT_HAND,
) -> Updated:
    """Line 2, a majorised or exact step on

    argmin_W  (nu/2) ||z - p W - b||^2 + (mu/2) ||W||^2.

    Args:
        W: weights.
        p: input of the layer.
        a: p W + b.
        z: pre-activation variable.
        nu: penalty on z = p W + b.
        mu: weight penalty, 0 in the paper.
        solver: how far to go; see ``solvers``.
        precision: of the matrix products, but for the Gram matrix, which has to be factorised.
        samples: reductions over all samples.

    Returns:
        The new W and its a = p W + b.
    """
    (N, n_in), n_out = p.shape, W.shape[-1]
    check_shapes(W=(W, (n_in, n_out)), a=(a, (N, n_out)), z=(z, (N, n_out)))
    pull = pull_on_W(p, a, z, precision)
    return _updated(W, a, move_W(W, p, pull, nu, mu, solver, precision, samples))


def update_b(
    b: Float[Array, " n_out"],
    a: Float[Array, "N n_out"],
    z: Float[Array, "N n_out"],
    samples: SampleReductions = ALL_AT_HAND,
) -> tuple[Float[Array, " n_out"], Float[Array, "N n_out"]]:
    """Line 3, the minimiser argmin_b ||z - p W - b||^2: b moves by the mean of z - a.

    Args:
        b: intercept.
        a: p W + b.
        z: pre-activation variable.
        samples: reductions over all samples.

    Returns:
        The new b and its a = p W + b.
    """
    check_shapes(b=(b, z.shape[1:]), a=(a, z.shape))
    shift = samples.mean(z - a)
    return b + shift, a + shift


def update_z(
    z: Float[Array, "N n_out"],
    a: Float[Array, "N n_out"],
    q: Float[Array, "N n_out"],
    activation: Activation,
    proximal: Number,
) -> tuple[Float[Array, "N n_out"], Bool[Array, ""]]:
    """Line 4 for l < L, entry by entry (nu divides out of it):

    argmin_z'  (z' - a)^2 + (q - f(z'))^2 + proximal (z' - z)^2.

    Args:
        z: pre-activation variable, the centre of the proximal term.
        a: p W + b.
        q: activation variable at this layer's output.
        activation: f.
        proximal: weight of the proximal term in units of nu; 1 in the paper.

    Returns:
        The new z, and whether the solve converged (closed forms always do).
    """
    check_shapes(a=(a, z.shape), q=(q, z.shape))
    (proximal,) = _in_dtype_of(z, proximal)
    stiffness = 1 + proximal
    return activation.prox(q, (a + proximal * z) / stiffness, stiffness, z)


def update_z_output(
    z: Float[Array, "N C"], a: Float[Array, "N C"], y: Targets, loss: Loss, nu: Number
) -> tuple[Float[Array, "N C"], Bool[Array, ""]]:
    """Line 4 for l = L, argmin_z' R(z'; y) + (nu/2) ||z' - a||^2.

    Args:
        z: pre-activation variable of the output layer, where iterative solves start.
        a: p W + b.
        y: labels or targets.
        loss: R.
        nu: penalty on z = p W + b.

    Returns:
        The new z_L, and whether the solve converged.
    """
    check_shapes(a=(a, z.shape))
    (nu,) = _in_dtype_of(z, nu)
    return loss.prox(a, y, nu, z)


def update_q(
    p_next: Float[Array, "N n"],
    u: Float[Array, "N n"],
    f_z: Float[Array, "N n"],
    nu: Number,
    rho: Number,
) -> Float[Array, "N n"]:
    """Line 5, the minimiser

    argmin_q  (nu/2) ||q - f(z)||^2 + <u, p_next - q> + (rho/2) ||p_next - q||^2.

    Args:
        p_next: input of the layer above.
        u: dual variable of p_next = q.
        f_z: f(z) of the layer below.
        nu: penalty on q = f(z).
        rho: penalty on p_next = q.
    """
    check_shapes(u=(u, p_next.shape), f_z=(f_z, p_next.shape))
    nu, rho = _in_dtype_of(p_next, nu, rho)
    return (rho * p_next + u + nu * f_z) / (rho + nu)


def update_u(
    u: Float[Array, "N n"], p_next: Float[Array, "N n"], q: Float[Array, "N n"], rho: Number
) -> Float[Array, "N n"]:
    """Line 6, dual ascent on p_next = q.

    Args:
        u: dual variable.
        p_next: input of the layer above.
        q: activation variable of the layer below.
        rho: penalty on p_next = q.
    """
    check_shapes(u=(u, p_next.shape), q=(q, p_next.shape))
    (rho,) = _in_dtype_of(u, rho)
    return u + rho * (p_next - q)


def _updated(variable: Array, a: Array, step: SolverStep) -> Updated:
    moved = variable + step.length * step.direction
    return Updated(moved, a + step.length * step.image, step.ratio)


def _in_dtype_of(variable: Array, *numbers: Number) -> list[Array]:
    """NumPy's doubles must not turn a state of singles into one of doubles."""
    return [jnp.asarray(number, variable.dtype) for number in numbers]
