"""The output z-update: one small strongly convex problem per sample, solved in O(C) a step.

For softmax and hinge every entry of the minimiser follows from one number per sample, the level
lambda, which is increasing in it, and sum_i z_i(lambda) = sum_i a_i because both risks are
invariant to a shift of all logits.  That scalar equation is increasing and concave, so Newton's
method comes from anywhere to below the root in one step, and from below climbs to it monotonically,
without a line search.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Bool, Float, Number, Shaped
from pdadmm_jax.numerics.loops import varying_with
from pdadmm_jax.numerics.reductions import row_sums

LEVEL_STEPS = 16  # ten suffice for 1,000 classes at any nu; the rest is margin


def softmax_prox(
    a: Float[Array, "*N C"], t: Float[Array, "*N C"], nu: Number, steps: int = LEVEL_STEPS
) -> tuple[Float[Array, "*N C"], Bool[Array, ""]]:
    """Solves argmin_z logsumexp(z) - <t, z> + (nu / 2) ||z - a||^2 for every sample.

    Stationarity reads s + nu (z - a) = t with s_i = exp(z_i - lambda) the softmax.  Given lambda,
    s_i / nu = omega(a_i + t_i / nu - lambda - log nu), omega being Wright's function.

    Args:
        a: the linear map's value.
        t: label distribution, rows summing to 1.
        nu: penalty, positive.
        steps: bound on the Newton steps.

    Returns:
        The minimiser, and whether the level converged for every sample.
    """
    given, a = a, _shifted(a)
    upper = a + t / nu
    # From below: the softmax's largest entry is at most 1, and logsumexp >= mean + log C.
    below = jnp.maximum(
        jnp.max(upper, axis=-1, keepdims=True) - 1 / nu,
        jnp.mean(a, axis=-1, keepdims=True) + jnp.log(jnp.asarray(a.shape[-1], a.dtype)),
    )

    def move_at(level: Array) -> tuple[Array, Array]:
        omega = wright_omega(upper - level - jnp.log(nu))
        # z - a in whichever of its two forms does not cancel.
        far = omega > 1
        log_s = jnp.log(nu * jnp.where(far, omega, 1.0))
        return jnp.where(far, level + log_s - a, t / nu - omega), omega / (1 + omega)

    # The level of one gradient step, by 1 / nu^2 from the root where nu is large.
    start = jax.nn.logsumexp(a + (t - jax.nn.softmax(a)) / nu, axis=-1, keepdims=True)
    scale = jnp.mean(jnp.abs(a), axis=-1, keepdims=True)
    # A step leaves less than its square, for the second derivative, sum_i omega / (1 + omega)^3, is
    # less than the first.
    move, converged = _climb(move_at, start, below, scale, steps, left=jnp.square)
    return given + move, converged


def hinge_prox(
    a: Float[Array, "*N C"], t: Float[Array, "*N C"], nu: Number, steps: int = LEVEL_STEPS
) -> tuple[Float[Array, "*N C"], Bool[Array, ""]]:
    """Solves argmin_z max_i(z_i + 1 - t_i) - <t, z> + (nu / 2) ||z - a||^2 for every sample.

    With lambda the value of the maximum, z_i = min(a_i + t_i / nu, lambda - 1 + t_i).

    Args:
        a: the linear map's value.
        t: one-hot labels.
        nu: penalty, positive.
        steps: bound on the Newton steps.

    Returns:
        The minimiser, and whether the level converged for every sample.
    """
    given, a = a, _shifted(a)
    margin = 1 - t
    upper = a + t / nu
    below = jnp.maximum(
        jnp.max(upper + margin, axis=-1, keepdims=True) - 1 / nu,
        jnp.mean(a + margin, axis=-1, keepdims=True),
    )

    def move_at(level: Array) -> tuple[Array, Array]:
        capped = level - margin < upper
        return jnp.where(capped, level - margin - a, t / nu), capped.astype(a.dtype)

    scale = jnp.mean(jnp.abs(a), axis=-1, keepdims=True)
    move, converged = _climb(move_at, below, below, scale, steps, left=jnp.abs)
    return given + move, converged


def _climb(
    move_at: Callable[[Array], tuple[Array, Array]],
    start: Array,
    below: Array,
    scale: Array,
    steps: int,
    left: Callable[[Array], Array],
) -> tuple[Array, Array]:
    """Newton's method for the root of sum_i move_i(level) = 0.

    Args:
        move_at: maps a level (*N, 1) to z - a and to its derivative by the level, (*N, C) each.
        start: first level, anywhere.
        below: a level at or below the root.
        scale: magnitude of the logits, which sets what rounding is.
        steps: bound on the steps.
        left: of a step of up to 1, a bound on the next one.

    Returns:
        z - a at the root, and whether what is left of the way there is within rounding.
    """
    tolerance = 16 * jnp.finfo(below.dtype).eps
    # The root does not depend on them, nor does its derivative, which the steps find as they go.
    start, below = lax.stop_gradient((start, below))

    def body(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        level, _, _, count = carry
        move, rates = move_at(level)
        total, rate = (sums[..., None] for sums in row_sums(move, rates))
        rise = jnp.where(rate > 0, -total / rate, 0.0)
        step = jnp.maximum(level + rise, below) - level
        bound = jnp.where(jnp.abs(step) < 0.5, left(step), jnp.abs(step))
        rising = bound > tolerance * (1 + scale + jnp.abs(level))
        return level + step, move + rates * step, jnp.any(rising), count + 1

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, _, rising, count = carry
        return rising & (count < steps)

    rising = varying_with(jnp.asarray(True), on=start)
    nothing = jnp.zeros_like(move_at(start)[0])
    carry = (start, varying_with(nothing, on=start), rising, jnp.asarray(0, jnp.int32))
    _, move, rising, _ = lax.while_loop(unfinished, body, carry)
    return move, ~rising


def _shifted(a: Array) -> Array:
    """The same logits but for a shift, which changes no minimiser, with 0 for the largest.

    The shift is no variable: JAX divides the derivative of a maximum by the number of entries equal
    to it, of which there are none if the compiler computes them twice and rounds otherwise.
    """
    return a - lax.stop_gradient(jnp.max(a, axis=-1, keepdims=True))


def wright_omega(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The solution w > 0 of w + log(w) = x, to rounding.

    A start within a few per cent, then fourth-order corrections (Fritsch, Shafer and Crowley, CACM
    algorithm 443, 1973), one for singles and two for doubles.
    """
    small, large = x < -1, x > 4
    exp = jnp.exp(jnp.minimum(x, 0))
    log = jnp.log(jnp.where(large, x, 4))
    d = x - 1
    middle = 1 + d * (0.5 + d / 16 * (1 - d / 12))
    w = jnp.where(small, exp / (1 + exp), jnp.where(large, x - log + log / x, middle))
    # Below, w = exp(x) to every digit, and log(w) would end in log(0).
    tiny = x < jnp.log(jnp.finfo(x.dtype).eps)
    w = jnp.where(tiny, 1.0, w)
    for _ in range(2 if x.dtype == jnp.float64 else 1):
        r = jnp.where(tiny, 0.0, x - w - jnp.log(w))
        s, k = r / (1 + w), 1 + w + 2 / 3 * r
        w = w * (1 + s * (k - s / 2) / (k - s))
    return jnp.where(tiny, exp, w)


