"""A state that lay on one mesh and goes on living on another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from pdadmm_jax.admm.state import join, split

CONFIG = admm.Config(nu=0.1, rho=0.5)
WIDTHS = (7, 6, 6, 6, 6, 6, 3)
SAMPLES = 13


def mesh_of(stages, shards):
    if stages * shards == 1:
        return None
    return pdadmm.make_mesh(stages, shards, jax.devices()[: stages * shards])


def distinct(mesh, message_dtype="full"):
    """A state of which every number is another, and its data before they went to the mesh."""
    rng = np.random.default_rng(0)
    data = pdadmm.Data(
        jnp.asarray(rng.normal(size=(SAMPLES, WIDTHS[0])), np.float32),
        jnp.asarray(rng.integers(WIDTHS[-1], size=SAMPLES)),
    )
    shapes, _ = admm.abstract(data, WIDTHS, CONFIG)
    state = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)
    state, _ = admm.refresh(state, data, CONFIG)  # a = p W + b, which moving has to keep
    if mesh is not None:
        state = admm.reshard(state, mesh, message_dtype=message_dtype)
    return state, data


def read(state, shapes):
    """What reading stored arrays comes to: any rows beyond the samples, any sharding."""

    def fit(stored, shape):
        rows = np.asarray(stored)
        for axis, (have, want) in enumerate(zip(rows.shape, shape.shape, strict=True)):
            pad = [(0, 0)] * rows.ndim
            pad[axis] = (0, max(want - have, 0))
            rows = np.pad(rows.take(range(min(have, want)), axis), pad)
        return jax.device_put(rows, shape.sharding)

    pairs = zip(*(jax.tree.leaves(split(one)) for one in (state, shapes)), strict=True)
    held = jax.tree.unflatten(jax.tree.structure(split(shapes)), [fit(*pair) for pair in pairs])
    return join(held, shapes, fit(state.iteration, shapes.iteration))


@pytest.mark.parametrize(
    ("old", "new", "message_dtype"),
    [
        ((8, 1), (2, 2), "int8"),
        ((3, 2), (1, 1), "full"),
        ((1, 1), (4, 2), "full"),
        ((1, 4), (1, 3), "full"),
    ],
)
def test_every_variable_moves_to_the_other_mesh(old, new, message_dtype):
    state, data = distinct(mesh_of(*old), message_dtype)
    mesh = mesh_of(*new)
    shapes, _ = admm.abstract(
        data,
        WIDTHS,
        CONFIG,
        mesh=mesh or pdadmm.make_mesh(),
        stages=old[0],
        message_dtype=message_dtype,
    )
    moved = admm.reshard(read(state, shapes), mesh, message_dtype=message_dtype)
    jax.tree.map(
        np.testing.assert_array_equal, admm.reshard(moved, None), admm.reshard(state, None)
    )

    # It is as good as any state of that mesh: same structure, shapes and places.
    own, _ = admm.abstract(data, WIDTHS, CONFIG, mesh=mesh, message_dtype=message_dtype)
    assert jax.tree.structure(own) == jax.tree.structure(moved)
    for have, want in zip(jax.tree.leaves(moved), jax.tree.leaves(own), strict=True):
        assert (have.shape, have.dtype) == (want.shape, want.dtype)
        assert mesh is None or have.sharding.is_equivalent_to(want.sharding, have.ndim)
    there = data if mesh is None else pdadmm.shard_data(data, mesh)
    _, drift = admm.refresh(moved, there, CONFIG)
    assert float(drift.max()) < 1e-5  # rows that are no samples do not count
