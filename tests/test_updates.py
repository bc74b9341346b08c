"""Lines 1, 2, 3, 5 and 6 on one layer: descent, stationarity, degenerate input, every scale."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdadmm_jax import admm
from pdadmm_jax.admm import updates
from pdadmm_jax.admm.solvers import UnitStep
from tests import reference

SCALES = st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6])
PENALTIES = st.sampled_from([1e-6, 1e-2, 1.0, 1e6])
SHAPES = st.sampled_from([(1, 3, 2), (7, 3, 5), (7, 5, 3), (16, 4, 4), (3, 1, 1)])
KINDS = st.sampled_from(["random", "zero", "dead unit", "duplicates", "at rest"])
SOLVERS = [admm.Search(), admm.LayerStep(), UnitStep(), admm.Exact()]
many = settings(max_examples=60, deadline=None, derandomize=True)


def layer(shape, scale, kind, seed, dtype=jnp.float32):
    """p, W, b, z, q, u of one layer."""
    samples, n_in, n_out = shape
    rng = np.random.default_rng(seed)
    p, q, u = (scale * rng.standard_normal((samples, n_in)) for _ in range(3))
    W, b = scale * rng.standard_normal((n_in, n_out)), scale * rng.standard_normal(n_out)
    z = scale * rng.standard_normal((samples, n_out))
    if kind == "zero":
        p, q, u, W, b, z = (0 * t for t in (p, q, u, W, b, z))
    elif kind == "dead unit":
        p[:, 0], W[:, 0], W[0] = 0, 0, 0
    elif kind == "duplicates":
        p[:], q[:], u[:], z[:] = p[0], q[0], u[0], z[0]
    elif kind == "at rest":  # both gradients are exactly zero
        q, u = p, 0 * u
    p, W, b, z, q, u = (jnp.asarray(t, dtype) for t in (p, W, b, z, q, u))
    return [p, W, b, p @ W + b if kind == "at rest" else z, q, u]


def phi(p, W, b, z, q, u, nu, rho, mu=0.0):
    """The p- and W-subproblem in float64."""
    p, W, b, z, q, u = (np.asarray(t, np.float64) for t in (p, W, b, z, q, u))
    return reference.phi(p, W, b, z, nu, mu, rho, q, u)


def rounding(p, W, b, z, q, u, nu, rho, mu=0.0):
    """How far single precision may put phi: each difference it squares is off by eps."""
    p, W, b, z, q, u = (np.abs(np.asarray(t, np.float64)) for t in (p, W, b, z, q, u))
    linear, gap = z + p @ W + b, p + q
    size = nu * np.sum(linear**2) + np.sum(u * gap) + rho * np.sum(gap**2) + mu * np.sum(W**2)
    return 3e-6 * size


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
@given(shape=SHAPES, scale=SCALES, kind=KINDS, nu=PENALTIES, rho=PENALTIES, seed=st.integers(0, 9))
@many
def test_p_descends_at_every_scale(solver, shape, scale, kind, nu, rho, seed):
    p, W, b, z, q, u = layer(shape, scale, kind, seed)
    a = p @ W + b
    new = updates.update_p(p, W, a, z, q, u, nu, rho, solver)
    assert np.isfinite(new.value).all()
    assert np.isfinite(new.a).all()
    slack = rounding(p, W, b, z, q, u, nu, rho)
    assert phi(new.value, W, b, z, q, u, nu, rho) <= phi(p, W, b, z, q, u, nu, rho) + slack
    if kind in ("zero", "at rest"):
        np.testing.assert_array_equal(new.value, p)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
@given(
    shape=SHAPES,
    scale=SCALES,
    kind=KINDS,
    nu=PENALTIES,
    mu=st.sampled_from([0.0, 1e-3, 10.0]),
    seed=st.integers(0, 9),
)
@many
def test_W_descends_at_every_scale(solver, shape, scale, kind, nu, mu, seed):
    p, W, b, z, q, u = layer(shape, scale, kind, seed)
    a = p @ W + b
    new = updates.update_W(W, p, a, z, nu, mu, solver)
    assert np.isfinite(new.value).all()
    assert np.isfinite(new.a).all()
    slack = rounding(p, W, b, z, q, 0 * u, nu, 0.0, mu)
    before, after = (phi(p, V, b, z, q, u, nu, 0.0, mu) for V in (W, new.value))
    assert after - before <= slack
    if kind == "zero" or (kind == "at rest" and mu == 0):
        np.testing.assert_array_equal(new.value, W)


@pytest.mark.x64
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_a_follows_the_moves(solver):
    p, W, b, z, q, u = layer((9, 4, 5), 1.0, "random", 0, jnp.float64)
    moved = updates.update_p(p, W, p @ W + b, z, q, u, 0.3, 0.7, solver)
    np.testing.assert_allclose(moved.a, moved.value @ W + b, atol=1e-13)
    turned = updates.update_W(W, moved.value, moved.a, z, 0.3, 0.1, solver)
    np.testing.assert_allclose(turned.a, moved.value @ turned.value + b, atol=1e-13)
    new_b, a = updates.update_b(b, turned.a, z)
    np.testing.assert_allclose(a, moved.value @ turned.value + new_b, atol=1e-13)


@pytest.mark.x64
def test_exact_solves_are_stationary():
    p, W, b, z, q, u = layer((9, 4, 5), 1.0, "random", 1, jnp.float64)
    nu, rho, mu = 0.3, 0.7, 0.1
    exact = admm.Exact(damping=0.0)
    new_p = updates.update_p(p, W, p @ W + b, z, q, u, nu, rho, exact).value
    slope_p = u + rho * (new_p - q) - nu * (z - new_p @ W - b) @ W.T
    np.testing.assert_allclose(slope_p, 0, atol=1e-12)
    new_W = updates.update_W(W, p, p @ W + b, z, nu, mu, exact).value
    slope_W = mu * new_W - nu * p.T @ (z - p @ new_W - b)
    np.testing.assert_allclose(slope_W, 0, atol=1e-12)
    free_W = updates.update_W(W, p, p @ W + b, z, nu, 0.0, exact).value
    np.testing.assert_allclose(p.T @ (z - p @ free_W - b), 0, atol=1e-12)
    new_b, _ = updates.update_b(b, p @ W + b, z)
    np.testing.assert_allclose(jnp.sum(z - p @ W - new_b, axis=0), 0, atol=1e-12)


@pytest.mark.x64
@pytest.mark.parametrize("variable", ["p", "W"])
def test_closed_form_step_is_the_smallest_that_majorises(variable):
    """At tau* the quadratic model touches phi; below, phi lies above it."""
    p, W, b, z, q, u = layer((9, 4, 5), 1.0, "random", 2, jnp.float64)
    nu, rho, mu = 0.3, 0.7, 0.1
    if variable == "p":
        update = updates.update_p(p, W, p @ W + b, z, q, u, nu, rho, admm.LayerStep())
        gradient = u + rho * (p - q) - nu * (z - p @ W - b) @ W.T

        def value(step):
            return phi(p - step * gradient, W, b, z, q, u, nu, rho)
    else:
        update = updates.update_W(W, p, p @ W + b, z, nu, mu, admm.LayerStep())
        gradient = mu * W - nu * p.T @ (z - p @ W - b)

        def value(step):
            return phi(p, W - step * gradient, b, z, q, u, nu, 0.0, mu)

    square = float(jnp.sum(gradient**2))

    def model(tau):
        return value(0.0) - square / tau + square / (2 * tau)

    tau = float(update.ratio)
    np.testing.assert_allclose(value(1 / tau), model(tau), rtol=1e-12)
    assert value(1 / (0.99 * tau)) > model(0.99 * tau)


@pytest.mark.x64
@given(start=st.floats(1e-4, 1e4), growth=st.floats(1.1, 5), seed=st.integers(0, 99))
@many
def test_search_stops_at_the_first_sufficient_trial(start, growth, seed):
    p, W, b, z, q, u = layer((9, 4, 5), 1.0, "random", seed, jnp.float64)
    args = (p, W, p @ W + b, z, q, u, 0.3, 0.7)
    least = float(updates.update_p(*args, admm.LayerStep()).ratio)
    found = float(updates.update_p(*args, admm.Search(start, growth)).ratio)
    tau = start
    while tau < least:
        tau *= growth
    np.testing.assert_allclose(found, tau, rtol=1e-9)


@pytest.mark.x64
def test_unit_steps_descend_at_least_as_far_as_one_step_for_the_layer():
    p, W, b, z, q, u = layer((9, 4, 5), 1.0, "random", 3, jnp.float64)
    args = (p, W, p @ W + b, z, q, u, 0.3, 0.7)
    values = [
        phi(updates.update_p(*args, solver).value, W, b, z, q, u, 0.3, 0.7)
        for solver in (admm.Exact(0.0), UnitStep(), admm.LayerStep(), admm.Search())
    ]
    assert values == sorted(values)


@pytest.mark.parametrize("damping", [0.0, 1e-4])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_exact_solves_survive_singular_systems(damping, offset):
    """Identical samples, more features than samples, weights of low rank: no NaN, and descent."""
    rng = np.random.default_rng(0)
    p = jnp.asarray(np.tile(offset + rng.uniform(size=(1, 300)), (2000, 1)), jnp.float32)
    W = jnp.asarray(rng.standard_normal((300, 5)), jnp.float32)
    z = jnp.asarray(rng.standard_normal((2000, 5)), jnp.float32)
    exact = admm.Exact(damping)
    turned = updates.update_W(W, p, p @ W, z, 1.0, 0.0, exact)
    moved = updates.update_p(p, W, p @ W, z, p, 0 * p, 1.0, 1e-6, exact)
    for new in (turned, moved):
        assert np.isfinite(new.value).all()
        assert jnp.sum((z - new.a) ** 2) < jnp.sum((z - p @ W) ** 2)


@given(scale=SCALES, nu=PENALTIES, rho=PENALTIES, seed=st.integers(0, 99))
@many
def test_q_minimises_and_u_keeps_lemma_4(scale, nu, rho, seed):
    rng = np.random.default_rng(seed)
    p, u, f_z = (jnp.asarray(scale * rng.standard_normal((5, 3)), jnp.float32) for _ in range(3))
    q = updates.update_q(p, u, f_z, nu, rho)
    size = nu * (jnp.abs(q) + jnp.abs(f_z)) + jnp.abs(u) + rho * (jnp.abs(p) + jnp.abs(q))
    slope = nu * (q - f_z) - u - rho * (p - q)
    assert (jnp.abs(slope) <= 1e-6 * size).all()
    new_u = updates.update_u(u, p, q, rho)
    assert (jnp.abs(new_u - nu * (q - f_z)) <= 1e-6 * size).all()
