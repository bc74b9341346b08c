"""Samples in blocks: the same numbers, in less memory."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from pdadmm_jax.numerics import blocks
from pdadmm_jax.numerics.blocks import in_blocks
from pdadmm_jax.parallel import stage
from tests.problems import problem, shard

CONFIG = admm.Config(W_solver=admm.LayerStep())


def double(rows, notes):
    moved, fixed = rows
    return (2 * moved + fixed, fixed), notes


def extremes(rows, notes):
    moved, fixed = rows
    high, low = notes
    high = jnp.maximum(high, jnp.max(moved - fixed, (1, 2)))
    return rows, (high, jnp.minimum(low, jnp.min(moved, (1, 2))))


@pytest.mark.parametrize("samples", [1, 7, 40, 43])
@pytest.mark.parametrize("height", [1, 3, 10, 40, 1000])
def test_blocks_of_any_size_make_up_the_whole(monkeypatch, samples, height):
    monkeypatch.setattr(blocks, "FEWEST", 1)
    rng = np.random.default_rng(0)
    moved = jnp.asarray(rng.standard_normal((2, samples, 5)), jnp.float32)
    fixed = jnp.asarray(rng.standard_normal((1, samples, 1)), jnp.float32)
    start = (jnp.full(2, -jnp.inf), jnp.full(2, jnp.inf))
    expected, _ = double((moved, fixed), None)
    _, (high, low) = extremes(expected, start)
    block_bytes = height * moved[:, 0].nbytes
    found, notes = in_blocks([double, extremes], (moved, fixed), start, block_bytes)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], fixed)
    np.testing.assert_array_equal(notes, (high, low))


@pytest.mark.parametrize(
    ("block_bytes", "fewest", "height"), [(None, 1, 10), (39, 1, 5), (40, 1, 10), (4, 4, 5)]
)
def test_blocks_are_as_few_as_fit(monkeypatch, block_bytes, fewest, height):
    monkeypatch.setattr(blocks, "FEWEST", fewest)
    seen = set()

    def look(rows, notes):
        seen.add(rows.shape[1])
        return rows, notes

    in_blocks([look], jnp.zeros((1, 10, 1), jnp.float32), (), block_bytes)
    assert seen == {height}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of three samples, for programs that are compiled anew."""
    monkeypatch.setitem(stage.BLOCK, "cpu", 1)
    monkeypatch.setattr(blocks, "FEWEST", 3)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.x64
@pytest.mark.parametrize(
    "shape", [None, *(pytest.param(k, marks=pytest.mark.slow) for k in ((1, 2), (4, 1), (2, 2)))]
)
def test_iterations_in_blocks_are_the_iterations(request, shape):
    data, state = problem((7, *[6] * 4, 4), CONFIG, samples=43)
    expected, expected_info = admm.run(state, data, CONFIG, steps=10)
    request.getfixturevalue("small_blocks")
    if shape is not None:
        mesh = pdadmm.make_mesh(*shape, jax.devices()[: shape[0] * shape[1]])
        state, data = shard(state, data, mesh)
    found, info = admm.run(state, data, CONFIG, steps=10)
    if shape is not None:
        found = admm.reshard(found, None)
    for one, other in zip(
        jax.tree.leaves((found.layers, info)),
        jax.tree.leaves((expected.layers, expected_info)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10 * (1 + np.abs(other).max()))


def test_blocks_keep_the_memory_of_a_step_near_that_of_its_state():
    """16 layers x 500: the state is five arrays per layer, a step adds less than three."""
    data = pdadmm.Data(
        jax.ShapeDtypeStruct((10_000, 784), jnp.float32),
        jax.ShapeDtypeStruct((10_000,), jnp.int32),
    )
    widths = (784, *[500] * 15, 10)
    config = admm.Config()
    start = partial(admm.init, widths=widths, config=config)
    state = jax.eval_shape(lambda key, data: start(key, data), jax.random.key(0), data)
    step = jax.jit(admm.step, donate_argnums=0).lower(state, data, config).compile()
    found = step.memory_analysis()
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert found.alias_size_in_bytes >= held
    # The compiler of the oldest supported version makes it 1.61.
    limit = 1.6 if jax.__version_info__ >= (0, 10) else 1.65
    assert found.argument_size_in_bytes + found.temp_size_in_bytes <= limit * held
