"""The library works alike whatever the program around it has set."""

from __future__ import annotations

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import pdadmm_jax as pdadmm
from pdadmm_jax import admm, sweeps
from pdadmm_jax.problems.activations import ACTIVATIONS
from tests.problems import refused

WIDTHS = (6, 8, 8, 3)
KEY = jax.random.key(0)
rng = np.random.default_rng(0)
DATA = pdadmm.Data(
    jnp.asarray(rng.normal(size=(24, 6)), jnp.float32), jnp.asarray(rng.integers(0, 3, 24), "int32")
)
CONFIGS = {
    admm: admm.Config(precision="bfloat16"),
    sweeps: sweeps.Config(batch=8, schedule="streaming"),
}
BOTH = pytest.mark.parametrize("algorithm", CONFIGS, ids=lambda module: module.__name__)
STAGES = pytest.mark.parametrize("stages", [1, 2])


def mesh_of_the_program(devices, kind=AxisType.Explicit):
    return jax.make_mesh(
        (devices,), ("batch",), axis_types=(kind,), devices=jax.devices()[:devices]
    )


SURROUNDINGS = {
    "another mesh": lambda: jax.set_mesh(mesh_of_the_program(4)),
    "an implicit mesh": lambda: jax.set_mesh(mesh_of_the_program(2, AxisType.Auto)),
    "a mesh of one device": lambda: jax.set_mesh(mesh_of_the_program(1)),
    "no rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "checks for NaN": lambda: jax.debug_nans(True),
    "no implicit transfers": lambda: jax.transfer_guard("disallow"),
}


def trained(algorithm, data, stages, key=KEY):
    """Everything that a program does with the library, once."""
    config, mesh = CONFIGS[algorithm], None
    if stages > 1:
        mesh = pdadmm.make_mesh(stages)
        data = pdadmm.shard_data(data, mesh)
    state = algorithm.init(KEY, data, WIDTHS, config, mesh=mesh)
    state, _ = algorithm.step(state, data, config, key)
    state, _ = algorithm.run(state, data, config, key, steps=2)
    weights = pdadmm.params(algorithm.reshard(state, None))
    algorithm.from_params(weights, data, config, mesh=mesh)
    return pdadmm.loss(state, data, config)


@BOTH
@STAGES
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_the_same_in_all_surroundings(algorithm, stages, surroundings):
    expected = float(trained(algorithm, DATA, stages))
    with SURROUNDINGS[surroundings]():
        found = trained(algorithm, DATA, stages)
        found.block_until_ready()
    np.testing.assert_allclose(float(found), expected, rtol=1e-5)


@BOTH
def test_everything_made_within_a_mesh_of_one_device(algorithm):
    """Keys and arrays then lie on that mesh, on which XLA lacks products of bfloat16 on a CPU."""
    expected = float(trained(algorithm, DATA, 1))
    with jax.set_mesh(mesh_of_the_program(1)):
        key, data = jax.random.key(0), pdadmm.Data(DATA.x + 0, DATA.y + 0)
        config = CONFIGS[algorithm]
        state = algorithm.init(key, data, WIDTHS, config)
        state, _ = algorithm.step(state, data, config, key)
        state, _ = algorithm.run(state, data, config, key, steps=2)
        found = float(pdadmm.loss(state, data, config))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@BOTH
@STAGES
def test_explicitly_sharded_data_and_keys(algorithm, stages):
    expected = float(trained(algorithm, DATA, stages))
    mesh = mesh_of_the_program(4)
    data = jax.device_put(DATA, NamedSharding(mesh, P("batch")))
    key = jax.device_put(KEY, NamedSharding(mesh, P()))
    found = float(trained(algorithm, data, stages, key))
    np.testing.assert_allclose(found, expected, rtol=1e-3)  # bfloat16, summed in another order


def test_explicitly_sharded_data_that_are_traced_are_refused():
    weights = pdadmm.random_params(KEY, WIDTHS)
    x = jax.device_put(DATA.x, NamedSharding(mesh_of_the_program(4), P("batch")))
    traced = jax.jit(lambda x: pdadmm.forward(weights, x, CONFIGS[sweeps]))
    refused("x is float32.*split over explicit axes.*outside of jax.jit", traced, x)


@pytest.mark.skipif(jax.__version_info__ < (0, 8), reason="jax 0.7 lets these transfers pass")
def test_data_in_the_hosts_memory_are_still_guarded():
    state = sweeps.init(KEY, DATA, WIDTHS, CONFIGS[sweeps])
    data = jax.tree.map(np.asarray, DATA)
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-dev"):
        sweeps.step(state, data, CONFIGS[sweeps])


def user_loss(outputs, y):
    return jnp.sum((outputs - y) ** 2)


@pytest.mark.parametrize("move", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.parametrize(
    "config",
    [
        *(admm.Config(activation=name) for name in ACTIVATIONS),
        *(admm.Config(p_solver=name) for name in ("search", "exact")),
        *(sweeps.Config(rule=name) for name in ("proximal", "adam", "lion")),
        admm.Config(activation=pdadmm.NumericActivation(jax.nn.silu)),
        admm.Config(loss=pdadmm.ConvexLoss(user_loss)),
    ],
)
def test_configurations_go_to_other_processes(config, move):
    assert move(config) == config


@BOTH
def test_states_go_to_other_processes_but_from_a_mesh(algorithm):
    config, mesh = CONFIGS[algorithm], pdadmm.make_mesh(2)
    state = algorithm.init(KEY, DATA, WIDTHS, config)
    again = pickle.loads(pickle.dumps(state))
    jax.tree.map(np.testing.assert_array_equal, again, state)
    state = algorithm.reshard(state, mesh)
    jax.tree.map(np.testing.assert_array_equal, copy.deepcopy(state), state)
    refused("on the mesh .* cannot be pickled.*reshard", pickle.dumps, state)
