"""The hidden z-update for an activation without a closed form: one scalar problem per entry."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Bool, Float, Number
from pdadmm_jax.numerics.loops import varying_with

# Activations bend near zero: a second minimum, away from the quadratic's centre, lies near one of
# these points (or where f is the identity).
_ANCHORS = (0.0, -0.5, 0.5, -1.0, 1.0, -1.5, 1.5, -2.0, 2.0, -3.0, 3.0, -5.0, 5.0, -8.0, 8.0)


def scalar_prox(
    function: Callable[[Array], Array],
    q: Float[Array, "*shape"],
    centre: Float[Array, "*shape"],
    stiffness: Number,
    start: Float[Array, "*shape"],
    iterations: int = 60,
) -> tuple[Float[Array, "*shape"], Bool[Array, ""]]:
    """Solves argmin_z (q - f(z))^2 / 2 + stiffness (z - centre)^2 / 2 for every entry.

    The problem need not be convex.  A fixed set of candidates, ``start`` among them, is
    followed by damped Newton descent, vectorised over all entries and bounded.

    Args:
        function: f, entry by entry, with two derivatives.
        q: target of the activation.
        centre: centre of the quadratic term.
        stiffness: weight of the quadratic term, positive.
        start: a point the result is never worse than.
        iterations: bound on the descent steps.

    Returns:
        The minimiser, and whether every entry came to rest: at a stationary point, to rounding, or
        at a kink of f.
    """

    def objective(z: Array) -> Array:
        return 0.5 * (q - function(z)) ** 2 + 0.5 * stiffness * (z - centre) ** 2

    starts = _candidates(objective, function, q, centre, stiffness, start)
    ends, moving = _descend(objective, function, q, centre, stiffness, starts, iterations)
    second = objective(ends[1]) < objective(ends[0])
    z = jnp.where(second, ends[1], ends[0])
    return _better(objective, start, z), ~jnp.any(jnp.where(second, moving[1], moving[0]))


def _candidates(
    objective: Callable[[Array], Array],
    function: Callable[[Array], Array],
    q: Array,
    centre: Array,
    stiffness: Number,
    start: Array,
) -> Array:
    """The best point at hand, and the best one elsewhere; stacked along a first axis.

    Both are descended from: the quadratic term and the activation's bend may hold a minimum each,
    whose order the candidates' values do not yet tell.  No point further than
    |q - f(centre)| / sqrt(stiffness) from the centre can beat the centre itself, so the search
    keeps within this reach.
    """
    miss = q - function(centre)
    reach = jnp.abs(miss) / jnp.sqrt(stiffness)
    at_hand = _better(objective, start, centre)
    # The minimiser where f is the identity, as ReLU's relatives are on the right.
    elsewhere = (stiffness * centre + q) / (stiffness + 1)
    anchors = jnp.asarray(_ANCHORS, centre.dtype)

    def look(index: Array, elsewhere: Array) -> Array:
        # An anchor beyond the centre, seen from zero, would find the minimum already at hand.
        anchor = anchors[index]
        bend = jnp.where(anchor * centre > 0.5 * centre**2, 0, anchor)
        return _better(objective, elsewhere, jnp.clip(bend, centre - reach, centre + reach))

    elsewhere = lax.fori_loop(0, len(_ANCHORS), look, elsewhere)
    return jnp.stack([at_hand, elsewhere])


def _better(objective: Callable[[Array], Array], one: Array, other: Array) -> Array:
    """Entry by entry the point of lower objective; ``one`` where they tie."""
    return jnp.where(objective(other) < objective(one), other, one)


def _descend(
    objective: Callable[[Array], Array],
    function: Callable[[Array], Array],
    q: Array,
    centre: Array,
    stiffness: Number,
    start: Array,
    iterations: int,
) -> tuple[Array, Array]:
    """Newton steps, shortened to a quarter wherever they do not descend."""
    eps = 8 * jnp.finfo(start.dtype).eps  # elementary functions are good to a few ulps

    def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        z, length, moving, count = carry
        f, f1, f2 = _two_derivatives(function, z)
        miss, offset = q - f, stiffness * (z - centre)
        slope = offset - miss * f1
        gauss_newton = stiffness + f1**2
        newton = gauss_newton - miss * f2
        curvature = jnp.where(newton > 0.01 * gauss_newton, newton, gauss_newton)
        trial = z - length * slope / curvature
        # What rounding alone makes of differences that should be zero.
        miss_noise = eps * (jnp.abs(q) + jnp.abs(f))
        offset_noise = eps * stiffness * (jnp.abs(z) + jnp.abs(centre))
        value_noise = miss_noise * (jnp.abs(miss) + miss_noise) + offset_noise * (
            jnp.abs(z - centre) + offset_noise
        )
        slope_noise = offset_noise + miss_noise * (1 + jnp.abs(f1)) + eps * jnp.abs(z) * curvature
        # At a kink of f no slope vanishes: there the steps are cut until they gain nothing.
        cut = (length < 1) & (length * slope**2 / curvature <= value_noise)
        moving = moving & (jnp.abs(slope) > slope_noise) & ~cut
        accept = objective(trial) <= objective(z) + value_noise
        z = jnp.where(accept & moving, trial, z)
        length = jnp.where(accept, jnp.minimum(4 * length, 1), 0.25 * length)
        return z, length, moving, count + 1

    def unfinished(carry: tuple[Array, ...]) -> Array:
        *_, moving, count = carry
        return jnp.any(moving) & (count <= iterations)

    length = varying_with(jnp.ones_like(start), on=start)
    everywhere = varying_with(jnp.ones(start.shape, bool), on=start)
    start_carry = (start, length, everywhere, jnp.asarray(0, jnp.int32))
    z, _, moving, _ = lax.while_loop(unfinished, body, start_carry)
    return z, moving


def scalar_response(
    function: Callable[[Array], Array],
    a: Float[Array, "*shape"],
    pull: Float[Array, "*shape"],
    iterations: int = 60,
) -> tuple[Float[Array, "*shape"], Bool[Array, ""]]:
    """Finds a minimum of d^2 / 2 - pull f(a + d) near d = 0 for every entry.

    Newton steps from 0, shortened to a quarter wherever they do not descend.  Where |pull f''| is
    well below 1, as a large nu sees to, there is one minimum, and two or three steps find it.

    Args:
        function: f, entry by entry, with two derivatives and a slope of the order of 1.
        a: where f is looked at.
        pull: the weight of f.
        iterations: bound on the steps.

    Returns:
        The minimum, and whether every entry came to rest, to rounding.
    """
    eps = 8 * jnp.finfo(a.dtype).eps

    def objective(d: Array) -> Array:
        return 0.5 * d**2 - pull * function(a + d)

    def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        d, length, moving, count = carry
        f, f1, f2 = _two_derivatives(function, a + d)
        slope, bend = d - pull * f1, pull * f2
        curvature = jnp.where(bend < 0.9, 1 - bend, 1 + bend)
        trial = d - length * slope / curvature
        # What rounding alone makes of f, of f' and of a + d.
        value_noise = eps * (d**2 + jnp.abs(pull * f))
        slope_noise = eps * (jnp.abs(d) + jnp.abs(pull) + jnp.abs(bend) * (jnp.abs(a) + jnp.abs(d)))
        accept = objective(trial) <= objective(d) + value_noise
        moving = moving & (jnp.abs(slope) > slope_noise)
        d = jnp.where(accept & moving, trial, d)
        length = jnp.where(accept, jnp.minimum(4 * length, 1), 0.25 * length)
        return d, length, moving, count + 1

    def unfinished(carry: tuple[Array, ...]) -> Array:
        *_, moving, count = carry
        return jnp.any(moving) & (count <= iterations)

    nothing, length = (varying_with(value, on=a) for value in (jnp.zeros_like(a), jnp.ones_like(a)))
    everywhere = varying_with(jnp.ones(a.shape, bool), on=a)
    start = (nothing, length, everywhere, jnp.asarray(0, jnp.int32))
    d, _, moving, _ = lax.while_loop(unfinished, body, start)
    return d, ~jnp.any(moving)


def _two_derivatives(function: Callable[[Array], Array], z: Array) -> tuple[Array, Array, Array]:
    """f, f' and f'' of an entry-wise function."""
    one = jnp.ones_like(z)

    def with_slope(t: Array) -> tuple[Array, Array]:
        return jax.jvp(function, (t,), (one,))

    (f, f1), (_, f2) = jax.jvp(with_slope, (z,), (one,))
    return f, f1, f2
