"""Samples in blocks: what lies between two products stays in cache and needs little memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import jax
from jax import lax

from pdadmm_jax._typing import Array
from pdadmm_jax.numerics.loops import varying_with

Rows = TypeVar("Rows")
Sums = TypeVar("Sums")
BlockFunction = Callable[[Rows, Sums], tuple[Rows, Sums]]

# Bytes of an array's block.  On CPUs, measured: less makes products slow, more leaves the cache
# between them.  Accelerators want large products, and only memory is saved.
BLOCK = {"cpu": 8 * 2**20}
BLOCK_ELSEWHERE = 256 * 2**20
FEWEST = 512  # rows, whatever the bytes, for the sake of the products


def in_blocks(
    functions: Sequence[BlockFunction[Rows, Sums]], rows: Rows, sums: Sums, block_bytes: int | None
) -> tuple[Rows, Sums]:
    """Applies functions to samples that need not know of each other, some of them at a time.

    Args:
        functions: what to do with a block, one after the other: (rows, sums) -> (rows, sums).  Each
            sees what the ones before it wrote; arrays that it returns as they came stay untouched.
        rows: pytree of arrays (layers, samples, ...), changed in place; a first axis of 1 is fine.
            The first of them is one that differs between devices if any does.
        sums: pytree of arrays that the functions add to, such as zeros.
        block_bytes: what a block of the largest array may have, or somewhat more; None for no
            blocks.

    Returns:
        All rows, and the sums after the last block.
    """
    leaves = jax.tree.leaves(rows)
    samples = leaves[0].shape[1]
    blocks = 1
    if block_bytes is not None:
        largest = max(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        most = max(samples // FEWEST, 1)
        blocks = _number(samples, min(math.ceil(largest / block_bytes), most))
    height = samples // blocks

    def block(start: Array | int, height: int, rows: Rows, sums: Sums) -> tuple[Rows, Sums]:
        def part(array: Array) -> Array:
            return lax.dynamic_slice_in_dim(array, start, height, axis=1)

        def put(array: Array, old: Array, new: Array) -> Array:
            if new is old:
                return array
            return lax.dynamic_update_slice_in_dim(array, new, start, axis=1)

        for function in functions:
            # Read back what was written, so that the compiler cannot compute the new from the old
            # once more, for which it would have to keep a copy of the old.
            old = jax.tree.map(part, rows)
            new, sums = function(old, sums)
            rows = jax.tree.map(put, rows, old, new)
        return rows, sums

    if blocks == 1:
        return block(0, height, rows, sums)
    sums = jax.tree.map(partial(varying_with, on=leaves[0]), sums)
    done = blocks * height
    if done < samples:
        rows, sums = block(done, samples - done, rows, sums)
    return lax.fori_loop(0, blocks, lambda k, old: block(k * height, height, *old), (rows, sums))


def _number(samples: int, wanted: int) -> int:
    """How many blocks: some more than wanted if the samples divide evenly then.

    A remainder has to be moved apart from the loop, for which the compiler keeps a copy.
    """
    wanted = min(max(wanted, 1), samples)
    dividing = (number for number in range(wanted, 2 * wanted) if samples % number == 0)
    return next(dividing, wanted)
