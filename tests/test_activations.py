"""Line 4 on hidden layers: no candidate is better than the z that comes out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pdadmm_jax as pdadmm
from pdadmm_jax.admm import updates
from pdadmm_jax.problems import activations
from pdadmm_jax.problems.activations import ACTIVATIONS
from tests import reference

NUMERIC = ["tanh", "sigmoid", "softplus", "gelu"]
many = settings(max_examples=40, deadline=None, derandomize=True)


def scattered(seed, scale, size=400, dtype=np.float32):
    """a, q, z_old of mixed magnitudes up to the scale."""
    rng = np.random.default_rng(seed)
    shape = (1, size)
    return [
        (scale * rng.choice([1e-3, 0.1, 1.0], shape) * rng.standard_normal(shape)).astype(dtype)
        for _ in range(3)
    ]


def value(z, a, q, z_old, name, proximal):
    return reference.hidden_value(
        *(np.asarray(t, np.float64) for t in (z, a, q, z_old)), name, proximal
    )


def brute_force(a, q, z_old, name, proximal):
    """Least objective over a dense scan of the interval that must hold the minimiser."""
    a, q, z_old = (np.asarray(t, np.float64) for t in (a, q, z_old))
    centre = (a + proximal * z_old) / (1 + proximal)
    reach = np.abs(q - reference.ACTIVATIONS[name][0](centre)) / np.sqrt(1 + proximal)
    scan = [centre + t * reach for t in np.linspace(-1, 1, 201)]
    scan += [np.clip(t, centre - reach, centre + reach) for t in np.linspace(-12, 12, 201)]
    return np.min([value(z, a, q, z_old, name, proximal) for z in scan], axis=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 3.0, 10.0, 100.0, 1e4, 1e6]),
    proximal=st.sampled_from([0.0, 0.1, 1.0]),
)
@many
def test_no_brute_force_candidate_is_better(name, seed, scale, proximal):
    a, q, z_old = scattered(seed, scale)
    z, _ = jax.jit(updates.update_z, static_argnums=3)(
        z_old, a, q, ACTIVATIONS[name], np.float32(proximal)
    )
    assert np.isfinite(z).all()
    found = value(z, a, q, z_old, name, proximal)
    # Single precision puts z off by an ulp of its inputs, and squares are off by twice that.
    size = np.abs(a) + np.abs(z_old) + np.abs(q)
    noise = 1e-6 * size * np.sqrt(2 * found) + 1e-12 * size**2
    assert (found <= brute_force(a, q, z_old, name, proximal) * (1 + 1e-5) + noise).all()


@pytest.mark.x64
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("proximal", [0.0, 1.0])
def test_derivative_vanishes_at_the_minimiser(name, proximal):
    a, q, z_old = (jnp.asarray(t) for t in scattered(0, 3.0, dtype=np.float64))
    z, converged = updates.update_z(z_old, a, q, ACTIVATIONS[name], proximal)
    assert converged
    f, f1 = (np.asarray(g(np.asarray(z))) for g in reference.ACTIVATIONS[name])
    slope = (z - a) + proximal * (z - z_old) - (q - f) * f1
    smooth = np.asarray(z) != 0  # the bend of ReLU and its leaky relative
    np.testing.assert_allclose(np.asarray(slope)[smooth], 0, atol=1e-12)


@pytest.mark.parametrize("name", NUMERIC)
def test_numeric_prox_is_never_worse_than_its_start(name):
    """Even for a start that is already optimal, where any rounding could only do harm."""
    a, q, z_old = (jnp.asarray(t) for t in scattered(1, 5.0, 4000))
    f = ACTIVATIONS[name]

    def objective(z):
        return 0.5 * (q - f(z)) ** 2 + 0.5 * (z - a) ** 2

    z = z_old
    for _ in range(3):
        better, converged = f.prox(q, a, 1.0, z)
        assert converged
        assert (objective(better) <= objective(z)).all()
        z = better


def test_user_supplied_activation():
    mine = pdadmm.NumericActivation(jnp.sin, lipschitz=1.0)
    rng = np.random.default_rng(0)
    a, q, z_old = (jnp.asarray(rng.standard_normal((3, 50)), jnp.float32) for _ in range(3))
    z, converged = updates.update_z(z_old, a, q, mine, 1.0)
    slope = (z - a) + (z - z_old) - (q - jnp.sin(z)) * jnp.cos(z)
    assert converged
    np.testing.assert_allclose(slope, 0, atol=2e-5)


def test_coming_to_rest_at_a_kink_counts_as_converged():
    hard = pdadmm.NumericActivation(jax.nn.hard_tanh, lipschitz=1.0)
    a, q, z_old = (jnp.asarray(t) for t in scattered(3, 3.0, 300))
    z, converged = updates.update_z(z_old, a, q, hard, 1.0)
    assert converged
    scan = jnp.linspace(-9, 9, 4001)[:, None]

    def objective(z):
        return (z - a) ** 2 + (q - jax.nn.hard_tanh(z)) ** 2 + (z - z_old) ** 2

    assert (objective(z) <= jnp.min(objective(scan), axis=0) + 1e-4).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_declared_constants_hold(name):
    f = ACTIVATIONS[name]
    z = jnp.linspace(-10, 10, 20001)
    rise = jnp.abs(jnp.diff(f(z))) / jnp.diff(z)
    assert 0.95 * f.lipschitz <= float(jnp.max(rise)) <= f.lipschitz * (1 + 1e-3)
    assert f.idempotent == bool(jnp.allclose(f(f(z)), f(z)))


def test_slope_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match=r"slope is 1\.5"):
        pdadmm.LeakyReLU(1.5)


def brute_response(activation, a, pull):
    """argmin_d d^2 / 2 - pull f(a + d), by looking everywhere it can be."""
    assert np.abs(pull).max() * activation.lipschitz < 2
    d = np.linspace(-2, 2, 80_001)[:, None]
    values = d**2 / 2 - pull * np.asarray(activation(jnp.asarray(a + d)))
    return d[np.argmin(values, axis=0), 0], values.min(axis=0)


@pytest.mark.x64
@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_responses_to_weak_pulls_are_the_minimum(name):
    activation = activations.ACTIVATIONS[name]
    rng = np.random.default_rng(0)
    a, pull = rng.normal(size=40), 0.3 * rng.normal(size=40)
    found, solved = activation.respond(jnp.asarray(a), jnp.asarray(pull))
    _, least = brute_response(activation, a, pull)
    value = found**2 / 2 - pull * activation(a + found)
    assert bool(solved)
    assert (value <= least + 1e-12).all()  # where f bends, between two points of the brute force
    np.testing.assert_allclose(value, least, atol=1e-5)


@pytest.mark.x64
@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_responses_to_strong_pulls_are_stationary_and_better_than_none(name):
    activation = activations.ACTIVATIONS[name]
    rng = np.random.default_rng(1)
    a, pull = (jnp.asarray(rng.normal(size=300) * scale) for scale in (2, 5))
    found, solved = activation.respond(a, pull)
    assert bool(solved)
    assert (found**2 / 2 - pull * activation(a + found) <= -pull * activation(a) + 1e-12).all()
    if name not in ("relu", "leaky_relu"):  # whose minimum may lie at the bend
        slope = jax.vmap(jax.grad(activation))(a + found)
        np.testing.assert_allclose(found, pull * slope, atol=1e-6)


USERS = {
    "gelu": jax.nn.gelu,
    "selu": jax.nn.selu,
    "relu6": jax.nn.relu6,
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "hard_tanh": jax.nn.hard_tanh,
    "celu": jax.nn.celu,
    "elu": jax.nn.elu,
    "hard_swish": jax.nn.hard_swish,
    "soft_sign": jax.nn.soft_sign,
    "relu": jax.nn.relu,
    "sin": jnp.sin,
}


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("double", [False, pytest.param(True, marks=pytest.mark.x64)])
def test_z_problems_of_users_functions_come_to_rest(name, double):
    """Kinks, flat parts and functions that round coarsely among them."""
    activation = pdadmm.NumericActivation(USERS[name])
    rng = np.random.default_rng(0)
    dtype = np.float64 if double else np.float32
    respond, prox = jax.jit(activation.respond), jax.jit(activation.prox)
    for spread, strength in [(1, 1e-4), (1, 0.3), (3, 0.3), (10, 0.01), (2, 5.0), (100, 1)]:
        a, pull = (rng.normal(size=5000) * scale for scale in (spread, strength))
        a, pull = jnp.asarray(a, dtype), jnp.asarray(pull, dtype)
        d, solved = respond(a, pull)
        assert solved
        worse = d**2 / 2 - pull * activation(a + d) + pull * activation(a)
        assert (worse <= 1e-5 * (jnp.abs(pull * activation(a)) + d**2)).all()
    for scale in (1e-3, 0.1, 1.0, 10.0, 100.0):
        a, q, z = (jnp.asarray(rng.normal(size=5000) * scale, dtype) for _ in range(3))
        assert prox(q, (a + z) / 2, 2.0, z)[1]


def test_responses_are_not_rounded_by_where_they_start():
    a, pull = jnp.asarray([1e4, -1e4, 3.0], jnp.float32), jnp.asarray([1e-9, 1e-9, -1e-7])
    found, _ = activations.relu.respond(a, pull)
    np.testing.assert_array_equal(found, jnp.asarray([1e-9, 0, -1e-7], jnp.float32))
