"""The methods that experiments compare: dlADMM against a transcription, and what all must do."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pdadmm_jax as pdadmm
from experiments.methods import METHODS, dladmm
from experiments.study.config import ALL
from experiments.study.trial import Task, Trial, begin, outcome
from tests import reference
from tests.digits import digits

WIDTHS = (7, 5, 6, 4)
PENALTY = 0.3


def literal_dladmm(p, W, b, z, u, y, rho):
    """One iteration, with nu = rho, from the definitions; steps are the least per row or column."""
    L = len(W)

    def f(l):
        return np.maximum(z[l], 0)

    def residual(l):
        """z - p W - b, the last layer's with the dual in it."""
        return z[l] + (u / rho if l == L - 1 else 0) - p[l] @ W[l] - b[l]

    def move_p(l):
        g = -rho * residual(l) @ W[l].T + rho * (p[l] - f(l - 1))
        tau = rho * ((g @ W[l]) ** 2).sum(1) / (g**2).sum(1) + rho
        p[l] = p[l] - g / tau[:, None]

    def move_W(l):
        g = -rho * p[l].T @ residual(l)
        theta = rho * ((p[l] @ g) ** 2).sum(0) / (g**2).sum(0)
        W[l] = W[l] - g / theta

    def move_b(l):
        b[l] = b[l] + residual(l).mean(0)

    def move_z(l):
        a = p[l] @ W[l] + b[l]
        if l == L - 1:
            z[l] = reference.softmax_z(a - u / rho, y, rho)
        else:
            z[l] = reference.hidden_z(a, p[l + 1], z[l], "relu", 0.0)

    for l in range(L - 1, -1, -1):
        for move in ([lambda l: move_p(l + 1)] if l < L - 1 else []) + [move_z, move_b, move_W]:
            move(l)
    for l in range(L):
        for move in [move_W, move_b, move_z] + ([lambda l: move_p(l + 1)] if l < L - 1 else []):
            move(l)
    return u + rho * (z[-1] - p[-1] @ W[-1] - b[-1])


def start(samples=30, seed=0):
    """A start from which every variable moves, and its data."""
    rng = np.random.default_rng(seed)
    data = pdadmm.Data(
        jnp.asarray(rng.uniform(size=(samples, WIDTHS[0]))),
        jnp.asarray(rng.integers(0, WIDTHS[-1], samples), jnp.int32),
    )
    params = [
        (jnp.asarray(rng.standard_normal(shape)), jnp.asarray(rng.standard_normal(shape[1])))
        for shape in itertools.pairwise(WIDTHS)
    ]
    hyper = pdadmm.Hyperparameters(nu=PENALTY, rho=PENALTY)
    state = dladmm.start(params, jax.random.key(0), data, hyper, jnp.asarray(PENALTY))
    layers = [
        one._replace(z=one.z + jnp.asarray(0.3 * rng.standard_normal(one.z.shape)))
        for one in state.layers
    ]
    return data, state._replace(layers=layers), hyper


