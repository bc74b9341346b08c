"""The samples of a pass: which of them pass together, and how they reach the layers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pdadmm_jax._typing import Array, Bool, Float, Int
from pdadmm_jax.problems.data import Data


class Block(NamedTuple):
    """Samples that pass through a layer together; of those that do not count, x is 0.

    Attributes:
        x: inputs of the network.
        y: labels or targets.
        valid: which samples count; None for all, known when the program is built.
    """

    x: Float[Array, "*slots rows features"]
    y: Array
    valid: Bool[Array, "*slots rows"] | None

    def keep(self, rows: Array) -> Array:
        """The rows of the samples that count, zero in place of the others."""
        return Data.keep(Data(self.x, self.y, self.valid), rows)

    @property
    def number(self) -> Array:
        """How many samples count."""
        if self.valid is None:
            return jnp.asarray(self.x.shape[0], self.x.dtype)
        return jnp.sum(self.valid, dtype=self.x.dtype)


class Batches(NamedTuple):
    """The samples of a pass.

    Attributes:
        data: the samples at hand.
        rows: which of them each block has, -1 for none.
        complete: whether every block is full of samples that count, known when the program is
            built.
    """

    data: Data
    rows: Int[Array, "updates blocks rows"]
    complete: bool

    def valid(self, rows: Array) -> Array | None:
        """Which of these rows count; None for all."""
        if self.complete:
            return None
        return rows >= 0 if self.data.valid is None else (rows >= 0) & self.data.valid[rows]

    def number(self, rows: Array) -> Array:
        """How many of these rows count."""
        valid, dtype = self.valid(rows), self.data.x.dtype
        return jnp.asarray(rows.size, dtype) if valid is None else jnp.sum(valid, dtype=dtype)

    def inputs(self, rows: Array) -> Array:
        """x of these rows, zero where none count."""
        valid, x = self.valid(rows), self.data.x[rows]
        return x if valid is None else jnp.where(valid[:, None], x, 0)

    def block(self, rows: Array) -> Block:
        """The samples of these rows."""
        return Block(self.inputs(rows), self.data.y[rows], self.valid(rows))

    def no_blocks(self, slots: int) -> Block:
        """Empty slots for blocks of one stage."""
        x, y, _ = self.data
        shape = 1, slots, self.rows.shape[-1]
        empty = no_blocks(shape, x.shape[1], x.dtype, y.shape[1:], y.dtype)
        return empty._replace(valid=None) if self.complete else empty


def shuffled(data: Data, numbers: np.ndarray, key: Array | None) -> Batches:
    """The batches of a pass.

    Args:
        data: the samples at hand.
        numbers: of the samples that pass together, as ``batches_of`` has them.
        key: shuffles the samples; None to take them as they come.
    """
    rows, full = jnp.asarray(numbers), bool((numbers >= 0).all())
    if key is not None:
        order = jax.random.permutation(key, jnp.arange(data.x.shape[0], dtype=jnp.int32))
        rows = order[rows] if full else jnp.where(rows >= 0, order[rows], -1)
    return Batches(data, rows, complete=full and data.valid is None)


def no_blocks(
    shape: tuple[int, int, int], features: int, dtype: Any, target: tuple[int, ...], label: Any
) -> Block:
    """Empty slots for blocks.

    Args:
        shape: stages, slots and rows.
        features: of a sample.
        dtype: of x.
        target: shape of a sample's label.
        label: its dtype.
    """
    x, y = jnp.zeros((*shape, features), dtype), jnp.zeros((*shape, *target), label)
    return Block(x, y, jnp.zeros(shape, bool))


def batches_of(
    samples: int, batch: int | None, block: int, devices: int, microbatches: int = 1
) -> np.ndarray:
    """Which rows pass together, on each of the devices that share the samples.

    Args:
        samples: rows of all devices.
        batch: samples of all devices between two updates; None for all.
        block: samples of all devices that pass at a time, at most; 0 for whole batches.
        devices: how many share the samples.
        microbatches: blocks that a batch is split into at least.

    Returns:
        Numbers of a device's own rows, (updates, blocks, rows); -1 for none.

    Raises:
        ValueError: a batch of which not every device has as many.
    """
    if batch is not None and batch % devices:
        raise ValueError(
            f"batch is {batch}, but {devices} data shards have to share it evenly: give a multiple."
        )
    own = samples // devices
    batch = min(own if batch is None else batch // devices, own)
    blocks = 1 if not block else math.ceil(batch / math.ceil(block / devices))
    blocks = max(blocks, microbatches)
    height = math.ceil(batch / blocks)
    updates = math.ceil(own / batch)
    within = np.arange(blocks * height)
    rows = np.arange(updates)[:, None] * batch + within
    rows = np.where((within < batch) & (rows < own), rows, -1)
    return rows.reshape(updates, blocks, height).astype(np.int32)
