"""Back-propagation on a mesh: the gradients are those of the whole network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pdadmm_jax as pdadmm
from experiments.algorithms.pipelines import differentiated, gpipe_step
from pdadmm_jax import sweeps
from tests.selection import selected

WIDTHS = (7, *[6] * 9, 4)
SCHEDULES = ("gpipe", "synchronous", "1f1b", "zero_bubble")


def problem(samples):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(-1, 1, size=(samples, 7)))
    data = pdadmm.Data(x, jnp.asarray(rng.integers(0, 4, samples), jnp.int32))
    init = jax.nn.initializers.orthogonal(1.5)
    params = pdadmm.random_params(jax.random.key(0), WIDTHS, init, x.dtype)
    return [(W, b + 0.1) for W, b in params], data


def moved(params, data, config, mesh, step):
    """Where one step of gradient descent per batch of 12 leads, as float64."""
    state = sweeps.from_params(params, data, config, mesh=mesh)
    state, info = step(state, pdadmm.shard_data(data, mesh), config)
    assert bool(info.finite)
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(pdadmm.params(state))]


@pytest.mark.x64
@pytest.mark.parametrize(
    ("schedule", "activation", "stages", "shards"),
    selected(
        [
            (schedule, activation, *mesh)
            for schedule in SCHEDULES
            for activation in ("relu", "tanh")
            for mesh in ((2, 1), (4, 1), (3, 2), (1, 4))
            if mesh[0] > 1 or schedule == "synchronous"
        ],
        fast=[
            ("gpipe", "relu", 4, 1),
            ("1f1b", "tanh", 4, 1),
            ("zero_bubble", "relu", 3, 2),
            ("synchronous", "relu", 1, 4),
        ],
    ),
)
@pytest.mark.parametrize("samples", selected([48, 42], fast=[48]))
def test_gradients_are_those_of_jax(schedule, activation, stages, shards, samples):
    """42 samples leave half a batch."""
    if samples % shards:
        pytest.skip("other samples would be in a batch")
    rate, (params, data) = 0.5, problem(samples)
    config = sweeps.Config(
        rule=optax.sgd(rate),
        batch=12,
        microbatches=2 * stages,
        activation=activation,
        schedule=schedule if schedule == "zero_bubble" else "synchronous",
        block=2 if schedule == "1f1b" else 1024,
    )
    mesh = pdadmm.make_mesh(stages, shards)
    if schedule == "gpipe":
        found = moved(params, data, config, mesh, gpipe_step)
    else:
        found = moved(params, data, differentiated(config), mesh, sweeps.step)

    dealt = np.arange(samples).reshape(shards, -1)
    for begin in range(0, samples // shards, 12 // shards):
        rows = dealt[:, begin : begin + 12 // shards].ravel()
        gradient = jax.grad(pdadmm.loss)(params, pdadmm.Data(data.x[rows], data.y[rows]), config)
        params = jax.tree.map(lambda old, slope: old - rate * slope, params, gradient)
    for one, other in zip(found, jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
