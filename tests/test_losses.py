"""Line 4 on the output layer: optimal, bounded, and stable from nu = 1e-6 to 1e6."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pdadmm_jax as pdadmm
from pdadmm_jax.admm import updates
from pdadmm_jax.problems import losses, output_prox
from pdadmm_jax.problems.losses import LOSSES
from tests import reference

PENALTIES = [1e-6, 1e-3, 1.0, 1e3, 1e6]
SCALES = [0.0, 1e-3, 1.0, 100.0, 1e4]
many = settings(max_examples=40, deadline=None, derandomize=True)


def smoothed_l1(z, y):
    """A convex loss of a user's own."""
    return jnp.sum(optax.huber_loss(z, jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype)))


def own_softmax(z, y):
    return jax.nn.logsumexp(z) - z[y]


def logits(seed, scale, classes, samples=60):
    rng = np.random.default_rng(seed)
    a = scale * rng.standard_normal((samples, classes))
    a[: samples // 3] = scale * rng.choice([-1.0, 1.0], (samples // 3, classes))
    return a, rng.integers(0, classes, samples)


def solve(loss, a, y, nu, dtype):
    a = jnp.asarray(a, dtype)
    y = jnp.asarray(y, jnp.int32 if np.asarray(y).ndim == 1 else dtype)
    z, converged = jax.jit(updates.update_z_output, static_argnums=3)(a, a, y, loss, dtype(nu))
    return np.asarray(z, np.float64), bool(converged)


def oracle(name, a, y, nu):
    """The oracle's z and its objective as a function of z, per sample."""
    risk = {
        "softmax_cross_entropy": "softmax",
        "squared_error": "squared",
        "binary_logistic": "logistic",
        "multiclass_hinge": "hinge",
    }[name]
    value, minimise = reference.RISKS[risk]
    if risk in ("softmax", "squared"):
        y = np.eye(a.shape[1])[y] if y.ndim == 1 else y
    elif risk == "logistic":
        y = y.reshape(a.shape)

    def objective(z):
        return np.asarray(
            [
                np.sum(value(z[i : i + 1], y[i : i + 1])) + nu / 2 * np.sum((z[i] - a[i]) ** 2)
                for i in range(len(a))
            ]
        )

    return minimise(a, y, nu), objective


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("nu", "scale"), list(itertools.product(PENALTIES, SCALES)))
def test_single_precision_solves_are_as_good_as_the_oracle(name, nu, scale):
    classes = 1 if name == "binary_logistic" else 10
    a, y = logits(0, scale, classes)
    if classes == 1:
        y = (np.arange(len(a)) % 2).reshape(-1)
    a = a.astype(np.float32).astype(np.float64)
    z, converged = solve(LOSSES[name], a, y, nu, np.float32)
    exact, objective = oracle(name, a, y, nu)
    assert converged
    # z to single precision, relative to the sample's own magnitude.
    size = 1 + np.abs(a).max(axis=1, keepdims=True) + np.abs(exact).max(axis=1, keepdims=True)
    assert (np.abs(z - exact) <= 4e-6 * size).all()
    # Nothing near the result is better by more than rounding explains.
    rng = np.random.default_rng(1)
    noise = 1e-6 * (1 + nu * size[:, 0]) * size[:, 0]
    for spread in (1e-3, 0.1, 10.0):
        other = z + spread * rng.standard_normal(z.shape)
        assert (objective(z) <= objective(other) + noise).all()


@pytest.mark.x64
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("nu", PENALTIES)
def test_double_precision_solves_equal_the_oracle(name, nu):
    classes = 1 if name == "binary_logistic" else 7
    a, y = logits(2, 5.0, classes)
    y = y % 2 if classes == 1 else y
    z, converged = solve(LOSSES[name], a, y, nu, np.float64)
    assert converged
    np.testing.assert_allclose(z, oracle(name, a, y, nu)[0], rtol=1e-11, atol=1e-11)


