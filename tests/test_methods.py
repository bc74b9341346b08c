"""The methods that experiments compare: dlADMM against a transcription, and what all must do."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pdadmm_jax as pdadmm
from experiments.algorithms import dladmm
from experiments.algorithms.loop import Programs
from experiments.compare.methods import METHODS
from experiments.compare.options import ALL
from experiments.compare.trial import Task, Trial, begin, trained
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
    settings = dladmm.configured(pdadmm.admm.Config(), PENALTY)
    state = dladmm.from_params(params, data, settings)
    layers = [
        one._replace(z=one.z + jnp.asarray(0.3 * rng.standard_normal(one.z.shape)))
        for one in state.layers
    ]
    return data, state._replace(layers=layers), settings


@pytest.mark.x64
def test_dladmm_equals_its_transcription():
    data, state, settings = start()
    lists = [[np.asarray(getattr(one, name)) for one in state.layers] for name in "pWbz"]
    u, y = np.asarray(state.u), np.eye(WIDTHS[-1])[np.asarray(data.y)]
    for _ in range(10):
        u = literal_dladmm(*lists, u, y, PENALTY)
    found, info = dladmm.run(state, data, settings, jax.random.key(0), 10)
    assert info.finite.all()
    assert found.iteration == 10
    for name, values in zip("pWbz", lists, strict=True):
        for one, value in zip(found.layers, values, strict=True):
            np.testing.assert_allclose(getattr(one, name), value, rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(found.u, u, rtol=0, atol=1e-9)
    for one in found.layers:
        np.testing.assert_allclose(one.a, one.p @ one.W + one.b, rtol=0, atol=1e-10)


@pytest.mark.x64
def test_all_but_the_dual_step_lowers_the_lagrangian_of_dladmm():
    data, state, settings = start()
    for _ in range(20):
        before = dladmm.lagrangian(state, data, settings)
        moved = dladmm.iterate(state, data, settings)
        assert dladmm.lagrangian(moved._replace(u=state.u), data, settings) < before
        state = moved


def task(**changes):
    data = digits()
    few = pdadmm.Data(data.x[:400], data.y[:400])
    made = Task(
        train=few,
        scored=few,
        problem=pdadmm.admm.Config(),
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


def began(name, own, number=None, seed=0):
    """A method's algorithm, its start, and the key of its order."""
    method = METHODS[name]
    number = method.candidates[2] if number is None else number
    start, key = begin(Trial(name, number, seed, tuning=False), own)
    return method.algorithm, start, key


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("name", ALL)
def test_every_method_begins_at_the_same_weights_and_learns(name):
    own = task()
    algorithm, start, key = began(name, own, seed=3)
    adam, reference_start, _ = began("adam", own, seed=3)
    first = algorithm.params(start.state)
    jax.tree.map(np.testing.assert_array_equal, first, adam.params(reference_start.state))
    other_seed = began(name, own, seed=4)[1]
    assert (algorithm.params(other_seed.state)[0][0] != first[0][0]).any()
    loss, _ = algorithm.evaluate(start.state, own.train, start.config)
    run = jax.jit(algorithm.run, static_argnums=4)
    state, info = run(start.state, own.train, start.config, key, 40)
    assert state.iteration == 40
    assert info.finite.shape == (40,)
    assert info.finite.all()
    assert algorithm.evaluate(state, own.train, start.config)[0] < 0.9 * loss


