"""First weights: of any depth and any widths the network begins as a linear one."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm, sweeps
from tests.problems import refused

KEY = jax.random.key(3)


def outputs(params, x, **config):
    return np.asarray(pdadmm.forward(params, x, sweeps.Config(**config)))


@pytest.mark.x64
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "softplus", "gelu"])
@pytest.mark.parametrize("residual_block", [0, 1, 2])
@pytest.mark.parametrize("depth", [2, 5, 60])
def test_a_network_that_looks_linear_is_linear(activation, residual_block, depth):
    """And keeps the size of its inputs, of which a plain chain loses nothing on the way."""
    widths = (6, *[14] * (depth - 1), 7)
    given = {"activation": activation, "residual_block": residual_block}
    params = pdadmm.random_params(KEY, widths, "looks_linear", jnp.float64, **given)
    x, y = np.random.default_rng(0).normal(size=(2, 10, 6))
    one, other = outputs(params, x, **given), outputs(params, y, **given)
    np.testing.assert_allclose(
        outputs(params, 2 * x - 3 * y, **given), 2 * one - 3 * other, atol=1e-9
    )
    size = np.linalg.norm(one) / np.linalg.norm(x)
    assert abs(size - 1) < 1e-9 if not residual_block else 0.5 < size < 4


def test_widths_may_be_odd():
    params = pdadmm.random_params(KEY, (7, *[5] * 30, 3))
    assert [W.shape for W, _ in params] == list(itertools.pairwise((7, *[5] * 30, 3)))
    assert np.isfinite(outputs(params, jnp.ones((2, 7)))).all()


def test_deep_networks_look_linear_where_that_is_of_use():
    def same(depth, name, **more):
        widths = (6, *[8] * (depth - 1), 3)
        one, other = (pdadmm.random_params(KEY, widths, i, **more) for i in (None, name))
        return all(np.array_equal(W, V) for (W, _), (V, _) in zip(one, other, strict=True))

    assert same(7, "orthogonal")
    assert same(8, "looks_linear")
    assert same(8, "looks_linear", activation=pdadmm.LeakyReLU(0.2))
    assert same(8, "orthogonal", activation="tanh")  # neurons of opposite z would stay so
    assert same(8, "orthogonal", activation="sigmoid")
    refused(
        r"'looks_linear', but f\(z\) - f\(-z\) of tanh is not linear: choose 'orthogonal'",
        lambda: pdadmm.random_params(KEY, (6, 8, 3), "looks_linear", activation="tanh"),
    )


@pytest.mark.parametrize(
    ("loss", "batch", "activation", "name"),
    [
        ("squared_error", None, "relu", "looks_linear"),
        ("squared_error", None, "gelu", "looks_linear"),
        ("squared_error", None, "tanh", "orthogonal"),
        ("squared_error", 4, "relu", "orthogonal"),
        ("softmax_cross_entropy", None, "relu", "orthogonal"),
    ],
)
def test_regressions_over_all_samples_look_linear_at_any_depth(loss, batch, activation, name):
    y = jnp.ones((8, 3)) if loss == "squared_error" else jnp.ones(8, jnp.int32)
    data = pdadmm.Data(jnp.ones((8, 6)), y)
    config = sweeps.Config(batch=batch, loss=loss, activation=activation)
    for depth in (2, 3, 7):
        widths = (6, *[8] * (depth - 1), 3)
        for wanted, kind in ((None, name), ("orthogonal", "orthogonal")):
            state = sweeps.init(KEY, data, widths, config, initializer=wanted)
            expected = pdadmm.random_params(KEY, widths, kind, activation=activation)
            for (W, _), (V, _) in zip(pdadmm.params(state), expected, strict=True):
                np.testing.assert_array_equal(W, V)


@pytest.mark.parametrize(
    ("activation", "name", "share"),
    [("relu", "looks_linear", 0.5), ("gelu", "looks_linear", 0.5), ("tanh", "orthogonal", 1.0)],
)
@pytest.mark.parametrize("depth", [3, 19, 60])
def test_algorithm_1_begins_with_half_of_what_looks_linear(depth, activation, name, share):
    """Unless other weights are asked for, or outputs would be smaller than a millionth."""
    share = share if depth < 20 else max(share, 0.1 ** (6 / depth))
    widths = (6, *[8] * (depth - 1), 3)
    data = pdadmm.Data(jnp.ones((4, 6)), jnp.zeros(4, jnp.int32))
    config = admm.Config(activation=activation)
    expected = pdadmm.random_params(KEY, widths, name, activation=activation)
    for given, scale in ((None, share), (name, 1.0)):
        found = pdadmm.params(admm.init(KEY, data, widths, config, initializer=given))
        for (W, b), (V, _) in zip(found, expected, strict=True):
            np.testing.assert_allclose(W, scale * V, rtol=1e-6)
            assert not b.any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"activation": "cube"}, "unknown activation 'cube'; known are"),
        ({"activation": 3}, "activation is 3, but has to be one of the names"),
        ({"residual_block": -1}, "residual_block is -1, but has to be a whole number, at least 0"),
        ({"residual_block": 1}, r"residual_block is 1, but widths\[2\] is 5 and widths\[1\] is 4"),
    ],
)
def test_what_makes_no_network_is_refused(words, message):
    refused(message, lambda: pdadmm.random_params(KEY, (3, 4, 5, 2), **words))


def test_blocks_add_less_the_more_there_are():
    widths = (6, *[8] * 9, 3)
    plain = pdadmm.random_params(KEY, widths)
    blocks = pdadmm.random_params(KEY, widths, residual_block=3)
    norms = [[np.linalg.norm(W) for W, _ in params] for params in (blocks, plain)]
    expected = np.ones(10)
    expected[[3, 6, 8]] = 3**-0.5  # the last block has two layers
    np.testing.assert_allclose(np.divide(*norms), expected, rtol=1e-5)
