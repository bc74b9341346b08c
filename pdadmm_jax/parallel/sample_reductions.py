"""Sums over samples, wherever the samples are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from pdadmm_jax._typing import Array


def _unchanged(array: Array) -> Array:
    return array


class SampleReductions(NamedTuple):
    """How sums over one device's samples become sums over all samples.

    The updates reduce over the rows at hand and hand the result to these; on one device there is
    nothing to add.

    Attributes:
        total: adds up over the devices that hold other samples.
        greatest: the same for maxima.
        number: how many samples there are; None for as many as there are rows at hand.
    """

    total: Callable[[Array], Array] = _unchanged
    greatest: Callable[[Array], Array] = _unchanged
    number: Array | None = None

    def mean(self, rows: Array) -> Array:
        """Mean over all samples; rows that do not count have to be zero."""
        return self.mean_of(jnp.sum(rows, axis=0), len(rows))

    def mean_of(self, total: Array, rows: int) -> Array:
        """The same, given the sum of the rows at hand and how many there are."""
        return self.total(total) / (rows if self.number is None else self.number)


ALL_AT_HAND = SampleReductions()
