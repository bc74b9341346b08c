"""The hidden z-update for an activation without a closed form: one scalar problem per entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Bool, Float, Number
from pdadmm_jax.numerics.loops import varying_with

# Activations bend near zero: a second minimum, away from the quadratic's centre, lies near one of
# these points (or where f is the identity).
_ANCHORS = (0.0, -0.5, 0.5, -1.0, 1.0, -1.5, 1.5, -2.0, 2.0, -3.0, 3.0, -5.0, 5.0, -8.0, 8.0)


# Steps that may go wherever Newton's method leads; enough for any smooth function near its minimum.
_FREE_STEPS = 8


def scalar_prox(
    function: Callable[[Array], Array],
    q: Float[Array, "*shape"],
    centre: Float[Array, "*shape"],
    stiffness: Number,
    start: Float[Array, "*shape"],
    iterations: int = 100,
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

    eps = 8 * jnp.finfo(start.dtype).eps  # elementary functions are good to a few ulps

    def local(z: Array) -> _Local:
        f, f1, f2 = _two_derivatives(function, z)
        miss, offset = q - f, stiffness * (z - centre)
        gauss_newton = stiffness + f1**2
        newton = gauss_newton - miss * f2
        curvature = jnp.where(newton > 0.01 * gauss_newton, newton, gauss_newton)
        # What rounding alone makes of differences that should be zero.
        miss_noise = eps * (jnp.abs(q) + jnp.abs(f))
        offset_noise = eps * stiffness * (jnp.abs(z) + jnp.abs(centre))
        value_noise = miss_noise * (jnp.abs(miss) + miss_noise) + offset_noise * (
            jnp.abs(z - centre) + offset_noise
        )
        slope_noise = offset_noise + miss_noise * (1 + jnp.abs(f1)) + eps * jnp.abs(z) * curvature
        return _Local(objective(z), offset - miss * f1, curvature, value_noise, slope_noise)

    starts = _candidates(objective, function, q, centre, stiffness, start)
    ends, moving = _descend(
        local, lambda z: eps * (jnp.abs(z) + jnp.abs(centre)), starts, iterations
    )
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


class _Local(NamedTuple):
    """An objective around a point, entry by entry.

    Attributes:
        value: of the objective.
        slope: its derivative.
        curvature: a positive one, for Newton's step.
        value_noise: what rounding alone makes of differences of values.
        slope_noise: of a slope that should be zero.
    """

    value: Array
    slope: Array
    curvature: Array
    value_noise: Array
    slope_noise: Array


def _descend(
    local: Callable[[Array], _Local],
    resolution: Callable[[Array], Array],
    start: Array,
    iterations: int,
) -> tuple[Array, Array]:
    """Newton's method for a minimum downhill of the start, kept within bounds.

    Downhill of the best point there is a bound as soon as a trial is found from which the way
    leads back, or up: a minimum no higher than the best point lies between them.  A step that
    would leave these bounds halves them instead, and after ``_FREE_STEPS`` every step does, which
    ends at kinks of f, where no slope vanishes, as it does elsewhere.  Where no bound is found by
    then, steps double.

    Args:
        local: the objective around a point.
        resolution: distance between points that cannot be told apart.
        start: where to begin; the result is not worse but for rounding.
        iterations: bound on the steps.

    Returns:
        The minimum, and which entries have not come to rest: neither at a slope of zero, to
        rounding, nor between bounds that cannot be told apart.
    """

    def body(carry: tuple[Array, _Local, Array, Array, Array]) -> Any:
        z, here, bound, moving, count = carry
        unbounded, late = jnp.isinf(bound), jnp.maximum(count - _FREE_STEPS, 0)
        length = jnp.where(unbounded, 2.0 ** late.astype(z.dtype), 1)
        newton, half = z - length * here.slope / here.curvature, 0.5 * (z + bound)
        free = unbounded | (((newton - z) * (newton - bound) < 0) & (late == 0))
        trial = jnp.where(moving, jnp.where(free, newton, half), z)
        there = local(trial)
        accept = there.value <= here.value + here.value_noise
        back = jnp.sign(there.slope) != jnp.sign(here.slope)
        bound = jnp.where(accept, jnp.where(back, z, bound), trial)
        z = jnp.where(accept, trial, z)
        here = jax.tree.map(lambda new, old: jnp.where(accept, new, old), there, here)
        moving = moving & (jnp.abs(here.slope) > here.slope_noise)
        moving = moving & (jnp.abs(bound - z) > resolution(z))
        return z, here, bound, moving, count + 1

    def unfinished(carry: tuple[Array, _Local, Array, Array, Array]) -> Array:
        *_, moving, count = carry
        return jnp.any(moving) & (count <= iterations)

    here = local(start)
    moving = jnp.abs(here.slope) > here.slope_noise
    bound = varying_with(jnp.full_like(start, jnp.inf), on=start)
    z, _, _, moving, _ = lax.while_loop(
        unfinished, body, (start, here, bound, moving, jnp.asarray(0, jnp.int32))
    )
    return z, moving


def scalar_response(
    function: Callable[[Array], Array],
    a: Float[Array, "*shape"],
    pull: Float[Array, "*shape"],
    iterations: int = 100,
) -> tuple[Float[Array, "*shape"], Bool[Array, ""]]:
    """Finds a minimum of d^2 / 2 - pull f(a + d) near d = 0 for every entry.

    Newton steps from 0, within bounds (``_descend``).  Where |pull f''| is well below 1, as a large
    nu sees to, there is one minimum, and two or three steps find it.

    Args:
        function: f, entry by entry, with two derivatives almost everywhere and a slope of the order
            of 1.
        a: where f is looked at.
        pull: the weight of f.
        iterations: bound on the steps.

    Returns:
        The minimum, and whether every entry came to rest, to rounding or at a kink of f.
    """
    eps = 8 * jnp.finfo(a.dtype).eps

    def local(d: Array) -> _Local:
        f, f1, f2 = _two_derivatives(function, a + d)
        bend = pull * f2
        return _Local(
            value=0.5 * d**2 - pull * f,
            slope=d - pull * f1,
            curvature=jnp.maximum(jnp.abs(1 - bend), 0.1),
            # What rounding alone makes of f, of f' and of a + d.
            value_noise=eps * (d**2 + jnp.abs(pull * f)),
            slope_noise=eps
            * (jnp.abs(d) + jnp.abs(pull) + jnp.abs(bend) * (jnp.abs(a) + jnp.abs(d))),
        )

    def resolution(d: Array) -> Array:
        return eps * (jnp.abs(a) + jnp.abs(d))

    d, moving = _descend(local, resolution, jnp.zeros_like(a), iterations)
    return d, ~jnp.any(moving)


def _two_derivatives(function: Callable[[Array], Array], z: Array) -> tuple[Array, Array, Array]:
    """f, f' and f'' of an entry-wise function."""
    one = jnp.ones_like(z)

    def with_slope(t: Array) -> tuple[Array, Array]:
        return jax.jvp(function, (t,), (one,))

    (f, f1), (_, f2) = jax.jvp(with_slope, (z,), (one,))
    return f, f1, f2