@pytest.mark.x64
@pytest.mark.parametrize("name", ["pdadmm_exact", "pdadmm", "pdadmm_search"])
@pytest.mark.parametrize("penalty", [1e-4, 1e-2, 1.0])
def test_growing_keeps_the_duals_of_the_penalty_that_is_trained_with(name, penalty):
    own = task(widths=(64, 24, 24, 10))
    own = own._replace(train=pdadmm.Data(jnp.asarray(own.train.x, jnp.float64), own.train.y))
    algorithm, start, key = began(name, own, penalty)
    state, _ = algorithm.run(start.state, own.train, start.config, key, 5)
    grown = algorithm.grow(state, start.config, 3)
    assert len(algorithm.params(grown)) == len(algorithm.params(state)) + 3
    below = [stack.below for stack in grown.layers if stack.below is not None]
    q, u = ([row for one in below for row in getattr(one, name)] for name in ("q", "u"))
    z = [row for stack in grown.layers for row in stack.z]
    for k in range(len(q)):  # Lemma 4
        dual = penalty * (q[k] - jax.nn.relu(z[k]))
        np.testing.assert_allclose(u[k], dual, rtol=0, atol=1e-12 + 1e-9 * penalty)


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("name", ["sgd_batches", "adam_batches", "sweeps_batches"])
def test_batches_come_in_another_order_every_pass_and_the_same_every_time(name):
    own = task()
    algorithm, start, key = began(name, own)
    run = jax.jit(algorithm.run, static_argnums=4)
    twice, _ = run(start.state, own.train, start.config, key, 2)
    once, _ = run(start.state, own.train, start.config, key, 1)
    again, _ = run(once, own.train, start.config, key, 1)
    other, _ = run(start.state, own.train, start.config, jax.random.key(7), 1)
    for one, same in zip(*map(jax.tree.leaves, map(algorithm.params, (twice, again))), strict=True):
        np.testing.assert_allclose(one, same, rtol=0, atol=1e-6)
    assert (algorithm.params(other)[0][0] != algorithm.params(once)[0][0]).any()


@pytest.mark.usefixtures("standard_promotion")
def test_a_pass_in_batches_leaves_no_sample_out():
    data = digits()
    few = pdadmm.Data(data.x[:140], data.y[:140])
    own = task(train=few)
    algorithm, start, key = began("sgd_batches", own, 0.1)
    params = algorithm.params(start.state)
    order = jax.random.permutation(jax.random.fold_in(key, 0), 140)
    optimizer = optax.sgd(0.1, momentum=0.9)
    memory = optimizer.init(params)
    for rows in (order[:128], order[128:]):
        batch = pdadmm.Data(few.x[rows], few.y[rows])
        slope = jax.grad(pdadmm.loss)(params, batch, own.problem)
        updates, memory = optimizer.update(slope, memory, params)
        params = optax.apply_updates(params, updates)
    state, _ = algorithm.run(start.state, few, start.config, key, 1)
    for one, other in zip(*map(jax.tree.leaves, (algorithm.params(state), params)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_algorithm_1_grows_from_the_layers_that_it_begins_with():
    own = task(widths=(64, 24, 24, 24, 24, 10), passes=20, evaluate_every=10)._replace(
        first_layers=3
    )
    depths = {name: own.depths(METHODS[name]) for name in ("pdadmm_exact", "pdadmm", "adam")}
    assert depths == {"pdadmm_exact": [2, 3, 5], "pdadmm": [3, 5], "adam": [5]}
    assert own._replace(first_layers=None).depths(METHODS["pdadmm_exact"]) == [5]
    found = trained(Trial("pdadmm_exact", 0.1, 0, tuning=False), own, Programs())
    assert [point.passes for point in found.points] == [10, 12, 20]
    assert [W.shape for W, _ in found.params] == [(64, 24), *[(24, 24)] * 3, (24, 10)]
    short = trained(Trial("pdadmm_exact", 0.1, 0, tuning=False), own._replace(passes=3), Programs())
    assert len(short.params) == 5  # both times after the first pass


@pytest.mark.usefixtures("standard_promotion")
def test_a_trial_goes_on_from_the_weights_of_another():
    """Plain descent remembers nothing but its weights: in two trials it goes where one goes."""
    own, trial = task(passes=20, evaluate_every=10), Trial("gd", 0.1, seed=0, tuning=False)
    straight = trained(trial, own, Programs())
    begun = trained(trial, own._replace(passes=10), Programs())
    weights = jax.tree.map(np.array, begun.params)
    ended = trained(trial, own._replace(passes=10), Programs(), after=begun)
    jax.tree.map(np.testing.assert_array_equal, begun.params, weights)  # not donated
    assert [point.passes for point in ended.points] == [20]
    assert ended.points[-1].seconds > begun.points[-1].seconds
    for one, other in zip(*map(jax.tree.leaves, (ended.params, straight.params)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
