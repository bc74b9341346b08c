"""Samples in blocks: what lies between two products stays in the cache and needs little memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import jax
from jax import lax

from pdadmm_jax._typing import Array
from pdadmm_jax.numerics.loops import depending

Rows = TypeVar("Rows")
Notes = TypeVar("Notes")
Move = Callable[[Rows, Notes], tuple[Rows, Notes]]

# Bytes of an array's block.  On CPUs, measured: less makes products slow, more leaves the cache
# between them.  Accelerators want large products, and only memory is saved.
BLOCK = {"cpu": 8 * 2**20}
BLOCK_ELSEWHERE = 256 * 2**20
FEWEST = 512  # rows, whatever the bytes, for the sake of the products


def in_blocks(
    moves: Sequence[Move[Rows, Notes]], rows: Rows, notes: Notes, block_bytes: int | None
) -> tuple[Rows, Notes]:
    """Moves samples that need not know of each other, some of them at a time, and takes notes.

    Args:
        moves: what to do with a block, one after the other: (rows, notes) -> (rows, notes).  Each
            sees what the ones before it wrote; arrays that it returns as they came stay untouched.
        rows: pytree of arrays (layers, samples, ...), changed in place; a first axis of 1 is fine.
            The first of them is one that differs between devices if any does.
        notes: pytree of arrays to start from, such as sums of nothing.
        block_bytes: what a block of the largest array may have, or somewhat more; None for no
            blocks.

    Returns:
        All rows, and the notes after the last block.
    """
    leaves = jax.tree.leaves(rows)
    samples = leaves[0].shape[1]
    blocks = 1
    if block_bytes is not None:
        largest = max(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        most = max(samples // FEWEST, 1)
        blocks = _number(samples, min(math.ceil(largest / block_bytes), most))
    height = samples // blocks

    def block(start: Array | int, height: int, rows: Rows, notes: Notes) -> tuple[Rows, Notes]:
        def part(array: Array) -> Array:
            return lax.dynamic_slice_in_dim(array, start, height, axis=1)

        def put(array: Array, old: Array, new: Array) -> Array:
            if new is old:
                return array
            return lax.dynamic_update_slice_in_dim(array, new, start, axis=1)

        for move in moves:
            # Read back what was written, so that the compiler cannot compute the new from the old
            # once more, for which it would have to keep a copy of the old.
            old = jax.tree.map(part, rows)
            new, notes = move(old, notes)
            rows = jax.tree.map(put, rows, old, new)
        return rows, notes

    if blocks == 1:
        return block(0, height, rows, notes)
    notes = jax.tree.map(partial(depending, on=leaves[0]), notes)
    done = blocks * height
    if done < samples:
        rows, notes = block(done, samples - done, rows, notes)
    return lax.fori_loop(0, blocks, lambda k, old: block(k * height, height, *old), (rows, notes))


def _number(samples: int, wanted: int) -> int:
    """How many blocks: some more than wanted if the samples divide evenly then.

    A remainder has to be moved apart from the loop, for which the compiler keeps a copy.
    """
    wanted = min(max(wanted, 1), samples)
    dividing = (number for number in range(wanted, 2 * wanted) if samples % number == 0)
    return next(dividing, wanted)
