"""Symmetric positive definite systems by matrix products.

LAPACK's routines bring threads of their own, which wait for processors that the program's other
threads or other programs use: with other work on the machine they take several times as long.
Products share the threads of the program, and are what accelerators are made for.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.numerics.products import multiply

# Rows of the blocks that LAPACK factors and inverts, few enough for it to use one thread.
FACTORED, INVERTED = 128, 32


def solve(
    matrix: Float[Array, "n n"], ridge: Array, right: Float[Array, "n k"]
) -> Float[Array, "n k"]:
    """(matrix + ridge I)^-1 right, the ridge raised as ``regularized`` says."""
    inverse = regularized(matrix, ridge)
    return multiply(inverse.T, multiply(inverse, right))


def regularized(matrix: Float[Array, "n n"], ridge: Array) -> Float[Array, "n n"]:
    """M with M' M = (matrix + ridge I)^-1, the ridge raised as far as rounding makes it need.

    A singular Gram matrix comes out of its sums slightly indefinite.  The first ridge has the size
    of their rounding, as the trace bounds it; every failure makes it eight times larger, so that
    it soon exceeds the matrix itself.
    """
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    trace = jnp.trace(matrix)

    def failed(carry: tuple[Array, Array, Array]) -> Array:
        inverse, _, count = carry
        return ~jnp.isfinite(inverse).all() & (count < 10)

    def attempt(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, extra, count = carry
        return inverse_factor(matrix + (ridge + extra) * identity), 8 * extra, count + 1

    # Nothing curves (p = 0, mu = 0): the right side is zero, and any positive ridge will do.
    extra = jnp.where(trace + ridge > 0, 4 * jnp.finfo(matrix.dtype).eps * trace, 1)
    start = (matrix * jnp.nan, extra, jnp.asarray(0, jnp.int32))
    return lax.while_loop(failed, attempt, start)[0]


@jax.custom_jvp
def inverse_factor(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse of the lower Cholesky factor; NaN for a matrix that is not positive definite.

    Its derivative is written out: JAX 0.7's reverse mode takes values from `sequential_vmap` for
    unknown ones as soon as tangents pass through it.
    """
    return _one_after_the_other(matrix)


@inverse_factor.defjvp
def _derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # From L L' = A, with M = L^-1: M dA M' = M dL + (M dL)', where M dL is lower triangular.
    inverse, (change,) = inverse_factor(*primals), tangents
    whole = multiply(inverse, multiply(change, inverse.T))
    lower = jnp.tril(whole) - jnp.diag(jnp.diag(whole)) / 2
    return inverse, -multiply(lower, inverse)


def _by_halves(matrix: Array) -> Array:
    n = len(matrix)
    if n <= FACTORED:
        return _inverse_of_lower(jnp.linalg.cholesky(matrix))
    half = n // 2
    upper = _by_halves(matrix[:half, :half])
    across = multiply(matrix[half:, :half], upper.T)
    lower = _by_halves(matrix[half:, half:] - multiply(across, across.T))
    return _joined(upper, across, lower)


# On CPUs, LAPACK's calls for a batch of matrices within a loop have been seen to wait for each
# other for ever.
_one_after_the_other = jax.custom_batching.sequential_vmap(_by_halves)


def _inverse_of_lower(factor: Array) -> Array:
    """The inverse of a lower triangular matrix."""
    n = len(factor)
    if n <= INVERTED:
        return jax.scipy.linalg.solve_triangular(factor, jnp.eye(n, dtype=factor.dtype), lower=True)
    half = n // 2
    upper, lower = _inverse_of_lower(factor[:half, :half]), _inverse_of_lower(factor[half:, half:])
    return _joined(upper, factor[half:, :half], lower)


def _joined(upper: Array, across: Array, lower: Array) -> Array:
    """The inverse of a lower triangular matrix.

    Args:
        upper: inverse of its upper left block.
        across: its lower left block.
        lower: inverse of its lower right block.
    """
    corner = -multiply(lower, multiply(across, upper))
    nothing = jnp.zeros((len(upper), len(lower)), upper.dtype)
    return jnp.block([[upper, nothing], [corner, lower]])