@pytest.mark.x64
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("nu", PENALTIES)
def test_softmax_gradient_vanishes(smoothing, nu):
    a, y = logits(3, 5.0, 6)
    z, _ = solve(pdadmm.SoftmaxCrossEntropy(smoothing), a, y, nu, np.float64)
    t = (1 - smoothing) * np.eye(6)[y] + smoothing / 6
    slope = np.asarray(jax.nn.softmax(jnp.asarray(z))) - t + nu * (z - a)
    assert np.abs(slope).max() < 1e-14 * (1 + nu * (np.abs(z) + np.abs(a)).max()) * 4


@given(
    nu=st.sampled_from([10.0**k for k in range(-6, 7)]),
    scale=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 30.0, 1e3, 1e4]),
    classes=st.sampled_from([2, 3, 10, 100]),
    seed=st.integers(0, 999),
)
@many
def test_ten_steps_suffice(nu, scale, classes, seed):
    """The level is found to single precision in at most ten Newton steps."""
    a, y = logits(seed, scale, classes)
    t = jnp.asarray(np.eye(classes)[y], jnp.float32)
    for prox in (output_prox.softmax_prox, output_prox.hinge_prox):
        jitted = jax.jit(prox, static_argnames="steps")
        z, converged = jitted(jnp.asarray(a, jnp.float32), t, np.float32(nu), steps=10)
        assert converged
        assert np.isfinite(z).all()


@pytest.mark.parametrize("nu", PENALTIES)
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("function", [own_softmax, smoothed_l1])
def test_own_convex_losses_are_solved(function, nu, scale):
    """Either the objective is the oracle's to rounding, or the solve says that it is not."""
    a, y = logits(4, scale, 5)
    a = a.astype(np.float32).astype(np.float64)
    z, converged = solve(pdadmm.ConvexLoss(function), a, y, nu, np.float32)
    if not converged:  # the one corner where a generic descent has 10,000 flat units to cross
        assert nu == 1e-6
        assert scale == 1e4
        return
    if function is own_softmax:
        exact, objective = oracle("softmax_cross_entropy", a, y, nu)
    else:  # entry-wise: the quadratic part ends at |miss| = 1
        t = np.eye(5)[y]
        inner = (nu * a + t) / (nu + 1)
        exact = np.where(np.abs(inner - t) <= 1, inner, a - np.sign(a - t) / nu)

        def objective(z):
            miss = np.abs(z - t)
            risk = np.where(miss <= 1, miss**2 / 2, miss - 0.5)
            return np.sum(risk + nu / 2 * (z - a) ** 2, axis=1)

    ulp = 1e-7 * (np.abs(a).max() + np.abs(exact).max())  # of the logits
    noise = 4e-6 * (1 + objective(exact)) + ulp * (1 + nu * ulp)
    assert (objective(z) <= objective(exact) + noise).all()


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "multiclass_hinge"])
@pytest.mark.parametrize("nu", [1.0, 1e4, 1e6])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e4])
def test_moving_is_no_worse_than_staying(name, nu, scale):
    """Even where the right move is a few ulps: descent of the Lagrangian hangs on it."""
    a, y = logits(7, scale, 10)
    a = a.astype(np.float32).astype(np.float64)
    z, _ = solve(LOSSES[name], a, y, nu, np.float32)
    _, objective = oracle(name, a, y, nu)
    assert (objective(z) <= objective(a) * (1 + 1e-6)).all()


def test_own_loss_is_never_worse_than_its_start():
    """A bound of one step: not converged, said so, and still no harm done."""
    a, y = logits(5, 30.0, 5)
    loss = pdadmm.ConvexLoss(own_softmax, iterations=1)
    start = jnp.asarray(a, jnp.float32) + 1
    z, converged = loss.prox(jnp.asarray(a, jnp.float32), jnp.asarray(y), 1e-3, start)
    _, objective = oracle("softmax_cross_entropy", a, y, 1e-3)
    assert not converged
    before, after = objective(np.asarray(start, np.float64)), objective(np.asarray(z, np.float64))
    assert (after <= before * (1 + 1e-5)).all()


