"""Residual connections: what goes around the layers of a block, on the way up and on the way down.

From the second hidden layer on, every K hidden layers are a block; the last block may be shorter.
The last layer of a block has

    q = f(z) + p of the first layer of the block,

all others q = f(z).  On the way down, u of the last layer of a block is added to r W^T of its
first: dq/dp is f'(z) W and the identity.

So one array goes up and one down for K = 0 (a plain chain) and K = 1, two for longer blocks: p and
the input of the block, u and what is to be added at its beginning.  ``Passing`` has them as one.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from pdadmm_jax._typing import Array

Passing = tuple[Array, ...]  # one or two of (rows, h)


def arrays(residual_block: int) -> int:
    """How many arrays pass from layer to layer.

    Args:
        residual_block: K, hidden layers of a block; 0 for a plain chain.
    """
    return 2 if residual_block > 1 else 1


def entering(array: Array, residual_block: int) -> Passing:
    """What passes up from the first layer, given f(z), or down from the last, given u."""
    return (array,) * arrays(residual_block)


def upward(output: Array, below: Passing, layer: Array, depth: int, residual_block: int) -> Passing:
    """What passes up from a hidden layer.

    Args:
        output: its f(z).
        below: what has passed up to it.
        layer: its number from 0, the network's first layer being 0.
        depth: layers of the network.
        residual_block: K.
    """
    if residual_block == 0:
        return (output,)
    if residual_block == 1:
        return (output + below[0],)
    _, entered = below
    ends = ends_block(layer, depth, residual_block)
    q = output + jnp.where(ends, entered, 0)
    return q, jnp.where(ends, q, entered)


def downward(
    pulled: Array, above: Passing, layer: Array, depth: int, residual_block: int
) -> Passing:
    """What passes down from a hidden layer.

    Args:
        pulled: its r W^T.
        above: what has passed down to it.
        layer: its number from 0.
        depth: layers of the network.
        residual_block: K.
    """
    if residual_block == 0:
        return (pulled,)
    if residual_block == 1:
        return (pulled + above[0],)
    u, around = above
    around = jnp.where(ends_block(layer, depth, residual_block), u, around)
    return pulled + jnp.where((layer - 1) % residual_block == 0, around, 0), around


def ends_block(layer: Any, depth: int, residual_block: int) -> Any:
    """Whether a hidden layer but the first is the last of a block.

    Args:
        layer: its number from 0, or an array of such.
        depth: layers of the network.
        residual_block: K, above 0.
    """
    return (layer % residual_block == 0) | (layer == depth - 2)