def convex_prox(
    function: Callable[[Array, Array], Array],
    a: Float[Array, "N C"],
    y: Shaped[Array, "N *target"],
    nu: Number,
    start: Float[Array, "N C"],
    iterations: int,
) -> tuple[Float[Array, "N C"], Bool[Array, ""]]:
    """Solves argmin_z R(z, y) + (nu / 2) ||z - a||^2 for every sample and any convex R.

    Newton's method damped in proportion to the gradient's norm, which bounds the step where the
    curvature of R fades.  A step that does not descend has overshot; the secant of the slopes at
    its two ends says where to stop instead.  The damping falls tenfold after a full step and rises
    tenfold after a shortened or refused one.

    Args:
        function: R of one sample.
        a: the linear map's value.
        y: targets.
        nu: penalty, positive.
        start: a point the result is never worse than.
        iterations: bound on the steps.

    Returns:
        The minimiser, and whether every sample's last step was within rounding of the objective,
        relative to 1 + |objective|.  Where nu is far below 1 this leaves z itself undetermined in
        directions in which R is flat to that accuracy.  False, too, where the objective bends
        upwards between z and a or the start, as it can only if R is not convex: z may then be one
        minimiser of several.
    """
    eps = jnp.finfo(a.dtype).eps
    identity = jnp.eye(a.shape[-1], dtype=a.dtype)

    def solve_one(a: Array, y: Array, start: Array) -> tuple[Array, Array]:
        def objective(z: Array) -> Array:
            return function(z, y) + 0.5 * nu * jnp.sum((z - a) ** 2)

        def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
            z, damping, moving, count = carry
            gradient = jax.grad(objective)(z)
            ridge = nu + damping * jnp.linalg.norm(gradient)
            hessian = jax.hessian(function)(z, y) + ridge * identity
            shift = jax.scipy.linalg.solve(hessian, gradient, assume_a="pos")
            descent = jnp.dot(gradient, shift)
            past = jnp.maximum(-jnp.dot(jax.grad(objective)(z - shift), shift), 0)
            part = descent / jnp.where(descent > 0, descent + past, 1)
            shortened = part * shift

            value = objective(z)
            slack = 2 * eps * (1 + jnp.abs(value))
            full = objective(z - shift) <= value - 0.1 * descent + slack
            some = objective(z - shortened) <= value - 0.1 * part * descent + slack
            z = z - jnp.where(moving & full, shift, jnp.where(moving & some, shortened, 0))
            damping = jnp.where(full, 0.1 * damping, 10 * damping + 0.01).astype(a.dtype)
            # The last step is the first whose gain, half of ``descent`` by the quadratic model,
            # or whose length does not count.
            ulp = eps * jnp.max(jnp.abs(z) + jnp.abs(a))
            moving = ~((descent <= slack) | (jnp.max(jnp.abs(shift)) <= ulp))  # NaN moves on
            return z, damping, moving, count + 1

        def unfinished(carry: tuple[Array, ...]) -> Array:
            *_, moving, count = carry
            return moving & (count <= iterations)

        damping = varying_with(jnp.zeros((), a.dtype), on=a)
        moving = varying_with(jnp.asarray(True), on=a)
        begin = (start, damping, moving, jnp.asarray(0, jnp.int32))
        z, _, moving, _ = lax.while_loop(unfinished, body, begin)
        z = jnp.where(objective(z) <= objective(start), z, start)
        return z, ~moving & below_chord(objective, z, a) & below_chord(objective, z, start)

    def below_chord(objective: Callable[[Array], Array], z: Array, other: Array) -> Array:
        """Whether the objective is as low between two points as a convex one has to be."""
        ends = objective(z), objective(other)
        size = jnp.max(jnp.abs(z)) + jnp.max(jnp.abs(other))  # R may be a difference of such terms
        slack = 8 * eps * (1 + size + jnp.abs(ends[0]) + jnp.abs(ends[1]))
        shares = jnp.asarray([0.25, 0.5, 0.75], z.dtype)
        between = jax.vmap(lambda t: objective((1 - t) * z + t * other))(shares)
        return jnp.all(between <= (1 - shares) * ends[0] + shares * ends[1] + slack)

    z, converged = jax.vmap(solve_one)(a, y, start)
    return z, jnp.all(converged)
