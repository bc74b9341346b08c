"""Connections around layers: the transcription's numbers on every mesh, and the gradient's."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pdadmm_jax as pdadmm
from experiments.algorithms.pipelines import gpipe_step
from pdadmm_jax import admm, sweeps
from tests.problems import refused
from tests.selection import selected
from tests.test_sweeps import (
    RULES,
    as_numpy,
    assert_close,
    assert_directions_of_the_gradient,
    batches_in_flight,
    problem,
    swept,
    transcribed,
)

BLOCKS = (1, 2, 3)


def literal(params, x, residual_block):
    """The forward pass, written down."""
    q = np.maximum(x @ params[0][0] + params[0][1], 0)
    for first in range(1, len(params) - 1, residual_block):
        begin = q
        for W, b in params[first : min(first + residual_block, len(params) - 1)]:
            q = np.maximum(q @ W + b, 0)
        q = q + begin
    return q @ params[-1][0] + params[-1][1]


@pytest.mark.x64
@pytest.mark.parametrize("depth", [3, 8, 40])  # one hidden layer in a block, some, and in a loop
@pytest.mark.parametrize("residual_block", BLOCKS)
def test_the_forward_pass_goes_around_blocks(residual_block, depth):
    params, data = problem(depth)
    config = sweeps.Config(residual_block=residual_block)
    found = pdadmm.forward(params, data.x, config)
    expected = literal(as_numpy(params), np.asarray(data.x), residual_block)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    plain = pdadmm.forward(params, data.x, sweeps.Config())
    assert np.abs(plain - found).max() > 1e-3 * np.abs(found).max()


@pytest.mark.x64
@pytest.mark.parametrize(
    ("residual_block", "rule", "depth"),
    selected(
        itertools.product(BLOCKS, ("proximal", "adam"), (5, 8, 40)),
        fast=[(1, "proximal", 8), (3, "adam", 8), (2, "adam", 40)],
    ),
)
def test_sweeps_are_those_of_the_transcription(residual_block, rule, depth):
    config = sweeps.Config(
        nu=500.0, rule=RULES[rule], batch=20, block=7, residual_block=residual_block
    )
    params, data = problem(depth)
    params = [(W / 2, b) for W, b in params]
    found, info = swept(params, data, config)
    expected, losses = transcribed(params, data, config, batch=20, residual_block=residual_block)
    assert_close(found, expected, 1e-8)
    assert_close(info.loss, losses[-len(info.loss) :])


@pytest.mark.x64
@pytest.mark.parametrize(
    ("schedule", "residual_block", "depth", "stages", "shards"),
    selected(
        [
            (schedule, residual_block, *mesh)
            for schedule in ("synchronous", "zero_bubble")
            for residual_block in BLOCKS
            for mesh in ((3, 4, 1), (6, 4, 1), (10, 4, 2), (13, 8, 1))
        ],
        fast=[
            ("synchronous", 1, 6, 4, 1),  # the last layer beside the first
            ("synchronous", 2, 10, 4, 2),  # blocks that two stages share
            ("zero_bubble", 3, 10, 4, 2),
        ],
    ),
)
def test_a_mesh_gives_what_one_device_gives(schedule, residual_block, depth, stages, shards):
    config = sweeps.Config(
        nu=500.0,
        rule=RULES["adam"],
        batch=12,
        block=4,
        schedule=schedule,
        residual_block=residual_block,
    )
    params, data = problem(depth)
    mesh = pdadmm.make_mesh(stages, shards, jax.devices()[: stages * shards])
    found, info = swept(params, data, config, mesh=mesh)
    dealt = np.arange(48).reshape(shards, -1, 12 // shards).swapaxes(0, 1).ravel()
    expected, expected_info = swept(params, pdadmm.Data(data.x[dealt], data.y[dealt]), config)
    assert_close(found, expected)
    assert_close(info, expected_info)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("residual_block", "depth", "stages"),
    selected(itertools.product(BLOCKS, (6, 10), (2, 4)), fast=[(1, 6, 4), (2, 10, 4), (3, 10, 2)]),
)
def test_schedules_that_do_not_wait_are_those_of_the_transcription(residual_block, depth, stages):
    params, data = problem(depth)
    mesh = pdadmm.make_mesh(stages)
    late = sweeps.Config(
        nu=500.0,
        rule=RULES["adam"],
        batch=12,
        schedule="one_batch_late",
        residual_block=residual_block,
    )
    found, _ = swept(params, data, late, mesh=mesh)
    plan = sweeps.from_params(params, data, late, mesh=mesh).plan
    in_flight = batches_in_flight(late, plan)
    expected, _ = transcribed(
        params, data, late, batch=12, late=1, in_flight=in_flight, residual_block=residual_block
    )
    assert_close(found, expected)
    streaming = late.replace(schedule="streaming", microbatches=1)
    found, _ = swept(params, data, streaming, mesh=mesh)
    ticks = [
        next(s for s, held in enumerate(plan.layers) if layer in held) for layer in range(1, depth)
    ]
    ticks.append(plan.reach)
    expected, _ = transcribed(
        params,
        data,
        streaming,
        passes=1,
        cuts=[(k, k + 12) for k in range(0, 48, 12)] * 2,
        ticks=ticks,
        residual_block=residual_block,
    )
    assert_close(found, expected)


@pytest.mark.x64
@pytest.mark.parametrize("residual_block", BLOCKS)
def test_stiff_directions_are_those_of_the_gradient(residual_block):
    assert_directions_of_the_gradient(9, nu=1e7, residual_block=residual_block)


@pytest.mark.x64
def test_back_propagation_in_a_pipeline_goes_around_blocks_too():
    config = sweeps.Config(rule=optax.sgd(0.5), microbatches=8, batch=48, residual_block=2)
    params, data = problem(9)
    mesh = pdadmm.make_mesh(4)
    state = sweeps.from_params(params, data, config, mesh=mesh)
    state, _ = gpipe_step(state, pdadmm.shard_data(data, mesh), config)
    slope = jax.grad(pdadmm.loss)(list(params), data, config)
    expected = jax.tree.map(lambda old, down: old - 0.5 * down, list(params), slope)
    assert_close(as_numpy(pdadmm.params(state)), as_numpy(expected))


def test_what_cannot_be_is_refused():
    _, data = problem(3)
    refused(
        r"residual_block is 1, but widths\[3\] is 8 and widths\[1\] is 6: residual",
        lambda: sweeps.init(
            jax.random.key(0), data, (7, 6, 6, 8, 4), sweeps.Config(residual_block=1)
        ),
    )
    refused("residual_block is -1, but has to be a whole", lambda: sweeps.Config(residual_block=-1))
    refused(
        "residual_block is 1, but Algorithm 1 trains plain chains",
        lambda: admm.Config(residual_block=1),
    )


def test_a_saved_network_keeps_its_connections(tmp_path):
    params, data = problem(6)
    network = pdadmm.Network(params, residual_block=2)
    network.save(tmp_path / "network.npz")
    again = pdadmm.load(tmp_path / "network.npz")
    assert again.residual_block == 2
    np.testing.assert_array_equal(again.forward(data.x), network.forward(data.x))
    assert jnp.abs(again.forward(data.x) - pdadmm.Network(params).forward(data.x)).max() > 0
