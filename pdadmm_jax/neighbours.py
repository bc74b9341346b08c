"""What layers pass to their neighbours, on one device: f(z) upward, q downward.

Each function takes one array per stack of layers (leading axis: the layers of the stack) and
shifts the whole sequence by one layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax.numpy as jnp

from pdadmm_jax._typing import Array


def from_below(stacks: Sequence[Array]) -> list[Array | None]:
    """For every layer, the array of the layer below; None for the first, which has none."""
    shifted: list[Array | None] = [None]
    for below, own in itertools.pairwise(stacks):
        shifted.append(_join(below[-1:], own[:-1]))
    return shifted


def from_above(stacks: Sequence[Array | None]) -> list[Array | None]:
    """For every layer, the array of the layer above; None for the last.

    The first stack, a single layer whose own array nobody needs, may be None.
    """
    shifted: list[Array | None] = []
    for own, above in itertools.pairwise(stacks):
        assert above is not None
        shifted.append(above[:1] if own is None else _join(own[1:], above[:1]))
    return [*shifted, None]


def _join(left: Array, right: Array) -> Array:
    """Concatenation that copies nothing where one side is empty."""
    if not left.shape[0]:
        return right
    return jnp.concatenate([left, right]) if right.shape[0] else left
