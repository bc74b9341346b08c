"""The samples that are learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pdadmm_jax._arrays import numeric
from pdadmm_jax._checks import check_finite, check_training_inputs, is_concrete
from pdadmm_jax._typing import Array, Bool, Float, Shaped
from pdadmm_jax.problems.problem import (
    Problem,
    check_problem,
    check_representable,
    check_residual_block,
)


class Data(NamedTuple):
    """What is learnt from; rows are samples.

    NumPy arrays will do, as will lists, data frames and tensors of other libraries on the CPU.

    Attributes:
        x: inputs, p_1 of the paper.  Their dtype is that of the whole state.
        y: integer labels, a column of them, or rows of targets or label distributions; for a
            network with a single output, plain targets.
        valid: which samples count, None for all.  The others, x = 0, make up the numbers where
            samples have to divide evenly; they take part in no sum and no mean.
    """

    x: Float[Array, "N features"]
    y: Shaped[Array, "N"] | Shaped[Array, "N columns"]
    valid: Bool[Array, "N"] | None = None

    def keep(self, rows: Array, otherwise: Array | float = 0.0) -> Array:
        """The rows of the samples that count; zero, or what is given, in place of the others."""
        if self.valid is None:
            return rows
        valid = jnp.expand_dims(self.valid, range(1, rows.ndim))
        return jnp.where(valid, rows, jnp.asarray(otherwise, rows.dtype))

    def mean(self, rows: Array) -> Array:
        """The mean over the samples that count, one number."""
        number = self.number
        return jnp.sum(self.keep(rows)) / (rows.shape[0] if number is None else number)

    @property
    def number(self) -> Array | None:
        """How many of the rows at hand count; None for all."""
        return None if self.valid is None else jnp.sum(self.valid, dtype=self.x.dtype)


def as_arrays(data: Data) -> Data:
    """The data as JAX arrays, doubles as singles unless x64 is on.

    Raises:
        TypeError: no ``Data``, or what makes no arrays of numbers in it.
        ValueError: whole numbers beyond 32 bits.
    """
    x, y, valid = numeric_data(data)
    x, y = jnp.asarray(x), jnp.asarray(y)
    if jnp.issubdtype(x.dtype, jnp.floating) and jnp.issubdtype(y.dtype, jnp.floating):
        y = y.astype(x.dtype)  # targets are as precise as the state they are compared with
    return Data(x, y, None if valid is None else jnp.asarray(valid))


def numeric_data(data: Data) -> Data:
    """The data as arrays of numbers where they are, on a device or on the host.

    Raises:
        TypeError: no ``Data``, or what makes no arrays of numbers in it.
        ValueError: whole numbers beyond 32 bits.
    """
    if not isinstance(data, Data):
        raise TypeError(f"data is a {type(data).__name__}, but has to be Data(x, y).")
    x, y = numeric_inputs(data.x), numeric("y", data.y)
    return Data(x, y, None if data.valid is None else numeric("valid", data.valid))


def numeric_inputs(x: Any) -> Any:
    """The inputs as an array of numbers; whole ones in lists, which have no dtype, as floating.

    Raises:
        TypeError: they make none.
    """
    array = numeric("x", x)
    whole = isinstance(x, (list, tuple)) and jnp.issubdtype(array.dtype, jnp.integer)
    return array.astype(np.float64) if whole else array


def check_data(data: Data, widths: Sequence[int], problem: Problem) -> None:
    """Refuses data that do not fit the network or the loss, and numbers beyond the data's dtype.

    Values are looked at where they are known: outside jit.

    Raises:
        ValueError: naming both values and the way out.
    """
    check_training_inputs(data.x, widths[0])
    if is_concrete(data.x):
        check_finite("x", data.x)
    check_targets(data, widths[-1], problem)
    check_representable(problem, data.x.dtype)
    check_residual_block(problem.residual_block, widths)


def check_targets(data: Data, outputs: int, problem: Problem) -> None:
    """Refuses targets that fit neither the inputs nor the loss."""
    check_problem(problem)
    x, y, valid = data
    if x.shape[0] < 1:
        raise ValueError(f"x has shape {x.shape}: at least 1 sample is needed.")
    if y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise ValueError(
            f"x holds {x.shape[0]} samples, y has shape {y.shape}: y has to be (samples,) or "
            "(samples, outputs) with as many samples."
        )
    if valid is not None and (valid.shape != x.shape[:1] or valid.dtype != bool):
        raise ValueError(
            f"valid has shape {valid.shape} and dtype {valid.dtype}, but x holds {x.shape[0]} "
            "samples: give one bool for each."
        )
    problem.loss.check(y, outputs)
