"""Hidden layers of different widths, on stages that hold different layers: the same numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pdadmm_jax as pdadmm
from experiments.algorithms.pipelines import gpipe_step
from pdadmm_jax import admm, sweeps
from pdadmm_jax.admm.packed import pack_variables, unpack_variables
from pdadmm_jax.parallel.plan import plan
from tests.problems import problem as admm_problem
from tests.problems import refused
from tests.selection import selected
from tests.test_mesh import CONFIG, assert_same_run, mesh_of
from tests.test_mesh import assert_close as assert_near
from tests.test_sweeps import (
    RULES,
    assert_close,
    assert_one_batch_late,
    assert_streamed,
    problem,
    swept,
    transcribed,
)

TAPERING, BOTTLENECK, ZIGZAG = (16, 12, 8, 6, 5), (9, 3, 9), (3, 12, 3, 3, 12)
SHAPES = {  # hidden layers, stages, shards
    "tapering on two": (TAPERING, 2, 1),
    "tapering on four": (TAPERING, 4, 1),
    "bottleneck on six": (BOTTLENECK, 6, 1),  # of which two are idle
    "zigzag on three": (ZIGZAG, 3, 1),
    "zigzag on two, shared": (ZIGZAG, 2, 2),
}
NAMES = list(SHAPES)


def test_the_shapes_are_what_they_are_chosen_for():
    held = {
        name: plan((7, *hidden, 4), stages).layers for name, (hidden, stages, _) in SHAPES.items()
    }
    assert held == {
        "tapering on two": ((1, 2), (3, 4, 5, 6)),
        "tapering on four": ((1,), (2,), (3, 4, 5), (6,)),
        "bottleneck on six": ((1,), (2,), (3,), (4,), (), ()),
        "zigzag on three": ((1, 2), (3, 4, 5), (6,)),
        "zigzag on two, shared": ((1, 2, 3, 4), (5, 6)),
    }


@pytest.mark.x64
@pytest.mark.parametrize(
    ("name", "schedule", "rule", "batch"),
    selected(
        [
            (name, *settings)
            for name in NAMES
            for settings in (
                ("synchronous", "proximal", 20),
                ("synchronous", "adam", None),
                ("zero_bubble", "adam", 20),
            )
        ],
        fast=[
            ("tapering on two", "synchronous", "proximal", 20),
            ("tapering on four", "zero_bubble", "adam", 20),
            ("bottleneck on six", "synchronous", "adam", None),
        ],
    ),
)
def test_sweeps_that_wait_are_those_of_the_transcription(name, schedule, rule, batch):
    hidden, stages, shards = SHAPES[name]
    config = sweeps.Config(nu=5.0, rule=RULES[rule], batch=batch, schedule=schedule, block=7)
    params, data = problem(None, hidden=hidden)
    found, info = swept(params, data, config, mesh=pdadmm.make_mesh(stages, shards))
    if shards > 1 and batch:
        order = np.concatenate(
            [np.r_[k : k + 10, k + 24 : k + 34] for k in (0, 10)]
            + [[20, 21, 22, 23, 44, 45, 46, 47]]
        )
        data = pdadmm.Data(data.x[order], data.y[order])
    expected, losses = transcribed(params, data, config, batch=batch)
    assert_close(found, expected)
    assert_close(info.loss, losses[-len(info.loss) :])
    assert bool(info.finite)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("name", "microbatches", "rule"),
    selected(
        [
            (name, *settings)
            for name in NAMES[:-1]
            for settings in ((None, "lion"), (1, "proximal"))
        ],
        fast=[("tapering on two", None, "lion"), ("zigzag on three", 1, "proximal")],
    ),
)
def test_streaming_is_as_late_as_the_stages_are_far(name, microbatches, rule):
    hidden, stages, _ = SHAPES[name]
    config = sweeps.Config(
        nu=5.0, rule=RULES[rule], batch=8, schedule="streaming", microbatches=microbatches
    )
    params, data = problem(None, samples=45, hidden=hidden)
    assert_streamed(params, data, config, pdadmm.make_mesh(stages))


@pytest.mark.x64
@pytest.mark.parametrize("name", selected(NAMES, fast=["zigzag on two, shared"]))
def test_one_batch_late_is_one_batch_late(name):
    hidden, *mesh = SHAPES[name]
    params, data = problem(None, samples=96, hidden=hidden)
    assert_one_batch_late(params, data, RULES["adam"], pdadmm.make_mesh(*mesh))


@pytest.mark.x64
@pytest.mark.parametrize("name", selected(NAMES, fast=["zigzag on two, shared"]))
def test_algorithm_1_on_a_mesh_is_that_of_one_device(name):
    hidden, *mesh = SHAPES[name]
    data, state = admm_problem((7, *hidden, 4), CONFIG, samples=43)
    mesh = mesh_of(*mesh)
    spread = admm.reshard(state, mesh), pdadmm.shard_data(data, mesh)
    assert_same_run((state, data), spread, CONFIG, tolerance=1e-10, run=admm.run)
    assert_same_run((state, data), spread, CONFIG, tolerance=1e-10, iterations=1)
    expected, found = admm.terms(state, data, CONFIG), admm.terms(*spread, CONFIG)
    assert_near(found, expected, 1e-12)
    (expected, drift), (found, own) = (
        admm.refresh(*pair, CONFIG) for pair in ((state, data), spread)
    )
    assert_near(admm.reshard(found, None).layers, expected.layers, 1e-12)
    np.testing.assert_allclose(own, drift, atol=1e-12)


@pytest.mark.x64
@pytest.mark.parametrize("name", selected(NAMES, fast=["bottleneck on six"]))
def test_algorithm_1_grows_and_moves(name):
    hidden, *shape = SHAPES[name]
    data, state = admm_problem((7, *hidden, 4), CONFIG, samples=43)
    mesh = mesh_of(*shape)
    spread, shared = admm.reshard(state, mesh), pdadmm.shard_data(data, mesh)
    assert_near(admm.reshard(spread, None).layers, state.layers, 0)
    grown, expected = (admm.grow(one, CONFIG, 2) for one in (spread, state))
    assert grown.plan.widths == (7, *hidden, *2 * hidden[-1:], 4)
    assert_near(admm.reshard(grown, None).layers, expected.layers, 1e-14)
    start = admm.from_params(pdadmm.params(state), shared, CONFIG, mesh=mesh)
    alone = admm.from_params(pdadmm.params(state), data, CONFIG)
    assert_near(admm.reshard(start, None).layers, alone.layers, 1e-12)


@pytest.mark.slow
@pytest.mark.x64
def test_rounded_messages_come_to_the_same():
    """What is left out of one message is part of the next."""
    hidden, *shape = SHAPES["tapering on four"]
    data, state = admm_problem((7, *hidden, 4), CONFIG, samples=43)
    mesh = mesh_of(*shape)
    shared = pdadmm.shard_data(data, mesh)
    expected, _ = admm.run(state, data, CONFIG, steps=40)
    exact = None
    for message_dtype, tolerance in (("full", 1e-10), ("int8", 0.05)):
        spread = admm.reshard(state, mesh, message_dtype=message_dtype)
        found, _ = admm.run(spread, shared, CONFIG, steps=40)
        found = admm.reshard(found, None)
        assert_near(found.layers, expected.layers, tolerance)
        if exact is not None:
            assert (
                max(
                    np.abs(np.asarray(a) - b).max()
                    for a, b in zip(
                        jax.tree.leaves(found.layers), jax.tree.leaves(exact.layers), strict=True
                    )
                )
                > 1e-6
            )
        exact = found


@pytest.mark.x64
@pytest.mark.parametrize("name", NAMES)
def test_columns_and_rows_are_packed_and_unpacked_without_loss(name):
    hidden, stages, _ = SHAPES[name]
    _, state = admm_problem((7, *hidden, 4), CONFIG, samples=5)
    (variables, _) = admm.state.split(state)
    target = plan((7, *hidden, 4), stages)
    there = unpack_variables(pack_variables(variables, target), target)
    for one, other in zip(jax.tree.leaves(there), jax.tree.leaves(variables), strict=True):
        np.testing.assert_array_equal(one, other)


def test_optimizers_of_optax_follow_and_states_move():
    """Momenta and counters of every layer go with it, from one device to four, to two and back."""
    config = sweeps.Config(rule=optax.adamw(1e-2), batch=16)
    params, data = problem(None, hidden=TAPERING)
    expected, _ = swept(params, data, config, passes=3)
    state = sweeps.from_params(params, data, config)
    for stages in (1, 4, 2):
        mesh = pdadmm.make_mesh(stages)
        state = sweeps.reshard(state, mesh)
        state, info = sweeps.step(state, pdadmm.shard_data(data, mesh), config)
        assert bool(info.finite)
    back = sweeps.reshard(state, None)
    assert_close(pdadmm.params(back), expected, 1e-4)
    assert_close(pdadmm.params(state), pdadmm.params(back), 0)
    assert int(jax.tree.leaves(back.rule_state.first)[0][0]) == 9  # updates


def test_memory_is_that_of_the_stage_with_most():
    config = sweeps.Config(rule="adam", batch=16)
    params, data = problem(None, hidden=(64, 32, 16, 8))
    mesh = pdadmm.make_mesh(2)
    state = sweeps.from_params(params, data, config, mesh=mesh)
    layers = [W.size + b.size for W, b in params]
    most = max(sum(layers[l - 1] for l in held) for held in state.plan.layers)
    for array in jax.tree.leaves((state.weights, state.rule_state)):
        assert array.sharding.shard_shape(array.shape)[0] == 1
    kept = sum(array.shape[1] for array in jax.tree.leaves(state.weights))
    assert most <= kept <= 1.2 * most
    moments = [
        a for a in jax.tree.leaves(state.rule_state) if jnp.issubdtype(a.dtype, jnp.floating)
    ]
    assert sum(array.shape[1] for array in moments) == 2 * kept


def test_what_is_not_finite_is_found_where_it_is():
    config = sweeps.Config()
    params, data = problem(None, hidden=BOTTLENECK)
    mesh = pdadmm.make_mesh(4)

    def broken(W):
        return W.at[0, 0, 0].set(jnp.nan)

    state = sweeps.from_params(params, data, config)
    first, (lower, upper), edge, last = state.weights
    stacks = lower, upper._replace(W=broken(upper.W))
    state = state._replace(weights=type(state.weights)(first, stacks, edge, last))
    assert pdadmm.nonfinite(sweeps.reshard(state, mesh)) == ["W of layer 3"]
    alone = admm.from_params(params, data, admm.Config())
    first, lower, upper, last = alone.layers
    alone = alone._replace(layers=(first, lower, upper._replace(z=broken(upper.z)), last))
    assert pdadmm.nonfinite(admm.reshard(alone, mesh)) == ["z of layer 3"]


def test_the_pipeline_that_jax_differentiates_needs_equal_widths():
    config = sweeps.Config(rule="adam", batch=16)
    params, data = problem(None, hidden=BOTTLENECK)
    mesh = pdadmm.make_mesh(2)
    state = sweeps.from_params(params, data, config, mesh=mesh)
    shared = pdadmm.shard_data(data, mesh)
    refused("GPipe .* hidden widths are 9, 3, 9", gpipe_step, state, shared, config)
