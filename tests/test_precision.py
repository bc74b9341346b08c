"""Products whose inputs are rounded, and the carried a = p W + b computed anew."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from pdadmm_jax.numerics.products import multiply
from tests.problems import problem, shard
from tests.selection import selected

CONFIG = admm.Config()
WIDTHS = (7, 6, 6, 6, 4)


def rounded(array, precision):
    """What NumPy makes of the inputs of a product."""
    if precision == "bfloat16":
        return array.astype(ml_dtypes.bfloat16).astype(np.float64)
    if precision == "tf32":  # to the nearest number with 13 bits fewer, ties to the even one
        bits = array.view(np.uint32)
        bits = bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
        array = (bits & np.uint32(0xFFFFE000)).view(np.float32)
    return array.astype(np.float64)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_inputs_alone_are_rounded(precision):
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal(s).astype(np.float32) for s in ((3, 40, 300), (3, 300, 20)))
    expected = np.matmul(rounded(left, precision), rounded(right, precision))
    found = multiply(jnp.asarray(left), jnp.asarray(right), precision)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    apart = {"float32": 0, "tf32": 1e-3, "bfloat16": 1e-2}[precision]
    assert np.abs(found - np.matmul(left.astype(np.float64), right)).max() >= apart


@pytest.mark.x64
def test_doubles_are_not_rounded():
    one = jnp.ones((2, 2))
    assert multiply(one, one).dtype == jnp.float64
    with pytest.raises(ValueError, match="'tf32', but the arrays are float64"):
        multiply(one, one, "tf32")


@pytest.mark.parametrize(
    ("precision", "shape"),
    selected(
        itertools.product(("tf32", "bfloat16"), (None, (2, 2))),
        fast=[("tf32", None), ("bfloat16", (2, 2))],
    ),
)
def test_rounded_products_descend_as_exact_ones_do(precision, shape):
    def lagrangians(config):
        state, data = on_mesh(*problem(WIDTHS, config, samples=43)[::-1], shape)
        start = admm.terms(state, data, config).lagrangian
        info = admm.run(state, data, config, steps=60)[1]
        assert info.finite.all()
        return float(start), np.asarray(info.terms.lagrangian)

    start, found = lagrangians(CONFIG.replace(precision=precision))
    _, exact = lagrangians(CONFIG)
    assert found[-1] < 0.2 * start
    assert found[-1] == pytest.approx(exact[-1], rel=0.2)
    assert np.mean(found != exact) > 0.5


def on_mesh(state, data, shape):
    if shape is None:
        return state, data
    return shard(state, data, pdadmm.make_mesh(*shape, jax.devices()[: shape[0] * shape[1]]))


@pytest.mark.parametrize("shape", [None, (4, 1), (2, 2)])
def test_refreshing_makes_a_what_the_weights_give(shape):
    data, state = problem((7, *[6] * 6, 4), CONFIG, samples=43)
    spoilt = [
        layer._replace(a=layer.a.at[:, 5, 1].add(2.0 + k)) for k, layer in enumerate(state.layers)
    ]
    state = state._replace(layers=tuple(spoilt))
    found, drift = admm.refresh(*on_mesh(state, data, shape), CONFIG)
    assert drift.shape == (7,)
    found = found if shape is None else admm.reshard(found, None)
    number = 0
    for layer, old in zip(found.layers, state.layers, strict=True):
        inputs = data.x[None] if layer.below is None else layer.below.p
        for one in range(len(layer.W)):
            expected = np.asarray(inputs[one] @ layer.W[one] + layer.b[one])
            np.testing.assert_allclose(layer.a[one], expected, atol=1e-5)
            change = np.abs(expected - old.a[one]).max() / np.abs(expected).max()
            assert change > 2.0 / 40
            np.testing.assert_allclose(drift[number], change, rtol=1e-4)
            number += 1
        np.testing.assert_array_equal(layer.z, old.z)
        np.testing.assert_array_equal(layer.W, old.W)
    again = admm.refresh(*on_mesh(found, data, shape), CONFIG)[1]
    assert np.abs(again).max() < 1e-6


def test_a_drifts_with_rounded_products_alone():
    drifts = {}
    for precision in ("float32", "bfloat16"):
        config = CONFIG.replace(precision=precision)
        data, state = problem(WIDTHS, config)
        state, _ = admm.run(state, data, config, steps=100)
        state, drift = admm.refresh(state, data, config)
        drifts[precision] = float(drift.max())
    assert drifts["float32"] < 1e-5 < 1e-3 < drifts["bfloat16"] < 0.5
