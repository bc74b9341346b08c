"""Arrays of other kinds than JAX's own are taken as what is meant."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm, sweeps
from tests.problems import refused

WIDTHS = (6, 8, 3)
KEY = jax.random.key(0)
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(24, 6)).astype("f4"), rng.integers(0, 3, 24).astype("i4")
VALUES = X[:, 0] - X[:, 1]
CONFIGS = {admm: admm.Config(), sweeps: sweeps.Config(batch=8)}
BOTH = pytest.mark.parametrize("algorithm", CONFIGS, ids=lambda module: module.__name__)


class Frame:
    """Offers itself to NumPy, as data frames and other libraries' tensors do."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


class Tensor:
    """Offers itself by DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def trained(data, algorithm=admm, widths=WIDTHS, **changes):
    config = CONFIGS[algorithm].replace(**changes)
    state = algorithm.init(KEY, data, widths, config)
    state, _ = algorithm.step(state, data, config)
    return pdadmm.loss(state, data, config)


@BOTH
@pytest.mark.parametrize(
    "data",
    [
        (X.tolist(), Y.tolist()),
        (X, Y.tolist()),
        (X, Y[:, None]),
        (X, Y[:, None].tolist()),
        (X.astype(">f4"), Y.astype(">i8")),
        (X.astype(np.longdouble), Y.astype("u8")),
        (X, Y.astype("u1")),
        (Frame(X), Frame(Y)),
        (Tensor(X), Tensor(Y)),
        (list(jnp.asarray(X)), Y),
        (X, np.eye(3, dtype=bool)[Y]),
    ],
)
def test_what_is_meant_is_taken(data, algorithm):
    expected = trained(pdadmm.Data(jnp.asarray(X), jnp.asarray(Y)), algorithm)
    np.testing.assert_allclose(trained(pdadmm.Data(*data), algorithm), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", ["multiclass_hinge", "squared_error", "softmax_cross_entropy"])
def test_a_column_of_labels_is_labels(loss):
    config = admm.Config(loss=loss)
    weights = pdadmm.random_params(KEY, WIDTHS)
    found = pdadmm.evaluate(weights, pdadmm.Data(X, Y[:, None]), config)
    assert found == pdadmm.evaluate(weights, pdadmm.Data(X, Y), config)


@pytest.mark.parametrize("y", [VALUES, VALUES.tolist(), VALUES.astype("f8"), VALUES[:, None]])
@BOTH
def test_plain_targets_are_those_of_a_single_output(y, algorithm):
    options = {"loss": "squared_error", "widths": (6, 8, 1)}
    expected = trained(pdadmm.Data(X, jnp.asarray(VALUES[:, None])), algorithm, **options)
    np.testing.assert_allclose(trained(pdadmm.Data(X, y), algorithm, **options), expected)
    refused("1 target per .* 3 outputs", trained, pdadmm.Data(X, y), loss="squared_error")


def test_whole_numbers_in_lists_are_inputs_too():
    assert jnp.isfinite(trained(pdadmm.Data([[0, 1, 0, 1, 1, 1]] * 24, Y)))
    assert pdadmm.forward(pdadmm.random_params(KEY, WIDTHS), [[1] * 6], admm.Config()).shape == (
        1,
        3,
    )


def test_a_mesh_takes_them_as_well():
    mesh = pdadmm.make_mesh(1, 2)
    data = pdadmm.shard_data(pdadmm.Data(X.astype(">f8").tolist(), Frame(Y)), mesh)
    state = admm.init(KEY, data, WIDTHS, admm.Config(), mesh=mesh)
    assert admm.step(state, data, admm.Config())[1].finite
    refused("y is None", pdadmm.shard_data, pdadmm.Data(X, None), mesh)


def test_columns_and_lists_of_traced_arrays():
    expected = trained(pdadmm.Data(X, Y))
    traced = jax.jit(lambda x, y: trained(pdadmm.Data([*x], y[:, None])))
    np.testing.assert_allclose(traced(jnp.asarray(X), jnp.asarray(Y)), expected, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("depth", [2, 12])
def test_flax_dictionaries_are_weights_in_the_order_of_their_numbers(algorithm, depth):
    weights = pdadmm.random_params(KEY, (6, *[8] * (depth - 1), 3))
    layers = {f"Dense_{k}": {"kernel": W, "bias": b} for k, (W, b) in enumerate(weights)}
    config = CONFIGS[algorithm]
    expected = pdadmm.forward(weights, X, config)
    for given in ({"params": layers}, dict(sorted(layers.items()))):
        state = algorithm.from_params(given, pdadmm.Data(X, Y), config)
        np.testing.assert_allclose(pdadmm.forward(given, X, config), expected)
        np.testing.assert_allclose(pdadmm.forward(state, X, config), expected, rtol=1e-5)


def test_layers_without_intercept_have_zeros():
    weights = pdadmm.random_params(KEY, WIDTHS)
    bare = [(W.tolist(), None) for W, _ in weights]
    kernels = {f"Dense_{k}": {"kernel": W} for k, (W, _) in enumerate(weights)}
    for given in (bare, kernels):
        for (W, b), (expected_W, expected_b) in zip(pdadmm.params(given), weights, strict=True):
            np.testing.assert_allclose(W, expected_W)
            np.testing.assert_array_equal(b, expected_b)
