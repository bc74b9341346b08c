"""The paper's theory as code: the region, its constants, and descent at every iteration."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from pdadmm_jax.admm.theory import lemma_1
from tests.digits import digits
from tests.selection import selected

ITERATIONS = 200


@pytest.mark.parametrize("seed", selected(range(5), fast=[0]))
@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [
        pytest.param(jnp.float32, 2e-6, marks=pytest.mark.slow),
        pytest.param(jnp.float64, 1e-14, marks=pytest.mark.x64),
    ],
)
def test_the_lagrangian_never_rises_on_digits(seed, dtype, rounding):
    """Within rounding: that share of the Lagrangian at the start."""
    data = digits(dtype)
    config = admm.certified(admm.Config(nu=0.1, rho=0.1))
    state = admm.init(jax.random.key(seed), data, (64, 40, 40, 40, 10), config)
    start = admm.terms(state, data, config).lagrangian
    state, info = admm.run(state, data, config, steps=ITERATIONS)
    values = np.asarray([start, *info.lagrangian], np.float64)
    assert info.in_certified_region.all()
    assert info.finite.all()
    assert np.diff(values).max() <= rounding * values[0]
    assert values[-1] < 0.5 * values[0]
    assert (info.primal_residual[-1] < 0.5 * info.primal_residual.max(axis=0)).all()
    assert_lemma_4(state, config, 1e-5 if dtype == jnp.float32 else 1e-13)


@pytest.mark.x64
@pytest.mark.parametrize(
    "activation",
    selected(["leaky_relu", "tanh", "sigmoid", "softplus", "gelu"], fast=["leaky_relu", "gelu"]),
)
def test_every_activation_descends_by_what_lemma_1_promises(activation):
    """L falls by at least C1 sum ||dz||^2 + C2 sum ||dq||^2, at every iteration."""
    rng = np.random.default_rng(0)
    data = pdadmm.Data(jnp.asarray(rng.uniform(size=(60, 6))), jnp.asarray(rng.integers(0, 3, 60)))
    config = admm.certified(admm.Config(nu=0.5, rho=0.1, activation=activation))
    promise = admm.certificate(config)
    state = admm.init(jax.random.key(0), data, (6, 8, 8, 3), config)
    value = admm.terms(state, data, config).lagrangian
    for _ in range(30):
        new, info = admm.step(state, data, config)
        dz = sum(jnp.sum((n.z - o.z) ** 2) for n, o in hidden_pairs(new, state))
        dq = sum(
            jnp.sum((n.below.q - o.below.q) ** 2)
            for n, o in zip(new.layers[1:], state.layers[1:], strict=True)
        )
        assert info.lagrangian <= value - promise.C1 * dz - promise.C2 * dq + 1e-12 * value
        state, value = new, info.lagrangian
    assert_lemma_4(state, config, 1e-13)


@pytest.mark.x64
@pytest.mark.parametrize("solver", ["search", "layer", "unit", "exact"])
@pytest.mark.parametrize("mu", selected([0.0, 0.1], fast=[0.1]))
def test_every_solver_descends(solver, mu):
    data = digits(jnp.float64)
    data = pdadmm.Data(data.x[:200], data.y[:200])
    config = admm.certified(admm.Config(nu=0.1, mu=mu, p_solver=solver, W_solver=solver))
    state = admm.init(jax.random.key(0), data, (64, 20, 20, 10), config)
    start = admm.terms(state, data, config).lagrangian
    _, info = admm.run(state, data, config, steps=100)
    assert np.diff([start, *info.lagrangian]).max() <= 1e-13 * start


def hidden_pairs(new, old):
    return list(zip(new.layers[:-1], old.layers[:-1], strict=True))


def assert_lemma_4(state, config, tolerance):
    """u = nu (q - f(z)), z being that of the layer below."""
    z = jnp.concatenate([stack.z for stack in state.layers[:-1]])
    q = jnp.concatenate([stack.below.q for stack in state.layers[1:]])
    u = jnp.concatenate([stack.below.u for stack in state.layers[1:]])
    scale = float(jnp.abs(q).max()) * float(config.nu)
    np.testing.assert_allclose(
        u, float(config.nu) * (q - config.activation(z)), atol=tolerance * scale, rtol=0
    )


def test_constants_are_the_papers():
    inside = lemma_1(nu=0.1, rho=0.5, lipschitz=1.0)
    assert inside.holds
    np.testing.assert_allclose(inside.C1, 0.05 - 2 * 0.01 / 0.5, rtol=1e-6)
    np.testing.assert_allclose(inside.C2, 0.25 - 2 * 0.01 / 0.5 - 0.05, rtol=1e-6)
    np.testing.assert_allclose(inside.least_rho, 0.4, rtol=1e-6)
    assert not lemma_1(nu=0.1, rho=0.1, lipschitz=1.0).holds
    flat = lemma_1(nu=0.1, rho=0.26, lipschitz=0.25)
    np.testing.assert_allclose(flat.least_rho, (math.sqrt(17) + 1) / 2 * 0.1, rtol=1e-6)
    assert flat.holds


@pytest.mark.parametrize("lipschitz", [0.25, 1.0, 1.13])
@pytest.mark.parametrize("proximal", [0.5, 1.0, 3.0])
def test_the_region_is_where_both_constants_are_positive(lipschitz, proximal):
    for rho in np.linspace(0.05, 3, 60):
        found = lemma_1(0.2, float(rho), lipschitz, proximal)
        assert bool(found.holds) == bool((found.C1 > 0) & (found.C2 > 0))


def test_certified_raises_rho_only_as_far_as_needed():
    low = admm.certified(admm.Config(nu=0.1, rho=0.1), margin=1.25)
    assert low.rho == pytest.approx(0.5)
    high = admm.Config(nu=0.1, rho=7.0)
    assert admm.certified(high) == high


def test_what_cannot_be_certified_is_refused():
    unknown = admm.Config(activation=pdadmm.NumericActivation(jnp.sin))
    with pytest.raises(ValueError, match="lipschitz is inf"):
        admm.certified(unknown)
    with pytest.raises(ValueError, match="proximal is 0"):
        admm.certified(admm.Config(proximal=0.0))
    with pytest.raises(ValueError, match="margin is 1"):
        admm.certified(admm.Config(), margin=1 + 1e-9)
    with pytest.raises(ValueError, match="margin is 1"):
        admm.certified(admm.Config(), margin=1.0)