def test_labels_may_be_integers_or_one_hot():
    a, y = logits(6, 3.0, 4)
    rows = np.eye(4)[y]
    for loss in (pdadmm.SoftmaxCrossEntropy(0.1), losses.squared_error, losses.multiclass_hinge):
        by_index, _ = solve(loss, a, y, 0.5, np.float32)
        by_row, _ = solve(loss, a, rows, 0.5, np.float32)
        np.testing.assert_array_equal(by_index, by_row)


def test_values_and_answers():
    z = jnp.asarray([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    y = jnp.asarray([0, 1])
    for loss in LOSSES.values():
        if loss != losses.binary_logistic:
            assert loss.value(z, y).shape == (2,)
            np.testing.assert_array_equal(loss.correct(z, y), [True, False])
    np.testing.assert_allclose(losses.squared_error.value(z, y), [1.0, 4.5])
    np.testing.assert_allclose(losses.multiclass_hinge.value(z, y), [0.0, 3.0])
    one = jnp.asarray([[2.0], [0.5]])
    np.testing.assert_allclose(losses.binary_logistic.value(one, y)[0], np.log1p(np.exp(2.0)), 1e-6)
    np.testing.assert_array_equal(losses.binary_logistic.correct(one, y), [False, True])


def test_an_own_loss_without_a_gradient_is_not_called_solved():
    def kinked(z, y):
        return jnp.linalg.norm(z - jax.nn.one_hot(y, 3))

    a = jax.nn.one_hot(jnp.arange(3), 3)
    _, converged = pdadmm.ConvexLoss(kinked).prox(a, jnp.arange(3), 1.0, a)
    assert not converged


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32", "int32"])
def test_labels_of_any_integer_kind(dtype):
    a, y = logits(8, 1.0, 10)
    for loss in (losses.softmax_cross_entropy, losses.squared_error, losses.multiclass_hinge):
        expected = loss.correct(jnp.asarray(a, jnp.float32), jnp.asarray(y, jnp.int32))
        found = loss.correct(jnp.asarray(a, jnp.float32), jnp.asarray(y.astype(dtype)))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.x64
def test_single_precision_logits_stay_single_under_x64():
    a, y = logits(9, 1.0, 10)
    a, y = jnp.asarray(a, jnp.float32), jnp.asarray(y)
    for name, loss in LOSSES.items():
        if name == "binary_logistic":
            continue
        assert loss.value(a, y).dtype == jnp.float32
        assert loss.prox(a, y, jnp.float32(0.5), a)[0].dtype == jnp.float32
        assert loss.correct(a, y).dtype == bool


@pytest.mark.x64
def test_wright_omega():
    from scipy.special import wrightomega

    x = np.concatenate([np.linspace(-40, 40, 4001), [-700.0, 1e3, 1e6, 1e10]])
    mine = output_prox.wright_omega(jnp.asarray(x))
    np.testing.assert_allclose(mine, wrightomega(x), rtol=1e-12)
    x = x[np.abs(x) < 80].astype(np.float32)
    single = output_prox.wright_omega(jnp.asarray(x))
    rounded = wrightomega(x.astype(np.float64))
    np.testing.assert_allclose(single, rounded, rtol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda z, y: 5 * jnp.sum(jnp.cos(z)) + 0 * y,
        lambda z, y: -jnp.sum(jnp.exp(-((z - y) ** 2))),
    ],
    ids=["waves", "a hole"],
)
def test_a_loss_that_is_not_convex_is_not_called_solved(function):
    """Where the quadratic term dominates the problem is convex all the same, and is solved."""
    a, y = jnp.linspace(-4, 4, 33)[:, None], jnp.zeros(33)
    loss = pdadmm.ConvexLoss(function)
    _, converged = loss.prox(a, y, 0.05, a)
    assert not bool(converged)
    _, converged = loss.prox(a + 0.01, y, 100.0, a)
    assert bool(converged)
