"""Growth keeps the function, the output layer, every old variable and the theory."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from tests.digits import digits
from tests.problems import problem

CONFIG = admm.Config(nu=0.1, rho=0.5)


@pytest.mark.parametrize(
    ("widths", "layers"), [((6, 5, 3), 1), ((6, 5, 5, 5, 3), 4), ((6, 9, 4, 3), 1)]
)
def test_function_output_layer_and_old_variables_are_kept(widths, layers):
    data, state = problem(widths, CONFIG)
    state, _ = admm.run(state, data, CONFIG, steps=10)
    grown = admm.grow(state, CONFIG, layers)
    assert grown.plan.widths == (*widths[:-1], *[widths[-2]] * layers, widths[-1])

    before = pdadmm.forward(pdadmm.params(state), data.x, CONFIG)
    after = pdadmm.forward(pdadmm.params(grown), data.x, CONFIG)
    np.testing.assert_array_equal(before, after)

    chex.assert_trees_all_equal(grown.layers[-1].W, state.layers[-1].W)
    chex.assert_trees_all_equal(grown.layers[-1].z, state.layers[-1].z)
    chex.assert_trees_all_equal(grown.layers[-1].below.p, state.layers[-1].below.p)
    old = pdadmm.params(state)
    chex.assert_trees_all_equal(pdadmm.params(grown)[: len(old) - 1], old[:-1])
    old_duals, new_duals = duals(state), duals(grown)
    chex.assert_trees_all_equal(new_duals[: len(old_duals)], old_duals)
    assert int(grown.iteration) == 10


def duals(state):
    return [u for stack in state.layers if stack.below for u in stack.below.u]


@pytest.mark.x64
def test_the_lagrangian_keeps_falling_after_growth():
    data = digits(jnp.float64)
    data = pdadmm.Data(data.x[:300], data.y[:300])
    config = admm.certified(admm.Config(nu=0.1))
    state = admm.init(jax.random.key(0), data, (64, 20, 20, 10), config)
    state, _ = admm.run(state, data, config, steps=30)
    state = admm.grow(admm.grow(state, config, 1), config, 2)
    start = admm.terms(state, data, config).lagrangian
    state, info = admm.run(state, data, config, steps=60)
    assert np.diff([start, *info.lagrangian]).max() <= 1e-13 * start
    assert len(pdadmm.params(state)) == 6


def test_growing_by_nothing_changes_nothing():
    _, state = problem((6, 5, 3), CONFIG)
    chex.assert_trees_all_equal(admm.grow(state, CONFIG, 0), state)


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu", "gelu", "sigmoid", "softplus"])
def test_activations_that_identity_layers_would_change_are_refused(activation):
    config = CONFIG.replace(activation=activation)
    _, state = problem((6, 5, 3), config)
    with pytest.raises(ValueError, match=f"would change the function.*with {activation}"):
        admm.grow(state, config, 1)


def test_negative_growth_is_refused():
    _, state = problem((6, 5, 3), CONFIG)
    with pytest.raises(ValueError, match="layers is -1"):
        admm.grow(state, CONFIG, -1)