@pytest.mark.x64
def test_dladmm_equals_its_transcription():
    data, state, hyper = start()
    lists = [[np.asarray(getattr(one, name)) for one in state.layers] for name in "pWbz"]
    u, y = np.asarray(state.u), np.eye(WIDTHS[-1])[np.asarray(data.y)]
    for _ in range(10):
        u = literal_dladmm(*lists, u, y, PENALTY)
    found = dladmm.advance(state, data, hyper, jnp.asarray(PENALTY), 10)
    for name, values in zip("pWbz", lists, strict=True):
        for one, value in zip(found.layers, values, strict=True):
            np.testing.assert_allclose(getattr(one, name), value, rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(found.u, u, rtol=0, atol=1e-9)
    for one in found.layers:
        np.testing.assert_allclose(one.a, one.p @ one.W + one.b, rtol=0, atol=1e-10)


@pytest.mark.x64
def test_all_but_the_dual_step_lowers_the_lagrangian_of_dladmm():
    data, state, hyper = start()
    hyper = hyper.replace(p_solver=dladmm.SOLVER, W_solver=dladmm.SOLVER)
    for _ in range(20):
        before = dladmm.lagrangian(state, data, hyper)
        moved = dladmm.iterate(state, data, hyper)
        assert dladmm.lagrangian(moved._replace(u=state.u), data, hyper) < before
        state = moved


def task(**changes):
    data = digits()
    few = pdadmm.Data(data.x[:400], data.y[:400])
    made = Task(
        train=few,
        scored=few,
        hyper=pdadmm.Hyperparameters(),
        widths=(64, 24, 24, 24, 10),
        initializer=jax.nn.initializers.he_normal(),
        passes=60,
        evaluate_every=60,
        first_layers=None,
    )
    return made._replace(**changes)


def test_the_command_line_knows_all_methods():
    assert tuple(METHODS) == ALL


@pytest.fixture
def standard_promotion():
    """Optax raises numbers to whole powers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("name", ALL)
def test_every_method_begins_at_the_same_weights_and_learns(name):
    method, own = METHODS[name], task()
    number = jnp.asarray(method.candidates[2])
    state = begin(method, 3, own, number, None)
    reference_state = begin(METHODS["adam"], 3, own, number, None)
    for one, other in zip(
        jax.tree.leaves(method.params(state)),
        jax.tree.leaves(METHODS["adam"].params(reference_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    other_seed = begin(method, 4, own, number, None)
    assert (method.params(other_seed)[0][0] != method.params(state)[0][0]).any()
    first = pdadmm.mean_loss(method.params(state), own.train, own.hyper)
    advance = jax.jit(method.advance, static_argnums=4)
    state = advance(state, own.train, own.hyper, number, 40)
    assert pdadmm.mean_loss(method.params(state), own.train, own.hyper) < 0.9 * first


@pytest.mark.x64
@pytest.mark.parametrize("name", ["pdadmm", "pdadmm_search"])
@pytest.mark.parametrize("penalty", [1e-4, 1e-2, 1.0])
def test_growing_keeps_the_duals_of_the_penalty_that_is_trained_with(name, penalty):
    method, own = METHODS[name], task(widths=(64, 24, 24, 10))
    own = own._replace(train=pdadmm.Data(jnp.asarray(own.train.x, jnp.float64), own.train.y))
    number = jnp.asarray(penalty)
    state = method.advance(begin(method, 0, own, number, None), own.train, own.hyper, number, 5)
    grown = method.grow(state, own.hyper, number, 3)
    assert len(method.params(grown)) == len(method.params(state)) + 3
    found = method.variables(grown, own.train, own.hyper, number)
    for lower, upper in itertools.pairwise(found):  # Lemma 4
        dual = penalty * (upper.q - jax.nn.relu(lower.z))
        np.testing.assert_allclose(upper.u, dual, rtol=0, atol=1e-12 + 1e-9 * penalty)


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("name", ["sgd_batches", "adam_batches"])
def test_batches_come_in_another_order_every_pass_and_the_same_every_time(name):
    method, own = METHODS[name], task()
    number = jnp.asarray(method.candidates[0])
    advance = jax.jit(method.advance, static_argnums=4)
    state = begin(method, 0, own, number, None)
    twice = advance(state, own.train, own.hyper, number, 2)
    once = advance(state, own.train, own.hyper, number, 1)
    again = advance(once, own.train, own.hyper, number, 1)
    assert (jax.random.key_data(once.key) != jax.random.key_data(state.key)).any()
    for one, other in zip(
        jax.tree.leaves(method.params(twice)), jax.tree.leaves(method.params(again)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("standard_promotion")
def test_a_pass_in_batches_leaves_no_sample_out():
    data = digits()
    few = pdadmm.Data(data.x[:140], data.y[:140])
    method, own, rate = METHODS["sgd_batches"], task(train=few), jnp.asarray(0.1)
    state = begin(method, 0, own, rate, None)
    params = method.params(state)
    order = jax.random.permutation(jax.random.split(state.key)[1], 140)
    optimizer = optax.sgd(0.1, momentum=0.9)
    memory = optimizer.init(params)
    for rows in (order[:128], order[128:]):
        batch = pdadmm.Data(few.x[rows], few.y[rows])
        slope = jax.grad(pdadmm.mean_loss)(params, batch, own.hyper)
        updates, memory = optimizer.update(slope, memory, params)
        params = optax.apply_updates(params, updates)
    found = method.params(method.advance(state, few, own.hyper, rate, 1))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("standard_promotion")
def test_a_trial_goes_on_from_the_weights_of_another():
    """Plain descent remembers nothing but its weights: in two trials it goes where one goes."""
    own, trial = task(passes=20, evaluate_every=10), Trial("gd", 0.1, seed=0, tuning=False)
    straight = outcome(trial, own, {})
    begun = outcome(trial, own._replace(passes=10), {})
    weights = jax.tree.map(np.array, begun.params)
    ended = outcome(trial, own._replace(passes=10), {}, after=begun)
    jax.tree.map(np.testing.assert_array_equal, begun.params, weights)  # not taken over
    assert [point.passes for point in ended.points] == [20]
    assert ended.points[-1].seconds > begun.points[-1].seconds
    for one, other in zip(
        jax.tree.leaves(ended.params), jax.tree.leaves(straight.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
