"""Samples in blocks: what lies between two products stays in the cache and needs little memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
from jax import lax

from pdadmm_jax._loops import depending
from pdadmm_jax._typing import Array

Moved = TypeVar("Moved")
Found = TypeVar("Found")
Notes = TypeVar("Notes")

# Of each layer.  On CPUs, measured: fewer make products slow, more leave the cache between them.
# Accelerators want large products, and only memory is saved.
ROWS_AT_ONCE = {"cpu": 512}
OTHERS_AT_ONCE = 8192

# Bytes.  An array of no more stays in the cache as it is: cutting it was up to 25 % slower, cutting
# one of 12 MB or more 0 to 10 % faster.
WHOLE = 8 * 2**20


def in_blocks(
    move: Callable[[Moved, Any], tuple[Moved, Found]],
    note: Callable[[Notes, Moved, Any, Found], Notes],
    moved: Moved,
    fixed: Any,
    notes: Notes,
    rows_at_once: int | None,
) -> tuple[Moved, Notes]:
    """Moves samples that need not know of each other, some of them at a time, and takes notes.

    Args:
        move: (moved, fixed) -> (moved, what was found), on some of the samples.
        note: (notes, moved, fixed, what was found) -> notes, after the move.
        moved: pytree of arrays (layers, samples, ...) that are replaced, in place.
        fixed: pytree of such arrays that are only read; a first axis of 1 is fine too.  The first
            of all arrays is one that differs between devices if any does.
        notes: pytree of arrays to start from, such as sums of nothing.
        rows_at_once: samples of a block, or somewhat fewer; None for no blocks.  Small arrays
            make up one block in any case.

    Returns:
        The arrays moved, and the notes after the last block.
    """
    leaves = jax.tree.leaves((moved, fixed))
    samples = leaves[0].shape[1]
    small = max(leaf.size * leaf.dtype.itemsize for leaf in leaves) <= WHOLE
    whole = small or rows_at_once is None
    blocks = 1 if whole else _number(samples, math.ceil(samples / rows_at_once))
    rows = samples // blocks

    def block(start: Array | int, rows: int, moved: Moved, notes: Notes) -> tuple[Moved, Notes]:
        def part(array: Array) -> Array:
            return lax.dynamic_slice_in_dim(array, start, rows, axis=1)

        def put(array: Array, new: Array) -> Array:
            return lax.dynamic_update_slice_in_dim(array, new, start, axis=1)

        still = jax.tree.map(part, fixed)
        new, found = move(jax.tree.map(part, moved), still)
        moved = jax.tree.map(put, moved, new)
        # Read back, so that the compiler cannot compute the new from the old once more, for which
        # it would have to keep a copy of the old.
        return moved, note(notes, jax.tree.map(part, moved), still, found)

    if blocks == 1:
        return block(0, rows, moved, notes)
    notes = jax.tree.map(partial(depending, on=leaves[0]), notes)
    done = blocks * rows
    if done < samples:
        moved, notes = block(done, samples - done, moved, notes)
    return lax.fori_loop(0, blocks, lambda k, old: block(k * rows, rows, *old), (moved, notes))


def _number(samples: int, wanted: int) -> int:
    """How many blocks: some more than wanted if the samples divide evenly then.

    A remainder has to be moved apart from the loop, for which the compiler keeps a copy.
    """
    wanted = min(max(wanted, 1), samples)
    dividing = (number for number in range(wanted, 2 * wanted) if samples % number == 0)
    return next(dividing, wanted)
