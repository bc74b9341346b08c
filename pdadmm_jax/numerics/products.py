"""Matrix products, with inputs as precise as asked for and sums always in the arrays' own type."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array

PRECISIONS = ("float32", "tf32", "bfloat16")
Precision = str  # one of these

_EXPONENT_BITS, _TF32_MANTISSA_BITS = 8, 10


def multiply(left: Array, right: Array, precision: Precision = "float32") -> Array:
    """The product of two matrices, or of stacks of them.

    Args:
        left: matrix.
        right: matrix.
        precision: what the inputs are rounded to.  "float32" leaves them as they are, be they
            single or double; JAX's own default would round them on GPUs and TPUs.  "tf32" keeps 10
            bits behind the leading one: on GPUs by their tensor cores, on TPUs by three passes of
            bfloat16 (which keep more), on CPUs, more slowly, by rounding first.  "bfloat16" keeps
            7 bits everywhere.

    Raises:
        ValueError: double precision to be rounded.
    """
    if precision == "float32":
        return _exactly(left, right)
    if left.dtype != jnp.float32:
        raise ValueError(
            f"precision is {precision!r}, but the arrays are {left.dtype}: rounded products are "
            "for float32; take 'float32', which leaves inputs as they are."
        )
    if precision == "bfloat16":
        left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
        return jnp.matmul(left, right, preferred_element_type=jnp.float32)
    return lax.platform_dependent(left, right, cpu=_rounded_to_tf32, default=_by_tensor_cores)


def _exactly(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)


def _by_tensor_cores(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=lax.Precision.HIGH)


def _rounded_to_tf32(left: Array, right: Array) -> Array:
    def rounded(array: Array) -> Array:
        return lax.reduce_precision(array, _EXPONENT_BITS, _TF32_MANTISSA_BITS)

    return _exactly(rounded(left), rounded(right))
