"""Learning quality: instruments that tell the truth, and variants that change one thing each."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from experiments.compare.methods.variables import lagrangian, layers_of, weights_of
from experiments.quality import ideas, instruments, net, study, variants
from experiments.quality.config import QualityConfig, VariantName
from experiments.quality.net import Given
from experiments.quality.variants import VARIANTS, method_of, named
from tests.commands import assert_refused
from tests.digits import digits

WIDTHS = (7, 6, 6, 6, 4)
SHORT = (7, 5, 4)  # compiles faster
HYPER = pdadmm.Hyperparameters(nu=0.3, rho=0.3)


def problem(widths=WIDTHS, seed=0, samples=20, dtype=np.float64):
    """Weights from which every variable moves, and data."""
    rng = np.random.default_rng(seed)
    data = pdadmm.Data(
        jnp.asarray(rng.uniform(size=(samples, widths[0])), dtype),
        jnp.asarray(rng.integers(0, widths[-1], samples), jnp.int32),
    )
    params = [
        (
            jnp.asarray(rng.standard_normal(shape) * np.sqrt(2 / shape[0]), dtype),
            jnp.asarray(0.1 * rng.standard_normal(shape[1]), dtype),
        )
        for shape in itertools.pairwise(widths)
    ]
    return params, data


def trained(name, iterations, widths=WIDTHS, nu=0.3):
    """A variant's net after some iterations."""
    params, data = problem(widths)
    method, nu = method_of(name), jnp.asarray(nu)
    begun = method.start(params, jax.random.key(0), data, HYPER, nu)
    return jax.jit(method.advance, static_argnums=4)(begun, data, HYPER, nu, iterations)


def stepped(iterations):
    """The library's state after some iterations, and its last report."""
    params, data = problem()
    state, info = pdadmm.from_params(params, data, HYPER), None
    for _ in range(iterations):
        state, info = pdadmm.step(state, data, HYPER)
    return state, info


def assert_same_layers(one, other, tolerance):
    for own, its in zip(one, other, strict=True):
        for name in own._fields:
            if getattr(own, name) is not None:
                np.testing.assert_allclose(
                    getattr(own, name), getattr(its, name), rtol=0, atol=tolerance, err_msg=name
                )


# The plain list of layers


@pytest.mark.x64
def test_the_plain_variant_is_the_library():
    _, data = problem()
    state, info = stepped(15)
    found = trained("plain", 15)
    assert found.iteration == 15
    assert_same_layers(found.layers, layers_of(state, data, 0.3, 0.3), 1e-9)
    value = lagrangian(found.layers, data, HYPER)
    np.testing.assert_allclose(value, info.lagrangian, rtol=1e-10)


NEUTRAL = {
    "stiff_p": (1.0,),
    "penalties_grow": (1.0,),
    "penalties_by_layer": (1.0,),
    "over_relaxed": (1.0,),
    "over_relaxed_duals": (1.0,),
    "inertia_W": (0.0,),
    "inertia": (0.0,),
    "sweeps_between": (0.0,),
    "synchronised": (100.0,),  # in the first iteration all is in step already
    "then_adam": (100.0,),
}

OTHERWISE = {"sweeps_between": 1.0, "synchronised": 3.0, "then_adam": 3.0}


@pytest.mark.x64
@pytest.mark.parametrize("name", NEUTRAL)
def test_a_variant_whose_number_changes_nothing_is_the_plain_one(name):
    with jax.numpy_dtype_promotion("standard"):  # Optax raises numbers to whole powers
        plain = trained("plain", 6, SHORT).layers
        assert_same_layers(trained(named(name, NEUTRAL[name]), 6, SHORT).layers, plain, 1e-10)
        changed = trained(named(name, (OTHERWISE.get(name, 0.9),)), 6, SHORT).layers
    assert np.abs(changed[-1].W - plain[-1].W).max() > 1e-6


@pytest.mark.x64
def test_growth_is_the_library_s():
    (_, data), (state, _) = problem(), stepped(15)
    grown = net.grow(trained("plain", 15), HYPER, 3)
    expected = layers_of(pdadmm.grow(state, HYPER, 3), data, 0.3, 0.3)
    assert_same_layers(grown.layers, expected, 1e-9)


# Instruments


def plain(params, data):
    """Weights and inputs as NumPy arrays."""
    return [tuple(map(np.asarray, pair)) for pair in params], np.asarray(data.x)


