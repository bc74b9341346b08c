"""Activations f and their proximal problem, the hidden z-update of the paper.

After division by nu, line 4 of Algorithm 1 is, for every entry on its own,

    argmin_z  (q - f(z))^2 / 2  +  (stiffness / 2) (z - centre)^2,

with ``stiffness = 1 + proximal`` and ``centre = (a + proximal z_old) / stiffness``.  An activation
brings f and a solver of this scalar problem.  Piecewise linear ones solve it exactly; any other
scalar function goes through the bounded search of ``scalar_prox``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from pdadmm_jax._functions import HoldsFunction
from pdadmm_jax._typing import Array, Bool, Float, Number
from pdadmm_jax.problems.hidden_prox import scalar_prox, scalar_response


@runtime_checkable
class Activation(Protocol):
    """What the updates ask of an activation; implementations are frozen, hence hashable."""

    @property
    def lipschitz(self) -> float:
        """S of the paper's assumption 1: |f(a) - f(b)| <= S |a - b|."""
        ...

    @property
    def idempotent(self) -> bool:
        """Whether f(f(z)) = f(z), so that an identity layer keeps the function."""
        ...

    def __call__(self, z: Array) -> Array: ...

    def prox(self, q: Array, centre: Array, stiffness: Number, start: Array) -> tuple[Array, Array]:
        """The minimiser of the problem above, and whether the solve converged."""
        ...

    def respond(self, a: Array, pull: Array) -> tuple[Array, Array]:
        """argmin_d  d^2 / 2 - pull f(a + d) near d = 0, and whether the solve converged.

        The z-update of sweeps, d = z - a and pull = u / nu: q is eliminated by u = nu (q - f(z)),
        Lemma 4 of the paper.
        """
        ...


@dataclasses.dataclass(frozen=True)
class LeakyReLU:
    """f(z) = max(z, slope z), with 0 <= slope <= 1; slope 0 is ReLU.

    Attributes:
        slope: derivative of f left of zero.

    Raises:
        ValueError: slope outside [0, 1].
    """

    slope: float = 0.01
    lipschitz: float = dataclasses.field(default=1.0, init=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.slope <= 1.0:
            raise ValueError(
                f"slope is {self.slope}, which lies outside [0, 1]: choose one inside."
            )

    def __str__(self) -> str:
        return f"leaky_relu({self.slope:g})" if self.slope else "relu"

    @property
    def idempotent(self) -> bool:
        return self.slope in (0.0, 1.0)

    def __call__(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(z >= 0, z, self.slope * z)

    def prox(
        self,
        q: Float[Array, "*shape"],
        centre: Float[Array, "*shape"],
        stiffness: Number,
        start: Float[Array, "*shape"],
    ) -> tuple[Float[Array, "*shape"], Bool[Array, ""]]:
        """Exact minimiser: the better of the two branches' constrained minimisers.

        Args:
            q: activation variable.
            centre: centre of the quadratic term.
            stiffness: weight of the quadratic term, 1 + proximal.
            start: not needed by a closed form.

        Returns:
            The minimiser and the flag True.
        """
        del start
        slope = self.slope
        left = jnp.minimum((stiffness * centre + slope * q) / (stiffness + slope**2), 0.0)
        right = jnp.maximum((stiffness * centre + q) / (stiffness + 1.0), 0.0)
        left_value = (q - slope * left) ** 2 + stiffness * (left - centre) ** 2
        right_value = (q - right) ** 2 + stiffness * (right - centre) ** 2
        return jnp.where(right_value <= left_value, right, left), jnp.asarray(True)

    def respond(
        self, a: Float[Array, "*shape"], pull: Float[Array, "*shape"]
    ) -> tuple[Float[Array, "*shape"], Bool[Array, ""]]:
        """Exact minimiser, each branch of f having one: d = pull, or d = slope pull.

        For pull >= 0 the branches' values are equal where a = -(1 + slope) pull / 2.  For pull < 0
        at most one branch has its minimiser on its own side; if none has, it is the kink.

        Args:
            a: the linear map's value.
            pull: the multiplier over nu.

        Returns:
            The way from a to the minimiser, not rounded by a, and the flag True.
        """
        left = self.slope * pull if self.slope else jnp.zeros_like(pull)
        upward = jnp.where(a >= -0.5 * (1 + self.slope) * pull, pull, left)
        downward = jnp.minimum(jnp.maximum(pull, -a), left)
        return jnp.where(pull < 0, downward, upward), jnp.asarray(True)


@dataclasses.dataclass(frozen=True)
class NumericActivation(HoldsFunction):
    """Any scalar activation, its z-update solved numerically.

    Attributes:
        function: f, applied entry by entry and twice differentiable by JAX almost everywhere; its
            bends are expected within a few units of zero, as those of all usual activations are.
            Give a function of a module rather than a fresh lambda, so that jit knows it again.
        lipschitz: S, needed by the certified mode alone.
        idempotent: whether f(f(z)) = f(z).
        iterations: bound on the descent steps of the numeric solve.

    Raises:
        TypeError: no function.
        ValueError: lipschitz not above 0.
    """

    function: Callable[[Array], Array]
    lipschitz: float = float("inf")
    idempotent: bool = False
    iterations: int = 100

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                f"function is {self.function!r}, but has to be one of arrays, such as jax.nn.silu."
            )
        if not self.lipschitz > 0:
            raise ValueError(
                f"lipschitz is {self.lipschitz}, but has to be above 0; leave it out if unknown."
            )

    def __str__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function)).lstrip("_")

    def __call__(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.function(z)

    def prox(
        self,
        q: Float[Array, "*shape"],
        centre: Float[Array, "*shape"],
        stiffness: Number,
        start: Float[Array, "*shape"],
    ) -> tuple[Float[Array, "*shape"], Bool[Array, ""]]:
        """Bounded numeric minimiser, never worse than ``start``; see ``scalar_prox``."""
        return scalar_prox(self.function, q, centre, stiffness, start, self.iterations)

    def respond(
        self, a: Float[Array, "*shape"], pull: Float[Array, "*shape"]
    ) -> tuple[Float[Array, "*shape"], Bool[Array, ""]]:
        """Bounded numeric solution of d = pull f'(a + d) near 0; see ``scalar_response``."""
        return scalar_response(self.function, a, pull, self.iterations)


def _gelu(z: Array) -> Array:
    return jax.nn.gelu(z, approximate=False)


relu = LeakyReLU(0.0)
leaky_relu = LeakyReLU(0.01)
tanh = NumericActivation(jnp.tanh, lipschitz=1.0)
sigmoid = NumericActivation(jax.nn.sigmoid, lipschitz=0.25)
softplus = NumericActivation(jax.nn.softplus, lipschitz=1.0)
gelu = NumericActivation(_gelu, lipschitz=1.13)  # f' peaks at z = sqrt(2): 1.1290

ACTIVATIONS: dict[str, Activation] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "gelu": gelu,
}
