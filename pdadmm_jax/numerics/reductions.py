"""Sums along rows, several of them in one pass over memory.

An iteration is matrix products and reading arrays again; sums that are written one by one read
their arrays once each.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Float


def row_sums(*terms: Float[Array, "*rows n"]) -> tuple[Float[Array, "*rows"], ...]:
    """The sum of each term along the last axis."""
    zeros = tuple(jnp.zeros((), term.dtype) for term in terms)
    return tuple(lax.reduce(terms, zeros, _add, (terms[0].ndim - 1,)))


def _add(some: tuple[Array, ...], others: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(one + other for one, other in zip(some, others, strict=True))
