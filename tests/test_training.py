"""Training without a loop of one's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm, sweeps
from tests.problems import refused

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 2)).astype("f4")
DATA = pdadmm.Data(X, (X[:, 0] * X[:, 1] > 0).astype("i4"))
TRAIN, HELD = (pdadmm.Data(DATA.x[part], DATA.y[part]) for part in (np.s_[:240], np.s_[240:]))
WIDTHS = (2, 16, 16, 2)
CONFIG = sweeps.Config(rule=sweeps.Adam(1e-2), batch=40)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_it_is_the_loop_that_it_stands_for():
    key = jax.random.key(3)
    fitted = pdadmm.fit(TRAIN, WIDTHS, 3, config=CONFIG, key=key, validation=HELD)
    start, shuffle = jax.random.split(key)
    state, losses, scores = sweeps.init(start, TRAIN, WIDTHS, CONFIG), [], []
    for done in range(1, 4):
        state, info = sweeps.step(state, TRAIN, CONFIG, jax.random.fold_in(shuffle, done))
        losses.append(info.loss.mean())
        scores.append(pdadmm.evaluate(state, HELD, CONFIG))
    same(pdadmm.params(fitted.state), pdadmm.params(state))
    assert fitted.history.passes.tolist() == [1, 2, 3]
    np.testing.assert_allclose(fitted.history.loss, losses, rtol=1e-6)
    found = np.stack([fitted.history.validation_loss, fitted.history.validation_score], axis=1)
    np.testing.assert_allclose(found, scores, rtol=1e-6)
    assert (np.diff(fitted.history.seconds) > 0).all()


def test_by_default_it_learns_and_takes_what_is_recommended():
    fitted = pdadmm.fit(TRAIN, WIDTHS, 60)
    assert fitted.config == sweeps.recommended(WIDTHS, batch=128, updates=120)
    assert float(fitted.network.evaluate(HELD)[1]) > 0.9
    assert np.isnan(fitted.history.validation_loss).all()
    same(fitted.network.weights, pdadmm.params(fitted.state))
    again = pdadmm.fit(TRAIN, WIDTHS, 2, config=fitted.config, first=fitted.network)
    assert again.history.loss[0] < fitted.history.loss[0]


def test_a_training_of_another_length_compiles_nothing(compilations):
    widths = (2, 17, 2)  # of no other test
    pdadmm.fit(TRAIN, widths, 2, config=CONFIG, validation=HELD)
    before = compilations()
    assert before > 0
    pdadmm.fit(TRAIN, widths, 5, config=CONFIG, validation=HELD, every=3)
    assert compilations() == before


def test_patience_stops_and_the_best_weights_are_returned():
    noise = pdadmm.Data(HELD.x, 1 - HELD.y)  # the more is learnt, the worse
    fitted = pdadmm.fit(TRAIN, WIDTHS, 50, config=CONFIG, validation=noise, patience=3)
    losses = fitted.history.validation_loss
    assert len(losses) == losses.argmin() + 4 < 50
    np.testing.assert_allclose(fitted.network.evaluate(noise)[0], losses.min(), rtol=1e-6)


def test_a_callback_sees_every_evaluation_and_may_stop():
    seen = []

    def callback(evaluation, state):
        seen.append((evaluation.passes, int(state.iteration)))
        return evaluation.passes >= 4

    fitted = pdadmm.fit(TRAIN, WIDTHS, 9, config=CONFIG, every=2, callback=callback)
    assert seen == [(2, 2), (4, 4)]
    assert fitted.history.passes.tolist() == [2, 4]


def test_the_last_pass_is_evaluated_too():
    fitted = pdadmm.fit(TRAIN, WIDTHS, 5, config=CONFIG, every=2)
    assert fitted.history.passes.tolist() == [2, 4, 5]


def test_algorithm_1_is_trained_likewise():
    config = admm.Config(nu=0.1, rho=0.5)
    fitted = pdadmm.fit(TRAIN, WIDTHS, 40, config=config, every=20, validation=HELD)
    assert isinstance(fitted.state, admm.State)
    assert int(fitted.state.iteration) == 40
    assert fitted.history.validation_score[-1] > 0.8


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_targets_of_any_size_are_learnt_in_their_own_units(scale):
    y = (scale * np.stack([5 + X[:, 0] * X[:, 1], X.sum(1) - 50], axis=1)).astype("f4")
    train, held = pdadmm.Data(X[:240], y[:240]), pdadmm.Data(X[240:], y[240:])
    fitted = pdadmm.fit(train, WIDTHS, 60, validation=held)
    assert fitted.config.loss == pdadmm.sweeps.Config(loss="squared_error").loss
    assert fitted.history.validation_score[-1] > 0.7
    errors = np.abs(fitted.network.predict(X[240:]) - y[240:])
    assert errors.mean() < scale


def test_a_regression_over_all_samples_does_not_go_on_to_fit_the_noise():
    """Half of the targets' variance is noise; 0.5 is what could be explained."""
    random = np.random.default_rng(1)
    x, noise = random.normal(size=(1400, 10)).astype("f4"), random.normal(size=1400)
    y = (x.mean(1) * 10**0.5 + noise).astype("f4")[:, None]
    data, fresh = pdadmm.Data(x[:400], y[:400]), pdadmm.Data(x[400:], y[400:])
    resting = sweeps.recommended((10, 40, 40, 1), updates=60, loss="squared_error")
    restless = resting.replace(rule=sweeps.Proximal(clipping=resting.rule.clipping, updates=60))
    score = {}
    for config in (resting, restless):
        fitted = pdadmm.fit(data, (10, 40, 40, 1), 60, config=config)
        score[config] = 1 - np.mean((fitted.network.predict(fresh.x) - y[400:]) ** 2) / y.var()
    assert score[resting] > max(0.35, score[restless] + 0.1)


