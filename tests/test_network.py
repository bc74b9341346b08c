"""A trained network is written, read and used with all that its predictions need."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm, sweeps
from pdadmm_jax.network import Scaling
from pdadmm_jax.problems.losses import SquaredError
from tests.problems import refused

rng = np.random.default_rng(0)
X = rng.normal(size=(12, 5)).astype("f4")
LABELS = rng.integers(0, 3, 12).astype("i4")
TARGETS = (1000 + 300 * rng.normal(size=(12, 3))).astype("f4")
WEIGHTS = pdadmm.random_params(jax.random.key(0), (5, 6, 7, 3))


def swish(z):
    return z * jax.nn.sigmoid(z)


OWN = pdadmm.NumericActivation(swish)


@pytest.mark.parametrize(
    "problem",
    [
        {},
        {"activation": "gelu", "loss": "multiclass_hinge"},
        {"activation": pdadmm.LeakyReLU(0.3), "loss": pdadmm.SoftmaxCrossEntropy(0.1)},
        {"activation": "leaky_relu", "precision": "bfloat16"},
        {"loss": "squared_error", "targets": Scaling.of(TARGETS)},
        {"inputs": Scaling.of(X), "classes": ("one", "two", "three")},
        {"classes": (3, 5, 8)},
    ],
    ids=str,
)
def test_what_is_read_is_what_was_written(problem, tmp_path):
    network = pdadmm.Network(WEIGHTS, **problem)
    network.save(tmp_path / "network.npz")
    found = pdadmm.load(str(tmp_path / "network.npz"))
    assert found.widths == (5, 6, 7, 3)
    for name in ("activation", "loss", "precision", "classes"):
        assert getattr(found, name) == getattr(network, name)
    np.testing.assert_array_equal(found.predict(X), network.predict(X))
    np.testing.assert_array_equal(found.forward(X), network.forward(X))
    assert [path.name for path in tmp_path.iterdir()] == ["network.npz"]


@pytest.mark.parametrize("algorithm", [admm, sweeps])
def test_a_state_makes_a_network(algorithm):
    data = pdadmm.Data(X, LABELS)
    config = algorithm.Config(activation="tanh")
    state = algorithm.init(jax.random.key(0), data, (5, 6, 3), config)
    network = pdadmm.Network.of(state, config)
    np.testing.assert_array_equal(network.predict(X), pdadmm.predict(state, X, config))
    np.testing.assert_array_equal(network.evaluate(data), pdadmm.evaluate(state, data, config))
    compiled = jax.jit(lambda network, x: network.forward(x))(network, X)
    np.testing.assert_allclose(compiled, network.forward(X), rtol=1e-5, atol=1e-6)


def test_units_are_those_of_the_samples():
    x = X * np.float32([1, 10, 0.1, 1, 0]) + 7  # the last column is constant
    scaling, plain = Scaling.of(x), pdadmm.Network(WEIGHTS, loss="squared_error")
    np.testing.assert_allclose(np.mean(scaling.apply(x), 0), 0, atol=1e-4)
    np.testing.assert_allclose(np.std(scaling.apply(x), 0), [1, 1, 1, 1, 0], rtol=1e-4)
    targets = Scaling.of(TARGETS)
    network = pdadmm.Network(WEIGHTS, loss="squared_error", inputs=scaling, targets=targets)
    expected = plain.forward(scaling.apply(x)) * targets.scale + targets.mean
    np.testing.assert_allclose(network.forward(x), expected, rtol=1e-5)
    np.testing.assert_allclose(targets.undo(targets.apply(TARGETS)), TARGETS, rtol=1e-6)
    # R^2 does not depend on units, and is that of the formula.
    _, score = network.evaluate(pdadmm.Data(x, TARGETS))
    rest = ((TARGETS - np.asarray(expected)) ** 2).mean(0) / TARGETS.var(0)
    np.testing.assert_allclose(score, 1 - rest.mean(), rtol=1e-4)


def test_r_squared_of_samples_that_count():
    config = sweeps.Config(loss="squared_error")
    valid = np.arange(12) < 9
    padded = pdadmm.Data(X, TARGETS, valid)
    short = pdadmm.Data(X[:9], TARGETS[:9])
    found = [pdadmm.r_squared(WEIGHTS, data, config) for data in (padded, short)]
    np.testing.assert_allclose(*found, rtol=1e-5)
    with pytest.raises(ValueError, match="report the accuracy"):
        pdadmm.r_squared(WEIGHTS, pdadmm.Data(X, LABELS), config)


def test_an_activation_of_ones_own_is_given_again(tmp_path):
    pdadmm.Network(WEIGHTS, OWN).save(tmp_path / "n.npz")
    with pytest.raises(ValueError, match=r"user's own, swish: give it, load\(path, activation="):
        pdadmm.load(tmp_path / "n.npz")
    found = pdadmm.load(tmp_path / "n.npz", activation=OWN)
    np.testing.assert_array_equal(found.predict(X), pdadmm.Network(WEIGHTS, OWN).predict(X))


def test_arrays_alone_are_read_with_what_is_said_of_them(tmp_path):
    np.savez(
        tmp_path / "n.npz",
        **{f"W{k}": W for k, (W, _) in enumerate(WEIGHTS, 1)},
        **{f"b{k}": b for k, (_, b) in enumerate(WEIGHTS, 1)},
    )
    with pytest.raises(ValueError, match="activation is not in the file"):
        pdadmm.load(tmp_path / "n.npz")
    found = pdadmm.load(tmp_path / "n.npz", activation="relu", loss="squared_error")
    assert found.loss == SquaredError()


def _file(tmp_path, drop=(), **changes):
    """A written network, some of whose members are others."""
    pdadmm.Network(WEIGHTS).save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        arrays = {name: file[name] for name in file.files if name not in drop} | changes
    np.savez(tmp_path / "n.npz", **arrays)
    return tmp_path / "n.npz"


def _description(**changes):
    good = {"format": 1, "activation": {"name": "relu"}, "loss": {"name": "squared_error"}}
    return {"description": np.asarray(json.dumps(good | changes))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": ["b2"]}, "not W1, b1"),
        ({"drop": ["W2", "b2"]}, "not W1, b1"),
        ({"W2": np.zeros((6, 8), "f4")}, "layer 2 has W"),
        ({"W2": np.zeros((9, 7), "f4")}, "layer 2 takes 9 inputs"),
        ({"W2": np.full((6, 7), np.nan, "f4")}, r"W2\[0, 0\] is nan"),
        ({"W2": np.zeros((6, 7), "i4")}, "W2 is int32"),
        ({"W2": np.zeros((6, 7), object)}, "no sound npz file"),
        ({"inputs_mean": np.zeros(4), "inputs_scale": np.ones(4)}, "4 entries, but .* 5 features"),
        ({"inputs_mean": np.zeros(5)}, "it has no 'inputs_scale'"),
        ({"classes": np.asarray(["a", "b"])}, "classes has 2 entries, but the network has 3"),
        ({"description": np.asarray("{")}, "n.npz: "),
        (_description(format=2), "format is 2, not 1"),
        (_description(activation={"name": "cube"}), "'cube' is none of relu"),
        (_description(activation=7), "n.npz: "),
        (_description(loss={"name": "softmax_cross_entropy", "smoothing": 2}), "smoothing is 2"),
        (_description(precision="half"), "unknown precision 'half'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_network_is_refused(changes, message, tmp_path):
    refused(message, pdadmm.load, _file(tmp_path, **changes))


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut", b"text"])
def test_a_file_that_is_no_npz_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "n.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"n\.npz: "):
        pdadmm.load(tmp_path / "n.npz")


def test_what_cannot_be_saved_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "n.npz"
    pdadmm.Network(WEIGHTS).save(path)
    before = path.read_bytes()
    broken = [(W.at[0, 0].set(jnp.nan), b) for W, b in WEIGHTS]
    with pytest.raises(ValueError, match=r"W1\[0, 0\] is nan"):
        pdadmm.Network(broken).save(path)
    with pytest.raises(OSError, match="absent"):
        pdadmm.Network(WEIGHTS).save(tmp_path / "absent" / "n.npz")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"classes": ("a", "b")}, "classes has 2 entries, but the network has 3 classes"),
        ({"inputs": Scaling.of(TARGETS)}, "has 3 entries, but the network has 5 features"),
        ({"activation": "cube"}, "cube"),
        ({"classes": "abc"}, "classes are 'abc', but have to be a list"),
        ({"classes": ("a", "b", None)}, "classes are .* of texts or of numbers"),
    ],
)
def test_what_does_not_belong_together_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        pdadmm.Network(WEIGHTS, **words)


@pytest.mark.parametrize(
    ("mean", "scale", "message"),
    [
        ([0.0, np.nan], [1.0, 1.0], r"mean\[1\] is nan"),
        ([0.0, 0.0], [1.0, np.inf], r"scale\[1\] is inf"),
        ([0.0, 0.0], [0.0, 1.0], r"scale\[0\] is 0.0, but has to be above 0"),
    ],
)
def test_units_that_are_none_are_refused(mean, scale, message):
    with pytest.raises(ValueError, match=message):
        Scaling(np.asarray(mean), np.asarray(scale))
