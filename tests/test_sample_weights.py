"""Samples that count more or less than others, in both algorithms."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm, sweeps
from tests.problems import refused
from tests.selection import selected

rng = np.random.default_rng(0)
X = rng.normal(size=(12, 5))
LABELS = {
    "softmax_cross_entropy": rng.integers(0, 3, 12).astype("i4"),
    "multiclass_hinge": rng.integers(0, 3, 12).astype("i4"),
    "squared_error": rng.normal(size=(12, 3)),
    "binary_logistic": rng.integers(0, 2, (12, 3)).astype("i4"),
}
WIDTHS = (5, 6, 6, 3)
KEY = jax.random.key(0)
CONFIGS = {admm: admm.Config(nu=0.5, rho=2.5), sweeps: sweeps.Config(rule=sweeps.Adam(1e-2))}
CASES = pytest.mark.parametrize(
    ("algorithm", "loss"),
    selected(
        [(one, loss) for one in CONFIGS for loss in LABELS],
        fast=[(admm, "squared_error"), (sweeps, "softmax_cross_entropy")],
    ),
)


def trained(algorithm, data, config, mesh=None, steps=3):
    state = algorithm.init(KEY, data, WIDTHS, config, mesh=mesh)
    data = data if mesh is None else pdadmm.shard_data(data, mesh)
    state, info = algorithm.run(state, data, config, steps=steps)
    assert bool(np.all(info.finite))
    return pdadmm.params(state), info


def assert_close(some, others, tolerance=1e-8):
    for one, other in zip(jax.tree.leaves(some), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.x64
@CASES
def test_weights_of_one_change_nothing(algorithm, loss):
    config = CONFIGS[algorithm].replace(loss=loss)
    data = pdadmm.Data(X, LABELS[loss])
    plain, info = trained(algorithm, data, config)
    found, found_info = trained(algorithm, *pdadmm.weighted(data, np.ones(12), config))
    assert_close(found, plain)
    np.testing.assert_allclose(found_info.loss, info.loss, atol=1e-12)


LOSS = pytest.mark.parametrize("loss", selected(LABELS, fast=["softmax_cross_entropy"]))


@pytest.mark.x64
@LOSS
def test_whole_weights_are_copies_of_samples(loss):
    """Sample by sample 0, 1 or 2 copies: the sums, and the number of samples, are the same."""
    weights = np.asarray([0, 1, 2] * 4)
    config = sweeps.Config(nu=1e8, rule=optax.sgd(0.1), loss=loss)
    rows = np.repeat(np.arange(12), weights)
    expected, _ = trained(sweeps, pdadmm.Data(X[rows], LABELS[loss][rows]), config)
    data = pdadmm.Data(X, LABELS[loss])
    found, _ = trained(sweeps, *pdadmm.weighted(data, weights, config))
    assert_close(found, expected, 1e-5)


@pytest.mark.x64
@LOSS
def test_the_output_problem_is_that_of_the_weighted_risk(loss):
    """Stationary, sample by sample: w R'(z) + nu (z - a) = 0, or z = a without weight."""
    weights = np.asarray([0, 1, 2] * 4)
    config = CONFIGS[admm].replace(loss=loss)
    data, heavy = pdadmm.weighted(pdadmm.Data(X, LABELS[loss]), weights, config)
    a = jax.random.normal(KEY, (12, 3))
    z, converged = heavy.loss.prox(a, data.y, 0.5, a)
    assert bool(converged)
    plain, _ = config.loss.prox(a, jax.numpy.asarray(LABELS[loss]), 0.5, a)
    np.testing.assert_array_equal(z[weights == 0], a[weights == 0])
    np.testing.assert_allclose(z[weights == 1], plain[weights == 1], rtol=1e-9)
    if loss != "multiclass_hinge":  # which has kinks
        slope = jax.grad(lambda z: heavy.loss.value(z, data.y).sum())(z)
        np.testing.assert_allclose(slope + 0.5 * (z - a), 0, atol=1e-9)


def test_weights_go_to_stages_and_shards():
    data = pdadmm.Data(X.astype("f4"), LABELS["softmax_cross_entropy"])
    config = sweeps.Config(rule=sweeps.Adam(1e-2), batch=6, schedule="synchronous")
    given, heavy = pdadmm.weighted(data, rng.uniform(0, 2, 12), config)
    alone, _ = trained(sweeps, given, heavy)
    found, _ = trained(sweeps, given, heavy, pdadmm.make_mesh(2, devices=jax.devices()[:2]))
    assert_close(found, alone, 1e-4)


def test_a_training_takes_weights_and_evaluates_without():
    x = rng.normal(size=(300, 2)).astype("f4")
    y = (x[:, 0] > 0).astype("i4")
    wrong = rng.random(300) < 0.4
    data = pdadmm.Data(x, np.where(wrong, 1 - y, y))  # of which weights know
    held = pdadmm.Data(x, y)
    scores = [
        pdadmm.fit(data, (2, 16, 16, 2), 80, weights=weights).network.evaluate(held)[1]
        for weights in (None, 1.0 - wrong)
    ]
    assert scores[1] > 0.95
    assert scores[1] > scores[0] + 0.01


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(11), r"weights have shape \(11,\), but x holds 12"),
        (np.ones((12, 1)), r"weights have shape \(12, 1\)"),
        (np.where(np.arange(12) == 4, -1.0, 1.0), r"weights\[4\] is -1"),
        (np.where(np.arange(12) == 4, np.nan, 1.0), r"weights\[4\] is nan"),
        ("heavy", "weights is a str"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    data = pdadmm.Data(X.astype("f4"), LABELS["softmax_cross_entropy"])
    refused(message, pdadmm.weighted, data, weights, CONFIGS[sweeps])


def test_the_configuration_without_its_data_is_refused():
    data = pdadmm.Data(X.astype("f4"), LABELS["softmax_cross_entropy"])
    _, heavy = pdadmm.weighted(data, np.ones(12), CONFIGS[sweeps])
    refused("weighs its samples: give it the data", sweeps.init, KEY, data, WIDTHS, heavy)
