"""Positive definite systems by products."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdadmm_jax.numerics import linear_solve


@pytest.mark.x64
@pytest.mark.parametrize("n", [1, 5, 33, 130, 301])
def test_systems_are_solved_by_halves(n):
    """Of a Gram matrix that is regular by its ridge alone, as samples fewer than inputs make it."""
    rng = np.random.default_rng(n)
    p, right = rng.normal(size=(n // 2 + 1, n)), rng.normal(size=(n, 7))
    ridge = jnp.asarray(1e-4 * np.trace(p.T @ p) / n)
    found = linear_solve.solve(jnp.asarray(p.T @ p), ridge, jnp.asarray(right))
    expected = np.linalg.solve(p.T @ p + ridge * np.eye(n), right)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.x64
@pytest.mark.parametrize("n", [1, 33, 301])
def test_solutions_have_forward_derivatives_and_values_that_reverse_mode_knows(n):
    """d(A^-1 b) = -A^-1 dA A^-1 b, stacked or not; A's own value depends on no derivative."""
    rng = np.random.default_rng(n)
    p, change, right = rng.normal(size=(n + 3, n)), rng.normal(size=(n, n)), rng.normal(size=(n, 2))
    matrix, change, ridge = p.T @ p / n + np.eye(n), change + change.T, jnp.asarray(0.1)

    def solved(step):
        return linear_solve.solve(matrix + step * change, ridge, jnp.asarray(right))

    found, derivative = jax.jvp(solved, (0.0,), (1.0,))
    system = matrix + 0.1 * np.eye(n)
    expected = -np.linalg.solve(system, change @ np.linalg.solve(system, right))
    np.testing.assert_allclose(derivative, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    steps = jnp.asarray([0.0, 0.01])
    _, stacked = jax.jvp(jax.vmap(solved), (steps,), (jnp.ones(2),))
    np.testing.assert_allclose(stacked[0], derivative, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(jax.linearize(solved, 0.0)[0], found, rtol=1e-12)


def test_a_system_that_rounding_makes_indefinite_gets_a_larger_ridge():
    p = jnp.ones((4, 200)) * jnp.linspace(1, 1e3, 200)
    found = linear_solve.solve(p.T @ p, jnp.float32(0), p.T @ jnp.ones((4, 3)))
    assert bool(jnp.isfinite(found).all())
    np.testing.assert_allclose(p @ found, jnp.ones((4, 3)), rtol=1e-2)
    nothing = linear_solve.solve(jnp.zeros((70, 70)), jnp.float32(0), jnp.zeros((70, 2)))
    assert not nothing.any()


STACKED = """
import jax, jax.numpy as jnp
from pdadmm_jax.numerics.linear_solve import solve

matrices = 2.0 * jnp.stack([jnp.eye(500)] * 8)
once = jax.vmap(lambda matrix, right: solve(matrix, jnp.float32(1), right))
many = jax.jit(lambda right: jax.lax.fori_loop(0, 5, lambda _, x: once(matrices, x), right))
print(float(many(jnp.ones((8, 500, 500)))[0, 0, 0] * 3**5))
"""


@pytest.mark.slow
def test_stacked_systems_within_a_loop_end_with_the_threads_that_users_have():
    unset = ("XLA_FLAGS", "PJRT_NPROC", "JAX_NUM_CPU_DEVICES", "OPENBLAS_NUM_THREADS")
    surroundings = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", STACKED],
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert float(done.stdout) == pytest.approx(1, rel=2e-3)  # the least ridge
