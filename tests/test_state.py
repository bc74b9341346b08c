"""How a run begins and ends, and every wrong input on the way in."""

from __future__ import annotations

import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from pdadmm_jax.admm import updates
from pdadmm_jax.admm.solvers import UnitStep
from pdadmm_jax.problems import activations, losses
from tests.problems import problem, refused

CONFIG = admm.Config()
X = jnp.asarray(np.random.default_rng(0).uniform(size=(12, 6)), jnp.float32)
Y = jnp.arange(12) % 3
DATA = pdadmm.Data(X, Y)
KEY = jax.random.key(0)


@pytest.mark.parametrize("widths", [(6, 4, 3), (6, 1, 3), (6, 9, 2, 2, 7, 3)], ids=str)
def test_the_start_satisfies_every_constraint(widths):
    state = admm.init(KEY, DATA, widths, CONFIG)
    assert state.plan.widths == widths
    terms = admm.terms(state, DATA, CONFIG)
    np.testing.assert_allclose(terms.lagrangian, terms.risk, rtol=1e-6)
    loss = pdadmm.loss(pdadmm.params(state), DATA, CONFIG)
    np.testing.assert_allclose(terms.risk, 12 * loss, rtol=1e-5)


def test_inner_layers_of_one_shape_share_a_stack():
    shapes = [s.W.shape for s in admm.init(KEY, DATA, (6, 5, 5, 5, 5, 3), CONFIG).layers]
    assert shapes == [(1, 6, 5), (3, 5, 5), (1, 5, 3)]
    # First and last layer stand alone even where their shape is the inner one.
    equal = pdadmm.Data(X, jnp.arange(12) % 6)
    shapes = [s.W.shape for s in admm.init(KEY, equal, (6, 6, 6, 6), CONFIG).layers]
    assert shapes == [(1, 6, 6), (1, 6, 6), (1, 6, 6)]


def test_params_and_back():
    data, state = problem((6, 5, 5, 3), CONFIG)
    state, _ = admm.run(state, data, CONFIG, steps=3)
    params = pdadmm.params(state)
    again = admm.from_params(params, data, CONFIG)
    chex.assert_trees_all_equal(pdadmm.params(again), params)
    outputs = pdadmm.forward(params, data.x, CONFIG)
    np.testing.assert_allclose(again.layers[-1].z[0], outputs, rtol=1e-5, atol=1e-5)


def test_a_hand_written_network_takes_the_weights():
    data, state = problem((6, 5, 5, 3), CONFIG)
    *hidden, (W, b) = pdadmm.params(state)
    x = np.asarray(data.x)
    for V, c in hidden:
        x = np.maximum(x @ np.asarray(V) + np.asarray(c), 0)
    mine = pdadmm.forward(pdadmm.params(state), data.x, CONFIG)
    np.testing.assert_allclose(mine, x @ np.asarray(W) + np.asarray(b), rtol=1e-5, atol=1e-5)


def test_a_state_can_be_made_under_jit_or_in_the_abstract():
    widths = (6, 4, 3)
    expected = admm.init(KEY, DATA, widths, CONFIG)
    made = jax.jit(lambda key: admm.init(key, DATA, widths, CONFIG))(KEY)
    chex.assert_trees_all_close(made, expected, rtol=1e-5)
    shapes = jax.eval_shape(lambda data: admm.init(KEY, data, widths, CONFIG), DATA)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, expected)


def test_hyperparameters_are_a_pytree_for_any_leaf():
    blank = jax.tree.map(lambda _: None, admm.Config(p_solver=admm.Search()))
    assert blank.nu is None
    assert blank.p_solver.start is None
    one, other = admm.Config(nu=0.1), admm.Config(nu=0.2)
    spread = jax.tree.map(
        lambda *leaves: np.stack(leaves) if leaves[0] != leaves[1] else leaves[0], one, other
    )
    axes = jax.tree.map(lambda leaf: 0 if np.ndim(leaf) else None, spread)
    doubled = jax.vmap(lambda config: 2 * config.nu, in_axes=(axes,))(spread)
    np.testing.assert_allclose(doubled, [0.2, 0.4])


def test_numpy_data_will_do():
    data = pdadmm.Data(np.asarray(X, np.float64), np.asarray(Y, np.uint8))
    state = admm.init(KEY, data, (6, 4, 3), CONFIG)
    state, info = admm.run(state, data, CONFIG, steps=2)
    assert state.layers[0].z.dtype == jnp.float32
    value = admm.terms(state, data, CONFIG).lagrangian
    np.testing.assert_allclose(value, info.lagrangian[-1], rtol=1e-5)
    assert 0 <= pdadmm.accuracy(pdadmm.params(state), data, CONFIG) <= 1


