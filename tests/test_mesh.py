"""On a mesh as on one device: the same numbers, the messages that must be, and no others."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import pdadmm_jax as pdadmm
from experiments.benchmark.compiled_program import (
    independent_products,
    memory_of,
    messages,
    products,
)
from pdadmm_jax import admm
from pdadmm_jax.problems import activations
from tests.problems import problem, shard
from tests.selection import selected

# One step size per layer for W: steps per neuron follow rounding (see the last test of equality).
CONFIG = admm.Config(mu=0.01, W_solver=admm.LayerStep())
MESHES = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 4), (2, 2), (4, 2))
DEPTHS = (2, 5, 10, 13)
EVERYTHING = [(depth, *mesh) for mesh in MESHES for depth in DEPTHS]
# Depth, stages, shards: chains and rings, with stacks and without, with layers in no, some and all
# edge slots, with idle stages; samples shared or not.  All others are slow tests.
CASES = ((2, 4, 1), (5, 4, 1), (5, 8, 1), (5, 1, 4), (10, 2, 2), (13, 8, 1), (13, 4, 2))


def network(depth, width=6):
    return (7, *[width] * (depth - 1), 4)


def mesh_of(stages, shards=1):
    return pdadmm.make_mesh(stages, shards, jax.devices()[: stages * shards])


def pair(depth, stages, shards, config=CONFIG, samples=43, message_dtype="full"):
    """A problem on one device and on a mesh; 43 samples divide by nothing."""
    data, state = problem(network(depth), config, samples)
    return (state, data), shard(state, data, mesh_of(stages, shards), message_dtype)


def distance(some, others):
    """Largest difference of any entry, relative to 1 + the largest entry of its array."""
    worst = 0.0
    for one, other in zip(jax.tree.leaves(some), jax.tree.leaves(others), strict=True):
        one, other = (np.asarray(leaf).astype(np.float64) for leaf in (one, other))
        worst = max(worst, np.abs(one - other).max() / (1 + np.abs(other).max()))
    return worst


def assert_close(some, others, tolerance):
    assert distance(some, others) <= tolerance


def stepped(state, data, config, *, steps):
    for _ in range(steps):
        state, info = admm.step(state, data, config)
    return state, info


def assert_same_run(alone, spread, config, tolerance, iterations=20, run=stepped):
    expected, expected_info = run(*alone, config, steps=iterations)
    found, info = run(*spread, config, steps=iterations)
    assert_close(admm.reshard(found, None).layers, expected.layers, tolerance)
    assert_close(info, expected_info, tolerance)


@pytest.mark.x64
@pytest.mark.parametrize(("depth", "stages", "shards"), selected(EVERYTHING, CASES))
def test_a_mesh_gives_what_one_device_gives(depth, stages, shards):
    assert_same_run(*pair(depth, stages, shards), CONFIG, tolerance=1e-10)


@pytest.mark.parametrize(("stages", "shards"), selected([(4, 1), (1, 4), (4, 2)], fast=[(4, 2)]))
def test_in_single_precision_rounding_alone_differs(stages, shards):
    """Twenty iterations amplify what sums in another order round differently."""
    assert_same_run(*pair(5, stages, shards), CONFIG, tolerance=1e-4)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("depth", "stages", "shards"), selected([(5, 4, 2), (3, 1, 4)], fast=[(5, 4, 2)])
)
def test_runs_are_steps_one_after_the_other(depth, stages, shards):
    alone, spread = pair(depth, stages, shards)
    assert_same_run(alone, spread, CONFIG, tolerance=1e-10, iterations=3, run=admm.run)
    expected, last = stepped(*spread, CONFIG, steps=3)
    found, history = admm.run(*spread, CONFIG, steps=3)
    assert_close(found.variables, expected.variables, 1e-13)
    assert_close(jax.tree.map(lambda rows: rows[-1], history), last, 1e-13)


@pytest.mark.x64
@pytest.mark.parametrize("solver", selected(["search", "layer", "exact"], fast=["exact"]))
def test_every_solver_knows_of_all_samples(solver):
    config = CONFIG.replace(p_solver=solver, W_solver=solver)
    assert_same_run(*pair(5, 2, 2, config), config, tolerance=1e-10)


@pytest.mark.slow
@pytest.mark.x64
def test_steps_per_neuron_differ_by_what_they_make_of_rounding():
    """They are the one solver that amplifies it, here by five orders in twenty iterations."""
    config = admm.Config()
    (state, data), spread = pair(5, 2, 2, config)
    last_bit = jax.tree.map(lambda leaf: jnp.nextafter(leaf, jnp.inf), state.layers)
    expected, _ = stepped(state, data, config, steps=20)
    nudged, _ = stepped(state._replace(layers=last_bit), data, config, steps=20)
    found, _ = stepped(*spread, config, steps=20)
    noise = distance(nudged.layers, expected.layers)
    assert distance(admm.reshard(found, None).layers, expected.layers) <= 100 * noise


@pytest.mark.x64
@pytest.mark.parametrize(
    "name", selected(["softmax_cross_entropy", "multiclass_hinge", "own"], fast=["own"])
)
def test_iterative_solves_run_per_device(name):
    def squares(z, y):
        return jnp.sum((z - jax.nn.one_hot(y, z.shape[0], dtype=z.dtype)) ** 2)

    loss = pdadmm.ConvexLoss(squares) if name == "own" else name
    config = CONFIG.replace(activation=activations.tanh, loss=loss)
    assert_same_run(*pair(3, 2, 2, config), config, tolerance=1e-8)


@pytest.mark.x64
@pytest.mark.parametrize(("depth", "stages", "shards"), CASES)
def test_there_and_back_changes_nothing(depth, stages, shards):
    (state, _), (spread, _) = pair(depth, stages, shards)
    assert_close(admm.reshard(spread, None).layers, state.layers, 0)
    assert_close(pdadmm.params(spread), pdadmm.params(state), 0)
    assert spread.plan.widths == state.plan.widths


@pytest.mark.x64
@pytest.mark.parametrize(("depth", "stages", "shards"), CASES)
def test_a_start_on_the_mesh_is_the_start_brought_there(depth, stages, shards):
    (_, data), (_, spread) = pair(depth, stages, shards)
    start = partial(admm.init, jax.random.key(3), widths=network(depth), config=CONFIG)
    there, _ = shard(start(data=data), data, mesh_of(stages, shards))
    made = start(data=spread, mesh=mesh_of(stages, shards))
    assert jax.tree.structure(made) == jax.tree.structure(there)
    assert_close(made, there, 1e-13)
    for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(there), strict=True):
        assert one.sharding == other.sharding


@pytest.mark.x64
@pytest.mark.parametrize(("stages", "shards"), selected([(4, 1), (1, 4), (4, 2)], fast=[(4, 2)]))
def test_networks_grow_on_the_mesh(stages, shards):
    (state, data), (spread, spread_data) = pair(5, stages, shards)
    state, _ = stepped(state, data, CONFIG, steps=3)
    spread, _ = stepped(spread, spread_data, CONFIG, steps=3)
    state, spread = admm.grow(state, CONFIG, 4), admm.grow(spread, CONFIG, 4)
    assert_close(admm.reshard(spread, None).layers, state.layers, 1e-12)
    assert_same_run((state, data), (spread, spread_data), CONFIG, 1e-10, iterations=3)


@pytest.mark.x64
@pytest.mark.parametrize(("stages", "shards"), [(8, 1), (4, 2)])
def test_measures_are_those_of_one_device(stages, shards):
    (state, data), (spread, spread_data) = pair(5, stages, shards)
    assert_close(admm.terms(spread, spread_data, CONFIG), admm.terms(state, data, CONFIG), 1e-14)
    measured = pdadmm.evaluate(pdadmm.params(spread), spread_data, CONFIG)
    assert_close(measured, pdadmm.evaluate(pdadmm.params(state), data, CONFIG), 1e-14)


@pytest.mark.parametrize(("stages", "shards"), [(1, 1), (4, 1), (2, 2)])
def test_broken_values_are_named(stages, shards):
    (state, _), _ = pair(5, 1, 1)
    first, inner, last = state.layers
    inner = inner._replace(z=inner.z.at[1, 0, 0].set(jnp.nan), W=inner.W.at[2, 0, 0].set(jnp.inf))
    last = last._replace(below=last.below._replace(q=last.below.q.at[0, 3, 3].set(jnp.nan)))
    data = pdadmm.Data(jnp.zeros((43, 7)), jnp.zeros(43, jnp.int32))
    broken = state._replace(layers=(first, inner, last))
    spread, _ = shard(broken, data, mesh_of(stages, shards))
    expected = ["z of layer 3", "W of layer 4", "q of layer 5"]
    assert pdadmm.nonfinite(broken) == pdadmm.nonfinite(spread) == expected


@pytest.mark.x64
@pytest.mark.parametrize("solver", selected(["layer", "exact"], fast=["exact"]))
def test_samples_that_do_not_count_take_part_in_nothing(solver):
    """On one device: rows that are not valid are as if they were not there."""
    data, _ = problem(network(4), CONFIG, samples=30)
    padding = [(0, 5)]
    padded = pdadmm.Data(
        jnp.pad(data.x, [*padding, (0, 0)]), jnp.pad(data.y, padding), jnp.arange(35) < 30
    )
    start = partial(admm.init, jax.random.key(0), widths=network(4), config=CONFIG)
    config = CONFIG.replace(p_solver=solver, W_solver=solver)
    expected, expected_info = stepped(start(data=data), data, config, steps=8)
    found, info = stepped(start(data=padded), padded, config, steps=8)
    assert_close(pdadmm.params(found), pdadmm.params(expected), 1e-12)
    assert_close(info, expected_info, 1e-12)
    assert_close(
        pdadmm.evaluate(pdadmm.params(found), padded, config),
        pdadmm.evaluate(pdadmm.params(expected), data, config),
        1e-12,
    )


# What the compiled program does.


def compiled(
    depth, stages, shards, message_dtype="full", *, function=admm.step, width=64, samples=40
):
    data, state = problem(network(depth, width), CONFIG, samples)
    spread = shard(state, data, mesh_of(stages, shards), message_dtype)
    text = jax.jit(lambda *given: function(*given, CONFIG)).lower(*spread).compile().as_text()
    return text, spread[0].placement.plan


@pytest.mark.parametrize(
    ("depth", "stages", "message_dtype", "dtype", "row"),
    selected(
        [
            (2, 2, "full", "f32", 4 * 64),
            (13, 8, "float32", "f32", 4 * 64),
            (5, 4, "bfloat16", "u16", 2 * 64),
            (10, 4, "int8", "s8", 64 + 4),
            (5, 4, "int4", "s8", 32 + 4),
        ],
        fast=[(2, 2, "full", "f32", 4 * 64), (10, 4, "int8", "s8", 64 + 4)],
    ),
)
def test_two_messages_cross_each_boundary_and_nothing_else(
    depth, stages, message_dtype, dtype, row
):
    found = messages(compiled(depth, stages, 1, message_dtype)[0])
    crossing = [message for message in found if message.kind == "collective-permute"]
    assert [(one.dtype, one.bytes) for one in crossing] == [(dtype, 40 * row)] * 2  # up and down
    others = [message for message in found if message not in crossing]
    assert {message.kind for message in others} == {"all-reduce"}  # for info
    assert sum(message.bytes for message in others) <= 4 * (10 + 5 * depth)


@pytest.mark.slow
def test_int8_needs_a_quarter_of_the_bytes():
    def crossing(message_dtype):
        text, _ = compiled(5, 4, 1, message_dtype, width=100)
        return sum(one.bytes for one in messages(text) if one.kind == "collective-permute")

    assert crossing("full") >= 3.5 * crossing("int8")
    assert crossing("full") >= 7 * crossing("int4")


def test_only_weight_statistics_cross_the_data_axis():
    found = messages(compiled(5, 2, 2)[0])
    assert {message.kind for message in found} == {"collective-permute", "all-reduce"}
    largest = 64 * 64 * 4  # p^T r of a layer; the stack holds one
    assert max(one.bytes for one in found if one.kind == "all-reduce") == largest
    assert all(one.bytes == 20 * 64 * 4 for one in found if one.kind == "collective-permute")


def test_within_a_run_nothing_but_the_messages_leaves_a_stage():
    found = messages(compiled(10, 4, 1, function=partial(admm.run, steps=7))[0])
    assert [one.kind for one in found if one.in_loop] == ["collective-permute"] * 2


@pytest.mark.parametrize(
    ("depth", "stages", "downward"),
    selected([(10, 4, 3), (13, 4, 3), (8, 8, 3)], fast=[(13, 4, 3)]),
)
def test_each_message_can_travel_behind_products(depth, stages, downward):
    """f(z) behind r W^T, q behind g W, p^T r and p G; those of edge slots count as one each."""
    text, _ = compiled(depth, stages, 1, function=partial(admm.run, steps=7))
    behind = independent_products(text)
    assert behind[0] >= 1
    assert behind[1] >= downward


@pytest.mark.parametrize(
    ("depth", "stages"),
    selected([(5, 4), (10, 4), (10, 8), (13, 4), (5, 8)], fast=[(13, 4), (5, 8)]),
)
def test_the_program_multiplies_what_the_plan_says(depth, stages):
    text, plan = compiled(depth, stages, 1)
    found = products(text)
    # Products of 40 samples each, two of the first layer and four of the others, and for line 3
    # one of a single row.
    first, hidden, last = (2 * 40 + 1) * 7 * 64, (4 * 40 + 1) * 64 * 64, (4 * 40 + 1) * 64 * 4
    assert found.always == plan.stacked[0] * hidden
    edges = [first, *[hidden] * any(plan.edge_hidden), last]
    assert sorted(filter(None, found.branches)) == sorted(edges)
    unsharded = products(compiled(depth, 1, 1)[0])
    assert unsharded.branches == []
    assert unsharded.always == first + (depth - 2) * hidden + last


def memory(stages, depth=16, width=1000, samples=60_000):
    """Bytes of a compiled step on one device, nothing being run."""
    widths = (784, *[width] * (depth - 1), 10)
    shape = jax.ShapeDtypeStruct
    data = pdadmm.Data(shape((samples, 784), jnp.float32), shape((samples,), jnp.int32))
    state, data = admm.abstract(data, widths, CONFIG, mesh=mesh_of(stages))
    step = jax.jit(admm.step, donate_argnums=0)
    return memory_of(step.lower(state, data, CONFIG).compile()).peak


@pytest.mark.slow
def test_memory_falls_with_the_stages():
    alone, message = memory(1), 4 * 60_000 * 1000
    for stages in (4, 8, 16):
        share = alone / stages
        # Where a stage has one layer or two, the messages on their way weigh more than a fifth.
        assert memory(stages) <= max(1.2 * share, 1.05 * share + 2 * message)


# What users do.


def test_a_second_call_compiles_nothing(compilations):
    _, (state, data) = pair(5, 4, 2, samples=29)  # as nowhere else, so that the first call compiles
    state, _ = admm.step(state, data, CONFIG)
    before = compilations()
    assert before
    admm.step(state, data, CONFIG)
    assert compilations() == before


def test_a_state_on_a_mesh_can_be_donated():
    _, (state, data) = pair(5, 4, 2)
    step = jax.jit(admm.step, donate_argnums=0)
    found = step.lower(state, data, CONFIG).compile().memory_analysis()
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state.variables))
    assert found.alias_size_in_bytes >= held


@pytest.mark.slow
def test_any_mesh_with_the_axes_will_do():
    data, state = problem(network(5), CONFIG, samples=20)
    devices = jax.devices()[:4]
    explicit = (AxisType.Explicit,) * 2
    layers_last = jax.make_mesh((2, 2), ("data", "layer"), devices=devices, axis_types=explicit)
    only_layers = jax.make_mesh((4,), ("layer",), devices=devices, axis_types=explicit[:1])
    for mesh in (layers_last, only_layers):
        assert_same_run((state, data), shard(state, data, mesh), CONFIG, 1e-4, iterations=3)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda s, d: pdadmm.make_mesh(9, 2), r"9 stages x 2 data shards takes 18 .* there are 16"),
        (lambda s, d: pdadmm.make_mesh(0, 2), "0 stages"),
        (
            lambda s, d: shard(s, d, jax.make_mesh((4, 4), ("layer", "model"))),
            r"'model': 4.*only 'layer' and 'data'",
        ),
        (lambda s, d: shard(s, d, mesh_of(2), "int9"), "'int9'.*did you mean 'int4'|int8"),
        (
            lambda s, d: admm.init(jax.random.key(0), d, network(5), CONFIG, mesh=mesh_of(2)),
            r"shard_data\(data, mesh\)",
        ),
        (
            lambda s, d: admm.step(shard(s, d, mesh_of(1, 4))[0], d, CONFIG),
            r"x has shape \(42, 7\), but the state was made for \(44, 7\).*shard_data",
        ),
    ],
)
def test_what_cannot_work_says_why(act, message):
    data, state = problem(network(5), CONFIG, samples=42)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        act(state, data)


def test_all_layers_move_in_the_same_iteration():
    """Signals pass one boundary per iteration: layers do not wait for each other."""
    _, (spread, spread_data) = pair(8, 4, 1)
    moved, _ = admm.step(spread, spread_data, CONFIG)
    before, after = pdadmm.params(spread), pdadmm.params(moved)
    for (W, _), (new, _) in itertools.islice(zip(before, after, strict=True), 1, None):
        assert not np.array_equal(W, new)
