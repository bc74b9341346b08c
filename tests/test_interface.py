"""Both algorithms have one interface, and what it promises holds for both."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm, sweeps
from tests.problems import refused
from tests.selection import selected

WIDTHS = (6, 8, 8, 3)
KEY = jax.random.key(0)
rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(24, 6)), jnp.float32)
DATA = pdadmm.Data(X, jnp.asarray(rng.integers(0, 3, 24), jnp.int32))
CONFIGS = {admm: admm.Config(), sweeps: sweeps.Config(batch=8)}
BOTH = pytest.mark.parametrize("algorithm", CONFIGS, ids=lambda module: module.__name__)


def started(algorithm):
    return algorithm.init(KEY, DATA, WIDTHS, CONFIGS[algorithm])


@pytest.mark.parametrize("name", ["init", "from_params", "step", "run", "reshard", "abstract"])
def test_the_same_arguments_in_the_same_order(name):
    mine, others = (inspect.signature(getattr(one, name)).parameters for one in CONFIGS)
    assert list(mine) == list(others)
    assert [one.kind for one in mine.values()] == [one.kind for one in others.values()]
    assert [one.default for one in mine.values()] == [one.default for one in others.values()]


def test_the_same_first_weights_and_the_same_fields():
    weights = [
        pdadmm.params(algorithm.init(KEY, DATA, WIDTHS, config, initializer="orthogonal"))
        for algorithm, config in CONFIGS.items()
    ]
    jax.tree.map(np.testing.assert_array_equal, *weights)
    shared = {"loss", "converged", "finite"}
    assert all(shared <= set(algorithm.Info._fields) for algorithm in CONFIGS)


@BOTH
def test_a_run_is_its_steps(algorithm):
    config, key = CONFIGS[algorithm], jax.random.key(1)
    state, expected = started(algorithm), []
    for step_key in jax.random.split(key, 3):
        state, info = algorithm.step(state, DATA, config, step_key)
        expected.append(info.loss)
    found, history = algorithm.run(started(algorithm), DATA, config, key, steps=3)
    np.testing.assert_allclose(history.loss, jnp.stack(expected), rtol=1e-5)
    assert int(found.iteration) == int(state.iteration) == 3
    for mine, other in zip(pdadmm.params(found), pdadmm.params(state), strict=True):
        np.testing.assert_allclose(mine[0], other[0], rtol=1e-4, atol=1e-6)


@BOTH
def test_states_and_plain_weights_are_the_same_network(algorithm):
    config, state = CONFIGS[algorithm], started(algorithm)
    weights = pdadmm.params(state)
    for function in (pdadmm.loss, pdadmm.accuracy, pdadmm.evaluate):
        found, expected = function(state, DATA, config), function(weights, DATA, config)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    outputs = pdadmm.forward(state, X, config)
    np.testing.assert_array_equal(pdadmm.forward(weights, X, config), outputs)
    np.testing.assert_array_equal(pdadmm.predict(state, X, config), outputs.argmax(1))


@pytest.mark.parametrize(
    ("loss", "outputs", "expected"),
    [
        ("multiclass_hinge", [[1.0, 3.0, 2.0]], [1]),
        ("binary_logistic", [[0.5, -0.5]], [[1, 0]]),
        ("binary_logistic", [[-2.0]], [0]),
        ("squared_error", [[0.5, -0.5]], [[0.5, -0.5]]),
    ],
)
def test_predictions_are_what_the_loss_makes_of_the_outputs(loss, outputs, expected):
    outputs = jnp.asarray(outputs)
    shift = [(jnp.eye(2), jnp.zeros(2)), (jnp.zeros((2, outputs.shape[1])), outputs[0])]
    config = admm.Config(loss=loss)
    np.testing.assert_array_equal(pdadmm.predict(shift, jnp.zeros((1, 2)), config), expected)


@BOTH
def test_the_other_algorithms_state_is_refused_with_the_right_function(algorithm):
    other = sweeps if algorithm is admm else admm
    mine, others = (one.__name__.rsplit(".")[-1] for one in (algorithm, other))
    config = CONFIGS[algorithm]
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        for name, call in {
            "step": lambda state: algorithm.step(state, DATA, config),
            "run": lambda state: algorithm.run(state, DATA, config, steps=2),
            "reshard": lambda state: algorithm.reshard(state, None),
        }.items():
            with pytest.raises(TypeError, match=rf"{mine}\.{name} was given .*{others}\.{name}"):
                call(started(other))
            with pytest.raises(TypeError, match=rf"{mine}\.{name} was given a list.*from_params"):
                call(pdadmm.params(started(other)))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("function", [admm.grow, admm.refresh, admm.terms])
def test_the_way_out_names_no_function_that_does_not_exist(function):
    name = function.__name__
    match = rf"admm\.{name} was given the State that sweeps\.init makes: it takes that of admm.init"
    refused(
        match, function, started(sweeps), *((CONFIGS[admm], 1) if name == "grow" else (DATA, 0))
    )


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("config is a sweeps.Config, but admm takes", lambda: start(config=CONFIGS[sweeps])),
        ("config is a NoneType, but has to be", lambda: start(config=None)),
        ("config is a sweeps.Config, but", lambda: step(config=CONFIGS[sweeps])),
        ("config is a sweeps.Config, but", lambda: admm.certificate(CONFIGS[sweeps])),
        ("config is a sweeps.Config, but", lambda: admm.certified(CONFIGS[sweeps])),
        ("config is a sweeps.Config, but", lambda: admm.grow(started(admm), CONFIGS[sweeps], 1)),
        ("config is a list, but", lambda: pdadmm.loss(started(admm), DATA, [])),
        ("config is a list, but", lambda: pdadmm.forward(started(admm), X, [])),
        ("data is a tuple, but has to be Data", lambda: start(data=(X, DATA.y))),
        ("data is a tuple, but has to be Data", lambda: step(data=(X, DATA.y))),
        ("x is a dict, but has to be an array", lambda: start(data=pdadmm.Data({}, DATA.y))),
        ("y is None, but has to be an array", lambda: start(data=pdadmm.Data(X, None))),
        ("x is a list that makes no array", lambda: start(data=pdadmm.Data([[1.0], []], DATA.y))),
        ("y has dtype complex", lambda: start(data=pdadmm.Data(X, 1j * np.ones(24)))),
        ("x has dtype object.*astype", lambda: start(data=pdadmm.Data(np.array(X, "O"), DATA.y))),
        ("x is a masked array", lambda: start(data=pdadmm.Data(np.ma.masked_less(X, 0), DATA.y))),
        ("y runs from .* int32", lambda: start(data=pdadmm.Data(X, np.arange(24) + 2**40))),
        ("y has dtype <U1, but has to hold", lambda: start(data=pdadmm.Data(X, np.array(["a"])))),
        ("x has dtype int32", lambda: pdadmm.forward(started(admm), X.astype(int), CONFIGS[admm])),
        ("key is 0, but has to be a PRNG key", lambda: start(key=0)),
        ("widths is 4, but has to be .features", lambda: start(widths=4)),
        ("initializer is 'he', but has to be", lambda: start(initializer="he")),
        (
            r"W has shape \(3,\), but .* \(6, 8\)",
            lambda: start(initializer=lambda *_: jnp.zeros(3)),
        ),
        ("weights are a State, but have", lambda: admm.from_params(started(admm), DATA, None)),
        ("weights are a dictionary of .., but have", lambda: pdadmm.params({})),
        (r"layer 1 is a str, but has to be \(W, b\)", lambda: pdadmm.params("a")),
        (
            "layer 'Dense_0' has .*scale",
            lambda: pdadmm.params({"Dense_0": {"scale": 1}}),
        ),
        ("dictionary of .'a'., but", lambda: pdadmm.params({"params": {"a": {}}})),
        ("W of layer 1 is a float, but", lambda: pdadmm.params([(1.0, 2.0)])),
        ("nonfinite was given a list, but", lambda: pdadmm.nonfinite([])),
        ("make 1 layer", lambda: admm.abstract(DATA, (6, 3), CONFIGS[admm])),
        ("x has 6 features, but", lambda: admm.abstract(DATA, (5, 8, 3), CONFIGS[admm])),
        ("function is 'tanh', but", lambda: pdadmm.NumericActivation("tanh")),
        ("lipschitz is -1, but", lambda: pdadmm.NumericActivation(jnp.tanh, lipschitz=-1)),
        ("function is 3, but", lambda: pdadmm.ConvexLoss(3)),
        ("steps is '3', but has to be", lambda: step(steps="3")),
    ],
)
def test_what_is_of_another_kind_is_named(match, call):
    refused(match, call)


def start(key=KEY, data=DATA, widths=WIDTHS, config=CONFIGS[admm], **options):
    return admm.init(key, data, widths, config, **options)


def step(data=DATA, config=CONFIGS[admm], steps=1):
    return admm.run(started(admm), data, config, steps=steps)


@BOTH
def test_seeds_go_through_vmap(algorithm):
    """Starting, training and taking the weights of three networks at once, as one by one."""
    config, keys = CONFIGS[algorithm], jax.random.split(KEY, 3)
    states = jax.vmap(lambda key: algorithm.init(key, DATA, WIDTHS, config))(keys)
    states, infos = jax.vmap(lambda state: algorithm.run(state, DATA, config, steps=2))(states)
    weights = pdadmm.params(states)
    assert [W.shape for W, _ in weights] == [(3, 6, 8), (3, 8, 8), (3, 8, 3)]
    for k, key in enumerate(keys):
        state = algorithm.init(key, DATA, WIDTHS, config)
        state, info = algorithm.run(state, DATA, config, steps=2)
        np.testing.assert_allclose(infos.loss[k], info.loss, rtol=1e-4)
        np.testing.assert_allclose(weights[1][0][k], pdadmm.params(state)[1][0], atol=1e-5)


@BOTH
def test_a_batch_of_states_is_never_taken_for_one(algorithm):
    config = CONFIGS[algorithm]
    init = jax.vmap(lambda key: algorithm.init(key, DATA, WIDTHS, config))
    states = init(jax.random.split(KEY, 3))
    refused("1 axes more.*jax.vmap", algorithm.step, states, DATA, config)
    refused("1 axes more.*jax.vmap", algorithm.run, states, DATA, config, steps=2)
    refused(r"layer 1 has W of shape \(3, 6, 8\).*jax.vmap", pdadmm.forward, states, X, config)
    refused(r"layer 1 has W of shape \(3, 6, 8\).*jax.vmap", pdadmm.loss, states, DATA, config)


@BOTH
def test_penalties_go_through_vmap_and_compile_nothing_again(algorithm, compilations):
    config, state = CONFIGS[algorithm], started(algorithm)

    def loss(nu):
        return algorithm.run(state, DATA, config.replace(nu=nu), steps=2)[1].loss

    nus = jnp.asarray([0.1, 10.0])
    together = jax.vmap(loss)(nus)
    alone = [loss(nus[0])]
    before = compilations()
    alone.append(loss(nus[1]))
    assert compilations() == before
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-4)


@BOTH
def test_forward_mode_works_from_the_first_step_on(algorithm):
    config, state = CONFIGS[algorithm], started(algorithm)

    def outcome(nu):
        state_then, info = algorithm.run(state, DATA, config.replace(nu=nu), steps=2)
        return jnp.mean(info.loss), state_then.weights

    nu, step = jnp.float32(1.0), 1e-3
    (_, weights), (found, moved) = jax.jvp(outcome, (nu,), (jnp.ones_like(nu),))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((weights, moved)))
    expected = (outcome(nu + step)[0] - outcome(nu - step)[0]) / (2 * step)
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=1e-4)


@BOTH
def test_reverse_mode_is_refused_in_one_sentence(algorithm):
    config, state = CONFIGS[algorithm], started(algorithm)

    def loss(nu):
        return jnp.mean(algorithm.step(state, DATA, config.replace(nu=nu))[1].loss)

    refused("no reverse-mode derivative.*jax.jvp", jax.grad(loss), 1.0)


@BOTH
def test_a_mesh_is_given_in_the_same_place(algorithm):
    config, mesh = CONFIGS[algorithm], pdadmm.make_mesh(2)
    data = pdadmm.shard_data(DATA, mesh)
    state = algorithm.init(KEY, data, WIDTHS, config, mesh=mesh)
    state, info = algorithm.run(state, data, config, steps=2)
    alone, expected = algorithm.run(started(algorithm), DATA, config, steps=2)
    np.testing.assert_allclose(info.loss, expected.loss, rtol=1e-4)
    back = algorithm.reshard(state, None)
    assert type(back) is type(alone)
    again, _ = algorithm.step(algorithm.reshard(back, mesh), data, config)
    assert int(again.iteration) == 3


# Any complete Optax optimizer is an update rule.

OPTIMIZERS = {
    "adamw": optax.adamw(optax.cosine_decay_schedule(1e-2, 40), weight_decay=1e-2),
    "clipped": optax.chain(optax.clip_by_global_norm(0.3), optax.adam(1e-2)),
    "masked": optax.chain(
        optax.add_decayed_weights(0.1, lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
        optax.sgd(0.1, momentum=0.9),
    ),
    "named": optax.chain(
        optax.masked(optax.set_to_zero(), [(True, True)] + 2 * [(False, False)]), optax.sgd(0.1)
    ),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=1e-2),
    "muon": optax.contrib.muon(1e-2),
}


@pytest.mark.x64
@pytest.mark.parametrize("name", selected(OPTIMIZERS, fast=["adamw", "clipped", "masked", "named"]))
def test_optax_optimizers_do_to_sweeps_what_they_do_to_gradients(name):
    """At a stiff nu, a pass is an epoch of the same optimizer on the gradients of the loss."""
    optimizer = OPTIMIZERS[name]
    config = sweeps.Config(nu=1e9, rule=optimizer, batch=8)
    data = DATA._replace(x=jnp.asarray(DATA.x, jnp.float64))
    state = sweeps.init(KEY, data, WIDTHS, config)
    params = pdadmm.params(state)
    kept = optimizer.init(params)
    for _ in range(2):
        for start in range(0, 24, 8):
            batch = pdadmm.Data(*(rows[start : start + 8] for rows in data[:2]))
            gradient = jax.grad(pdadmm.loss)(params, batch, config)
            with jax.numpy_dtype_promotion("standard"):
                updates, kept = optimizer.update(gradient, kept, params)
            params = optax.apply_updates(params, updates)
    state, _ = sweeps.run(state, data, config, steps=2)
    for (W, b), (expected_W, expected_b) in zip(pdadmm.params(state), params, strict=True):
        np.testing.assert_allclose(W, expected_W, atol=1e-5)
        np.testing.assert_allclose(b, expected_b, atol=1e-5)


@pytest.mark.parametrize(
    "name", selected(["adamw", "injected", "masked", "muon"], fast=["adamw", "muon"])
)
def test_optimizers_of_independent_layers_work_on_stages(name):
    config, mesh = sweeps.Config(rule=OPTIMIZERS[name], batch=8), pdadmm.make_mesh(2)
    data = pdadmm.shard_data(DATA, mesh)
    _, expected = sweeps.run(sweeps.init(KEY, DATA, WIDTHS, config), DATA, config, steps=2)
    state = sweeps.init(KEY, data, WIDTHS, config, mesh=mesh)
    _, found = sweeps.run(state, data, config, steps=2)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-4)


@pytest.mark.parametrize(
    "optimizer",
    [
        OPTIMIZERS["clipped"],
        OPTIMIZERS["named"],
        optax.apply_if_finite(optax.adam(1e-2), 3),
        optax.chain(optax.add_noise(0.01, 0.55, key=0), optax.sgd(0.1)),
    ],
)
def test_optimizers_that_couple_layers_are_refused_on_stages(optimizer):
    mesh = pdadmm.make_mesh(2)
    config, data = sweeps.Config(rule=optimizer, batch=8), pdadmm.shard_data(DATA, mesh)
    start = sweeps.init(KEY, DATA, WIDTHS, config)
    state, _ = sweeps.step(start, DATA, config)  # on one stage they see all layers
    why = "does not move every layer as it would alone.*2 stages.*use one stage"
    refused(why, sweeps.init, KEY, data, WIDTHS, config, mesh=mesh)
    refused(why, sweeps.reshard, state, mesh)


def test_a_global_norm_is_over_the_whole_network_on_data_shards_too():
    config, mesh = sweeps.Config(rule=OPTIMIZERS["clipped"], batch=24), pdadmm.make_mesh(1, 2)
    data = pdadmm.shard_data(DATA, mesh)
    expected, _ = sweeps.step(sweeps.init(KEY, DATA, WIDTHS, config), DATA, config)
    found, _ = sweeps.step(sweeps.init(KEY, data, WIDTHS, config, mesh=mesh), data, config)
    for (W, _), (other, _) in zip(pdadmm.params(found), pdadmm.params(expected), strict=True):
        np.testing.assert_allclose(W, other, atol=1e-5)


def test_names_and_objects_are_the_same():
    by_name = admm.Config(activation="gelu", loss="squared_error", p_solver="search")
    assert by_name == by_name.replace(activation=by_name.activation, loss=by_name.loss)
    assert isinstance(by_name.p_solver, admm.Search)
    assert isinstance(by_name.activation, pdadmm.NumericActivation)
    assert isinstance(sweeps.Config(rule="adam").rule, sweeps.Adam)


def test_public_names_are_few_and_all_there():
    for module in (pdadmm, admm, sweeps):
        assert all(hasattr(module, name) for name in module.__all__)
    assert len(pdadmm.__all__) + len(admm.__all__) + len(sweeps.__all__) <= 64
