"""Other libraries take the weights as they are."""

from __future__ import annotations

import equinox
import flax.linen
import jax
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from tests.problems import problem

WIDTHS = (6, 5, 5, 3)


@pytest.fixture
def trained():
    config = admm.Config()
    data, state = problem(WIDTHS, config)
    state, _ = admm.run(state, data, config, steps=3)
    params = pdadmm.params(state)
    return params, data.x, pdadmm.forward(params, data.x, config)


def test_flax(trained):
    params, x, expected = trained

    class Network(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            for width in WIDTHS[1:-1]:
                x = flax.linen.relu(flax.linen.Dense(width)(x))
            return flax.linen.Dense(WIDTHS[-1])(x)

    variables = {
        "params": {f"Dense_{i}": {"kernel": W, "bias": b} for i, (W, b) in enumerate(params)}
    }
    np.testing.assert_allclose(Network().apply(variables, x), expected, rtol=1e-5, atol=1e-6)


def test_equinox(trained):
    params, x, expected = trained
    network = equinox.nn.MLP(6, 3, 5, 2, key=jax.random.key(0))
    weights = [leaf for W, b in params for leaf in (W.T, b)]
    network = equinox.tree_at(
        lambda n: [leaf for layer in n.layers for leaf in (layer.weight, layer.bias)],
        network,
        weights,
    )
    np.testing.assert_allclose(jax.vmap(network)(x), expected, rtol=1e-5, atol=1e-6)
