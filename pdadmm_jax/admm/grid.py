"""Quantised variables: p and q on the points of a grid."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp

from pdadmm_jax._checks import checked_number
from pdadmm_jax._typing import Array, Float


@dataclasses.dataclass(frozen=True)
class Grid:
    """Multiples of a spacing that p and q are restricted to, as in pdADMM-G-Q (arXiv 2105.09837).

    The problems of lines 1 and 5, as they are solved, are separable and curved alike in all
    entries of a row: of line 5 the point nearest to the solution is the minimiser on the grid, of
    line 1 that of its majorant ("exact" has none; the nearest point is taken too).  Lemmas 1 and 4
    do not hold on a grid.

    Attributes:
        low: bound from below, 0 or less.
        high: bound from above, 0 or more; one of them is not 0.
        spacing: between two points, one of which is 0.

    Raises:
        ValueError: bounds or a spacing that leave less than two points, or leave out 0.
    """

    low: float
    high: float
    spacing: float

    def __post_init__(self) -> None:
        spacing = checked_number("spacing", self.spacing, above=0.0)
        low = checked_number("low", self.low, above=-math.inf)
        checked_number("-low", -low, above=0.0, allowed=True)
        high = checked_number("high", self.high, above=0.0, allowed=True)
        for name, number in (("low", low), ("high", high), ("spacing", spacing)):
            object.__setattr__(self, name, float(number))
        if self.points < 2:
            raise ValueError(
                f"the grid from {low:g} to {high:g} has no point but 0 where spacing is "
                f"{spacing:g}: give a smaller one."
            )

    @property
    def points(self) -> int:
        """How many points there are."""
        first, last = self._ends
        return last - first + 1

    @property
    def _ends(self) -> tuple[int, int]:
        return math.ceil(self.low / self.spacing), math.floor(self.high / self.spacing)

    def nearest(self, values: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """The point nearest to every entry."""
        return self.spacing * jnp.clip(jnp.round(values / self.spacing), *self._ends)

    def multiple(self, values: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """The multiple of the spacing nearest to every entry, within the bounds or not."""
        return self.spacing * jnp.round(values / self.spacing)
