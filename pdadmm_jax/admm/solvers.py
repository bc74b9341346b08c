"""How the p- and W-subproblems are solved: one step along the gradient, or exactly.

Both subproblems are quadratic in the variable V that moves (V = p or V = W):

    phi(V + D) = phi(V) + <G, D> + (weight / 2) ||image(D)||^2 + (floor / 2) ||D||^2,

where ``image(D)`` is what D does to the linear map's value (D W for p, p D for W).  The problem
falls apart into independent units, the samples of p and the output neurons of W, and every solver
returns ``image`` of its move, so that the carried value a = p W + b follows by linearity.

The paper's step V - G / tau needs phi(V - G / tau) to lie on or below the quadratic model of
curvature tau, which holds from tau* = weight ||image(G)||^2 / ||G||^2 + floor upward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp

from pdadmm_jax._checks import checked_number
from pdadmm_jax._pytree import pytree_dataclass
from pdadmm_jax._typing import Array, Number
from pdadmm_jax.numerics.linear_solve import solve
from pdadmm_jax.parallel.sample_reductions import ALL_AT_HAND, SampleReductions


class Quadratic(NamedTuple):
    """One p- or W-subproblem around its current point.

    Attributes:
        gradient: G, of V's shape.
        image: the linear map D -> image(D).
        gram: () -> the matrix B with ||image(D)||^2 = <D, D B> (p) or <D, B D> (W).
        weight: nu.
        floor: rho for p, mu for W.
        axis: the axis of V along which ``gram`` acts, 1 for p and 0 for W; the other one counts
            the units.
        samples: where the rows of p, and of all images, are.
    """

    gradient: Array
    image: Callable[[Array], Array]
    gram: Callable[[], Array]
    weight: Number
    floor: Number
    axis: int
    samples: SampleReductions = ALL_AT_HAND


class SolverStep(NamedTuple):
    """What a solver decided: V + length * direction and a + length * image.

    The length is kept apart, so that whoever has to read a anyway can add the image to it then.

    Attributes:
        direction: of V's shape.
        image: what the direction does to the linear map.
        ratio: the largest step-size ratio used.  An exact solve has no step size; its ratio is the
            mean curvature.
        length: one number, or one of each unit along its axis.
    """

    direction: Array
    image: Array
    ratio: Array
    length: Array | float = 1.0


@runtime_checkable
class Solver(Protocol):
    """A pytree dataclass whose numbers are leaves and whose class is static.

    One whose moves of different units have nothing in common, not even a matrix worth computing
    once, may say so by an attribute ``by_unit = True``; samples then pass through it in blocks.
    """

    def step(self, problem: Quadratic) -> SolverStep: ...


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Search:
    """The paper's step: one tau for the layer, ``start`` grown until the model majorises phi.

    Since tau* is known, the accepted trial is known too: no trial is evaluated.

    Attributes:
        start: first tau tried; the authors' code starts at 10.
        growth: factor between trials, above 1; the authors' code doubles.
    """

    start: Number = 10.0
    growth: Number = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", checked_number("start", self.start, above=0.0))
        object.__setattr__(self, "growth", checked_number("growth", self.growth, above=1.0))

    def step(self, problem: Quadratic) -> SolverStep:
        def accepted(least: Array) -> Array:
            # A ratio of 0, where nothing curves, takes the first trial.
            factor = jnp.where(least > 0, least, self.start) / self.start
            trials = jnp.ceil(jnp.log(factor) / jnp.log(self.growth))
            # The logarithms round: look one trial to either side for the first that is enough.
            near = jnp.maximum(trials, 0) + jnp.arange(-1, 2, dtype=least.dtype)
            tau = self.start * self.growth**near
            tau = jnp.min(jnp.where((near >= 0) & (tau >= least), tau, jnp.inf), keepdims=True)
            # A growth that rounds to 1 never gets there; tau* itself is admissible.
            return jnp.where(jnp.isfinite(tau), tau, least).reshape(least.shape)

        return _gradient_step(problem, per_unit=False, ratio=accepted)


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class LayerStep:
    """The smallest admissible step size of the layer, tau* in closed form."""

    def step(self, problem: Quadratic) -> SolverStep:
        return _gradient_step(problem, per_unit=False)


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class UnitStep:
    """The smallest admissible step size of every sample (p) or every output neuron (W).

    phi is a sum over the units, so Lemma 1 of the paper holds unit by unit.
    """

    by_unit: ClassVar[bool] = True

    def step(self, problem: Quadratic) -> SolverStep:
        return _gradient_step(problem, per_unit=True)


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Exact:
    """The minimiser of phi(V + D) + (damping * mean / 2) ||D||^2, by a Cholesky factor.

    ``mean`` is the mean diagonal entry of weight * gram.  The proximal term keeps the system
    regular in single precision where the Gram matrix is not; being zero at D = 0 it cannot cost
    descent.

    Attributes:
        damping: relative weight of the proximal term; at 0 there is none but for rounding.  By the
            default W learns best.
    """

    damping: Number = 0.3

    def __post_init__(self) -> None:
        damping = checked_number("damping", self.damping, above=0.0, allowed=True)
        object.__setattr__(self, "damping", damping)

    def step(self, problem: Quadratic) -> SolverStep:
        gradient = problem.gradient
        curvature = problem.weight * problem.gram()
        mean = jnp.trace(curvature) / curvature.shape[0]
        ridge = problem.floor + self.damping * mean
        if problem.axis == 0:
            delta = -solve(curvature, ridge, gradient)
        else:
            delta = -solve(curvature, ridge, gradient.T).T
        return SolverStep(delta, problem.image(delta), mean + problem.floor)


def _gradient_step(
    problem: Quadratic, *, per_unit: bool, ratio: Callable[[Array], Array] = lambda least: least
) -> SolverStep:
    """V - G / tau with tau = ratio(tau*), tau* taken per unit or over the layer."""
    gradient = problem.gradient
    image = problem.image(gradient)
    least = problem.weight * _squared_ratio(problem, image, per_unit)
    tau = ratio(least + problem.floor)
    # tau = 0 means that nothing curves, hence (the gradient lies in the curvature's range) that
    # the gradient is zero: stay.
    curved = tau > jnp.finfo(tau.dtype).tiny
    inverse = jnp.where(curved, 1 / jnp.where(curved, tau, 1), 0)
    return SolverStep(gradient, image, jnp.max(tau), -inverse)


def _squared_ratio(problem: Quadratic, image: Array, per_unit: bool) -> Array:
    """||image||^2 / ||G||^2 along the problem's axis, or over everything; 0 where both vanish.

    Both are measured in units of the gradient's largest entry: squares of numbers near 1e24 or
    1e-24, which inputs of 1e6 or 1e-6 lead to, leave the range of float32.
    """
    axis = problem.axis if per_unit else None
    # Rows of the image are samples, and so are those of p's gradient; W's has all of them in it.
    across = ALL_AT_HAND if axis == 1 else problem.samples
    across_gradient = across if problem.axis == 1 else ALL_AT_HAND

    def squares(t: Array, samples: SampleReductions) -> Array:
        return samples.total(jnp.sum((t * unit) ** 2, axis=axis, keepdims=True))

    peak = jnp.max(jnp.abs(problem.gradient), axis=axis, keepdims=True)
    peak = across_gradient.greatest(peak)
    unit = 1 / jnp.where(peak > 0, peak, 1)
    return squares(image, across) / jnp.where(
        peak > 0, squares(problem.gradient, across_gradient), 1
    )


SOLVERS: dict[str, Solver] = {
    "search": Search(),
    "layer": LayerStep(),
    "unit": UnitStep(),
    "exact": Exact(),
}