def test_initialisers_are_jaxs():
    small = admm.init(
        KEY, DATA, (6, 50, 50, 3), CONFIG, initializer=jax.nn.initializers.normal(0.01)
    )
    large = admm.init(KEY, DATA, (6, 50, 50, 3), CONFIG, initializer="orthogonal")
    assert 0.005 < float(jnp.std(small.layers[1].W)) < 0.015
    assert 0.15 < float(jnp.std(large.layers[1].W)) < 0.25  # sqrt(2) orthogonal: sqrt(2 / 50)


def test_wrong_networks_are_refused():
    refused(r"widths \(6, 3\) make 1 layer", admm.init, KEY, DATA, (6, 3), CONFIG)
    refused(r"widths\[1\] is 0", admm.init, KEY, DATA, (6, 0, 3), CONFIG)
    refused(r"widths\[1\] is 2\.5", admm.init, KEY, DATA, (6, 2.5, 3), CONFIG)
    refused("x has 6 features.*first width is 7", admm.init, KEY, DATA, (7, 4, 3), CONFIG)
    refused("labels run from 0 to 2.*2 outputs", admm.init, KEY, DATA, (6, 4, 2), CONFIG)
    refused("at least 2 outputs", admm.init, KEY, DATA, (6, 4, 1), CONFIG)
    params = pdadmm.params(admm.init(KEY, DATA, (6, 4, 5, 3), CONFIG))
    turned = [(W.T, b) for W, b in params]
    refused("layer 1 has W of shape", admm.from_params, turned, DATA, CONFIG)
    gap = [params[0], params[2]]
    refused("layer 2 takes 5 inputs, but layer 1 gives 4", admm.from_params, gap, DATA, CONFIG)


def test_wrong_data_are_refused():
    widths = (6, 4, 3)

    def start(x=X, y=Y, config=CONFIG):
        return admm.init(KEY, pdadmm.Data(x, y), widths, config)

    refused(r"x has shape \(12,\)", start, X[:, 0])
    refused(r"x has shape \(0, 6\)", start, X[:0], Y[:0])
    refused("x has dtype int32", start, X.astype(jnp.int32))
    refused("x has dtype bfloat16, in which sums", start, X.astype(jnp.bfloat16))
    refused(r"x\[3, 2\] is nan", start, X.at[3, 2].set(jnp.nan))
    refused("x holds 12 samples, y has shape", start, X, Y[:5])
    refused("labels run from -1 to 2", start, X, Y.at[0].set(-1))
    refused("labels run from 0 to 3", start, X, Y.at[0].set(3))
    refused("dtype float32, but labels have to be integers", start, X, Y.astype(jnp.float32))
    refused("y has 4 columns", start, X, jnp.ones((12, 4)) / 4)
    refused(r"y\[0\] sums to 3", start, X, jnp.ones((12, 3)))
    hinge = CONFIG.replace(loss=losses.multiclass_hinge)
    refused(r"y\[0\] is not one-hot", start, X, jnp.ones((12, 3)) / 3, hinge)
    squares = CONFIG.replace(loss=losses.squared_error)
    refused(r"y\[1, 0\] is inf", start, X, jnp.ones((12, 3)).at[1, 0].set(jnp.inf), squares)
    binary = CONFIG.replace(loss=losses.binary_logistic)
    refused("1 label per sample, but the network has 3", start, X, Y, binary)
    refused("y holds 2", start, X, 2 * jnp.ones((12, 3), jnp.int32), binary)


def test_wrong_configurations_are_refused():
    config = admm.Config
    refused("nu is -1", config, nu=-1)
    refused("rho is 0", config, rho=0.0)
    refused("mu is -0.5", config, mu=-0.5)
    refused("proximal is nan", config, proximal=float("nan"))
    refused("unknown precision 'most'; known are float32", config, precision="most")
    refused("growth is 1", admm.Search, growth=1.0)
    refused(r"growth is 0\.5", admm.Search, growth=np.float32(0.5))
    refused("nu is '0.1'", config, nu="0.1")
    refused(r"nu is -1\.0", config, nu=jnp.float32(-1))
    refused("activation is .*jit.*tanh.*of the kind Activation", config, activation=jnp.tanh)
    refused("p_solver is <class", config, p_solver=UnitStep)
    refused("start is -2", admm.Search, start=-2.0)
    refused("damping is -1", admm.Exact, damping=-1.0)
    refused(r"smoothing is 1\.0", pdadmm.SoftmaxCrossEntropy, 1.0)


def test_penalties_beyond_the_dtype_are_refused():
    widths = (6, 4, 3)
    refused(
        r"nu is 1e-60, but float32 reaches from",
        admm.init,
        KEY,
        DATA,
        widths,
        CONFIG.replace(nu=1e-60),
    )
    refused(
        r"rho is 1e.60, but float32 reaches from",
        admm.init,
        KEY,
        DATA,
        widths,
        CONFIG.replace(rho=1e60),
    )