def test_plain_numbers_are_targets_of_a_single_output():
    y = 5000 + 1000 * X[:, 0] * X[:, 1]
    train, held = (pdadmm.Data(X[part], y[part]) for part in (np.s_[:240], np.s_[240:]))
    words = {"validation": held, "standardise": True, "weights": np.ones(240)}
    fitted = pdadmm.fit(train, (2, 16, 16, 1), 80, **words)
    score = float(fitted.network.evaluate(held)[1])
    np.testing.assert_allclose(score, fitted.history.validation_score.max(), atol=0.05)
    assert score > 0.8
    assert np.abs(fitted.network.predict(held.x)[:, 0] - held.y).mean() < 500


def test_values_that_are_not_finite_are_an_error_that_says_where():
    config = CONFIG.replace(rule=sweeps.Adam(1e30))
    with pytest.raises(FloatingPointError, match=r"after pass 1: W of layer 3, .*lower rate"):
        pdadmm.fit(TRAIN, WIDTHS, 3, config=config)


def test_stages_learn_as_one_device_does():
    data = pdadmm.Data(TRAIN.x, TRAIN.y)
    config = CONFIG.replace(schedule="synchronous")
    mesh = pdadmm.make_mesh(2, devices=jax.devices()[:2])
    alone = pdadmm.fit(data, WIDTHS, 2, config=config, key=jax.random.key(1))
    fitted = pdadmm.fit(data, WIDTHS, 2, config=config, key=jax.random.key(1), mesh=mesh)
    for one, other in zip(alone.network.weights, fitted.network.weights, strict=True):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"passes": 0}, "passes is 0"),
        ({"every": 0}, "every is 0"),
        ({"patience": 0, "validation": HELD}, "patience is 0"),
        ({"patience": 2}, "no validation samples"),
        ({"widths": (2, 2)}, "at least 2"),
        ({"widths": (3, 4, 2)}, "x has 2 features"),
        ({"config": 3}, "config is a int"),
        ({"key": 3}, "key is 3"),
        ({"validation": pdadmm.Data(X[:, :1], DATA.y)}, "validation: x has 1 features"),
        ({"validation": 3}, "validation: data is a int"),
        ({"data": X}, r"has to be Data"),
        ({"first": jnp.zeros(3)}, r"list of \(W, b\)"),
        ({"mesh": 2}, "mesh"),
        ({"callback": 3}, "callback is 3, but has to be a function"),
        ({"first": pdadmm.random_params(jax.random.key(0), (2, 5, 2))}, r"widths \(2, 5, 2\), but"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments_are_refused_before_training(words, message):
    refused(message, pdadmm.fit, **{"data": TRAIN, "widths": WIDTHS, "passes": 1} | words)