def forward(weights, x):
    """Inputs and values of all layers, in NumPy."""
    p, found = x, []
    for W, b in weights:
        found.append((p, p @ W + b))
        p = np.maximum(found[-1][1], 0)
    return found


def risk(weights, data):
    """Summed cross-entropy, in NumPy."""
    a = forward(*plain(weights, data))[-1][1]
    largest = a.max(1, keepdims=True)
    logarithm = np.log(np.exp(a - largest).sum(1)) + largest[:, 0]
    return np.sum(logarithm - a[np.arange(len(a)), np.asarray(data.y)])


@pytest.mark.x64
def test_true_directions_are_finite_differences():
    params, data = problem()
    weights, rng = plain(params, data)[0], np.random.default_rng(1)
    for layer, found in enumerate(instruments.true_directions(params, data, HYPER)):
        along, step = rng.standard_normal(found.shape), 1e-6

        def moved(by, layer=layer, along=along):
            return [[W + by * along if k == layer else W, b] for k, (W, b) in enumerate(weights)]

        slope = (risk(moved(step), data) - risk(moved(-step), data)) / (2 * step)
        np.testing.assert_allclose(np.sum(-found * along), slope, rtol=1e-6)


def test_agreement_knows_its_extremes():
    rng = np.random.default_rng(0)
    one = jnp.asarray(rng.standard_normal((5, 4)), jnp.float32)
    none = jnp.zeros_like(one)
    across = jnp.asarray([[1.0, 0.0]]), jnp.asarray([[0.0, 2.0]])
    # Signals fade by factors of twenty per layer: their squares are beyond float32.
    local = [one, -2e-30 * one, none, one, none, across[0]]
    true = [one, one, one, none, none, across[1]]
    found = instruments.agreement(local, true)
    np.testing.assert_allclose(found.cosine, [1, -1, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found.ratio, [1, 2e-30, 0, np.inf, 0, 0.5], rtol=1e-6)


@pytest.mark.x64
def test_where_residuals_are_the_back_propagated_error_layers_see_the_gradient():
    """Z = a + error / nu, the error propagated by hand; p and a away from the forward pass."""
    params, data = problem()
    nu, passed = 1e3, forward(*plain(params, data))
    shares = np.exp(passed[-1][1])
    error = np.eye(WIDTHS[-1])[np.asarray(data.y)] - shares / shares.sum(1, keepdims=True)
    made = []
    for (W, b), (p, a) in reversed(list(zip(params, passed, strict=True))):
        penalties = jnp.asarray(nu), jnp.asarray(nu)
        rows = map(jnp.asarray, (p, p, 0 * p, W, b, a, a + error / nu))
        made.insert(0, net.Layer(*rows, *penalties))
        error = (error @ np.asarray(W).T) * (p > 0)
    found = instruments.read(tuple(made), data, HYPER)
    for one in (found.own, found.forward):
        np.testing.assert_allclose(one.cosine, 1, atol=1e-9)
        np.testing.assert_allclose(one.ratio, 1, atol=1e-9)
    np.testing.assert_allclose(found.loss, risk(params, data) / len(data.x), rtol=1e-12)
    # Elsewhere the two part: own directions take p and a as they are.
    strayed = tuple(own._replace(p=own.p + 1, a=own.a + 0.01) for own in made)
    apart = instruments.read((made[0], *strayed[1:]), data, HYPER)
    np.testing.assert_allclose(apart.forward.cosine, 1, atol=1e-9)
    assert apart.own.cosine[2] < 0.9


@pytest.mark.x64
def test_sweeps_with_weights_at_rest_come_to_the_gradient():
    """In equilibrium the dual variables are the back-propagated errors."""
    params, data = problem()
    given, nu = Given(data, HYPER.replace(proximal=0.0)), jnp.asarray(1e3)
    begun = net.start(params, given, nu, nu, {"times": jnp.asarray(3000.0)})
    sweeps = jax.jit(lambda begun: ideas.repeated(net.activations, "times")(begun, given))
    found = instruments.read(sweeps(begun).layers, data, HYPER)
    assert min(found.own.cosine) > 0.999
    np.testing.assert_allclose(found.own.ratio, 1, atol=0.05)
    few = begun._replace(numbers={"times": jnp.asarray(3.0)})
    assert instruments.read(sweeps(few).layers, data, HYPER).own.ratio[0] < 1e-3


# Ideas


@pytest.mark.x64
def test_a_pipeline_with_weights_at_rest_comes_to_the_gradient_one_hop_at_a_time():
    params, data = problem()
    given, nu = Given(data, HYPER), jnp.asarray(1e5)
    now = net.start(params, given, nu, nu, {})
    exchange = jax.jit(lambda now: ideas.pipelined(now, given))
    for hops in range(1, len(params) + 1):
        now = exchange(now)
        found = instruments.read(now.layers, data, HYPER).own
        reached = np.arange(len(params)) >= len(params) - hops
        np.testing.assert_allclose(found.ratio, reached, atol=1e-3)
        np.testing.assert_allclose(found.cosine, reached, atol=1e-4)
    assert_same_layers(exchange(now).layers, now.layers, 1e-12)


@pytest.mark.x64
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_pulled_z_is_the_best_of_many(slope):
    rng, f = np.random.default_rng(0), pdadmm.LeakyReLU(slope)
    a, pull = rng.normal(size=200), rng.normal(size=200)

    def value(z):
        return 0.5 * (z - a) ** 2 - pull * np.maximum(z, slope * z)

    found = np.asarray(ideas.pulled_z(jnp.asarray(a), jnp.asarray(pull), f))
    grid = np.linspace(-6, 6, 12001)[:, None]
    assert (value(found) <= value(grid).min(0) + 1e-12).all()
    with pytest.raises(ValueError, match="needs relu"):
        ideas.pulled_z(jnp.asarray(a), jnp.asarray(pull), pdadmm.tanh)


@pytest.mark.x64
def test_far_weights_go_from_the_damped_minimiser_on():
    now = trained("plain", 3)
    _, data = problem()
    now = now._replace(numbers={"damping": jnp.asarray(0.3), "relaxation": jnp.asarray(2.5)})
    found = variants.DAMPED(now, Given(data, HYPER))
    for own, new in zip(now.layers, found.layers, strict=True):
        p, r = np.asarray(own.p), np.asarray(own.z - own.a)
        gram = p.T @ p
        ridge = 0.3 * np.trace(gram) / len(gram) * np.eye(len(gram))
        change = np.linalg.solve(gram + ridge, p.T @ r)
        np.testing.assert_allclose(new.W, own.W + 2.5 * change, atol=1e-9)
        np.testing.assert_allclose(new.b, own.b + 2.5 * np.mean(r - p @ change, 0), atol=1e-9)
        np.testing.assert_allclose(new.a, new.p @ new.W + new.b, atol=1e-9)


@pytest.mark.x64
def test_rates_by_delay_are_shares_of_the_last_layer_s():
    now = trained("plain", 3)
    _, data = problem()
    now = now._replace(numbers={"damping": jnp.asarray(0.3), "relaxation": jnp.asarray(1.0)})
    alike = variants.DAMPED(now, Given(data, HYPER)).layers
    paced = variants.DAMPED_BY_DELAY(now, Given(data, HYPER)).layers
    for hops, (own, far, near) in enumerate(
        reversed(list(zip(now.layers, alike, paced, strict=True)))
    ):
        np.testing.assert_allclose((far.W - own.W) / (1 + 2 * hops), near.W - own.W, atol=1e-12)


@pytest.mark.x64
def test_anderson_is_ahead_of_what_it_accelerates():
    """On a linear contraction towards zero of weights that all contract at other speeds."""
    params, data = problem()
    given = Given(data, HYPER)

    def contract(now, given):
        def shrunk(W):
            return W * jnp.linspace(0.5, 0.99, W.size).reshape(W.shape)

        return now._replace(layers=tuple(k._replace(W=shrunk(k.W)) for k in now.layers))

    def size(now):
        return max(float(jnp.abs(W).max()) for W, _ in weights_of(now.layers))

    begun = net.start(params, given, jnp.asarray(1.0), jnp.asarray(1.0), {})
    begun = begun._replace(memory={"steps": ideas.remember_steps(begun)})
    one, other = begun, begun
    mixing = jax.jit(lambda now: ideas.anderson(contract)(now, given))
    for _ in range(30):
        one = contract(one, given)
        other = mixing(other)
        other = other._replace(iteration=other.iteration + 1)
        if other.iteration < ideas.HISTORY:
            assert size(one) == size(other)
    assert size(other) < 0.5 * size(one)
    for own in other.layers:
        np.testing.assert_allclose(own.a, own.p @ own.W + own.b, atol=1e-12)


@pytest.mark.x64
def test_balancing_moves_rho_towards_the_smaller_residual():
    now = trained("plain", 3)
    given = Given(problem()[1], HYPER)

    def becomes(q_change, gap):
        def move(now, given):
            first, *upper = now.layers
            moved = [k._replace(q=k.q + q_change, p=k.q + q_change + gap) for k in upper]
            return now._replace(layers=(first, *moved))

        return ideas.balanced(move)(now, given).layers[1].rho / now.layers[1].rho

    rho = float(now.layers[1].rho)
    assert becomes(1.0, 11 * rho) == 2
    assert becomes(1.0, 9 * rho) == 1
    assert becomes(11.0, rho) == 0.5


def test_far_weights_in_a_pipeline_learn_where_the_plain_algorithm_hardly_does():
    images = digits()
    data = pdadmm.Data(images.x[:400], images.y[:400])
    keys = jax.random.split(jax.random.key(0), 6)
    init = jax.nn.initializers.he_normal()
    params = [
        (init(key, shape), jnp.zeros(shape[1]))
        for key, shape in zip(keys, itertools.pairwise((64, *[30] * 5, 10)), strict=True)
    ]

    def loss(name, nu):
        method, nu = method_of(name), jnp.asarray(nu, jnp.float32)
        state = method.start(params, jax.random.key(0), data, HYPER, nu)
        state = jax.jit(method.advance, static_argnums=4)(state, data, HYPER, nu, 80)
        return float(pdadmm.mean_loss(method.params(state), data, HYPER))

    assert loss(named("pipelined_far_W", (2.0, 0.03)), 100.0) < 0.5 * loss("plain", 0.01)


# The command


def test_the_command_line_knows_all_variants():
    assert tuple(VARIANTS) == get_args(VariantName)
    for name, one in VARIANTS.items():
        assert "@" not in name
        for tried in (one.penalties, *one.numbers.values()):
            assert list(tried) == sorted(tried)
    assert len({one.title for one in VARIANTS.values()}) == len(VARIANTS)


def test_a_small_study_ends_with_tables_and_goes_on(tmp_path, monkeypatch, capsys):
    only = {
        "plain": replace(VARIANTS["plain"], penalties=(0.01, 0.1)),
        "stiff_p": replace(VARIANTS["stiff_p"], penalties=(0.1, 1.0), numbers={"share": (0.1, 1)}),
    }
    monkeypatch.setattr(variants, "VARIANTS", only)
    monkeypatch.setattr(study, "VARIANTS", only)
    config = QualityConfig(
        network=replace(QualityConfig().network, hidden=(12, 12)),
        only=("plain", "stiff_p"),
        methods=("adam",),
        iterations=20,
        seeds=2,
        out=tmp_path,
    )
    with jax.numpy_dtype_promotion("standard"):  # Optax raises numbers to whole powers
        assert study.main(config) == 0
        (directory,) = tmp_path.glob("quality-*")
        kept = {path: path.read_text() for path in tmp_path.glob("trials/*/*")}
        assert len(kept) > 10
        found = json.loads((directory / "quality.json").read_text())
        assert study.main(replace(config, only=("plain",))) == 0
    assert {path: path.read_text() for path in tmp_path.glob("trials/*/*")} == kept
    assert set(found) == {"plain", "stiff_p", "adam"}
    assert set(found["stiff_p"]["chosen"]) == {"nu", "share"}
    assert found["adam"]["hops"] == 2 * 2
    assert found["plain"]["hops"] == 2
    assert found["adam"]["readings"] == []
    for reading, loss in zip(found["plain"]["readings"], found["plain"]["train_loss"], strict=True):
        assert abs(reading["loss"] - loss) < 1e-5  # p moved after them, weights did not
        assert len(reading["own"]["cosine"]) == 3
    # Held-out samples of other seeds than those that numbers were chosen by.
    assert len([path for path in kept if path.name.endswith("result.json")]) == 2 * 3
    assert "p stiffer" in capsys.readouterr().out
    assert (directory / "quality.png").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--only", "plainest"), "plainest"),
        (("--network.activation", "tanh"), "network.activation is tanh"),
    ],
)
def test_a_mistake_gets_one_line(words, complaint):
    assert_refused(("quality", *words), complaint)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"only": ("plain", "plain")}, "only has plain twice"),
        ({"iterations": 1}, "iterations is 1"),
        ({"data": replace(QualityConfig().data, validation=0.0)}, "data.validation is 0"),
        ({"network": replace(QualityConfig().network, hidden=(9, 8))}, "two equal widths"),
    ],
)
def test_settings_that_leave_nothing_to_study_are_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        replace(QualityConfig(), **changes).check()