def test_unknown_names_are_refused_with_the_nearest():
    refused("unknown activation 'rellu'; did you mean 'relu'", admm.Config, activation="rellu")
    refused("unknown loss 'squared_eror'; did you mean", admm.Config, loss="squared_eror")
    refused("unknown p_solver 'newton'; known are search, layer", admm.Config, p_solver="newton")


def test_data_of_another_state_are_refused():
    state = admm.init(KEY, DATA, (6, 4, 3), CONFIG)
    other = pdadmm.Data(X[:5], Y[:5])
    refused(
        r"x has shape \(5, 6\), but the state was made for \(12, 6\)",
        admm.step,
        state,
        other,
        CONFIG,
    )
    half = pdadmm.Data(X.astype(jnp.bfloat16), Y)
    refused(
        "x has dtype bfloat16, but the state float32",
        admm.run,
        state,
        half,
        CONFIG,
        steps=2,
    )


def test_targets_of_another_kind_are_refused_by_the_step():
    state = admm.init(KEY, DATA, (6, 4, 3), CONFIG)
    refused(r"y has shape \(5,\)", admm.step, state, pdadmm.Data(X, Y[:5]), CONFIG)
    refused("y has 4 columns", admm.step, state, pdadmm.Data(X, jnp.ones((12, 4)) / 4), CONFIG)


def test_updates_refuse_shapes_that_do_not_fit():
    p, W, b, z = X, jnp.ones((6, 4)), jnp.ones(4), jnp.ones((12, 4))
    step = UnitStep()
    narrow = r"z has shape \(12, 3\), but the other arguments ask for \(12, 4\)"
    refused(narrow, updates.update_p, p, W, z, z[:, :3], p, p, 1.0, 1.0, step)
    refused(r"u_in has shape \(3, 6\)", updates.update_p, p, W, z, z, p, p[:3], 1.0, 1.0, step)
    refused(narrow, updates.update_W, W, p, z, z[:, :3], 1.0, 0.0, step)
    refused(r"b has shape \(3,\)", updates.update_b, b[:3], z, z)
    refused(r"q has shape \(12, 3\)", updates.update_z, z, z, z[:, :3], activations.relu, 1.0)
    loss = losses.softmax_cross_entropy
    refused(r"a has shape \(12, 3\)", updates.update_z_output, z, z[:, :3], Y, loss, 1.0)
    refused(r"f_z has shape \(12, 3\)", updates.update_q, z, z, z[:, :3], 1.0, 1.0)
    refused(r"q has shape \(12, 3\)", updates.update_u, z, z, z[:, :3], 1.0)


def test_networks_refuse_what_they_cannot_judge():
    params = pdadmm.params(admm.init(KEY, DATA, (6, 4, 3), CONFIG))
    refused("x has 5 features.*first width is 6", pdadmm.forward, params, X[:, :5], CONFIG)
    refused("labels run from 100", pdadmm.accuracy, params, pdadmm.Data(X, Y + 100), CONFIG)
    refused("x holds 12 samples", pdadmm.loss, params, pdadmm.Data(X, Y[:1]), CONFIG)
    broken = [(W.at[0, 0].set(jnp.nan), b) for W, b in params]
    refused("W of layer 1.*is nan", admm.from_params, broken, DATA, CONFIG)


def test_no_steps_are_refused():
    state = admm.init(KEY, DATA, (6, 4, 3), CONFIG)
    refused("steps is 0", admm.run, state, DATA, CONFIG, steps=0)
    refused("steps is -1", admm.run, state, DATA, CONFIG, steps=-1)


def test_accuracy_of_real_valued_targets_is_refused():
    config = CONFIG.replace(loss=losses.squared_error)
    data = pdadmm.Data(X, jnp.ones((12, 3)))
    params = pdadmm.params(admm.init(KEY, data, (6, 4, 3), config))
    refused("are no classes", pdadmm.accuracy, params, data, config)
    assert pdadmm.loss(params, data, config) > 0


@pytest.mark.parametrize("samples", [12, 41, 7011])
def test_all_correct_is_an_accuracy_of_exactly_one(samples):
    y = np.arange(samples) % 3
    data = pdadmm.Data(np.eye(3)[y], y)
    params = [(np.eye(3), np.zeros(3)), (np.eye(3), np.zeros(3))]
    assert pdadmm.accuracy(params, data, CONFIG) == 1
    assert pdadmm.accuracy(params, pdadmm.Data(data.x, (y + 1) % 3), CONFIG) < 1e-6


def test_the_library_needs_neither_jaxtyping_nor_the_experiments():
    code = (
        "import sys; sys.modules.update({n: None for n in "
        "('jaxtyping', 'beartype', 'tensorflow_datasets', 'tyro', 'rich', 'matplotlib')});"
        "import pdadmm_jax"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
