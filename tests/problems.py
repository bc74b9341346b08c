"""Small random problems, and translation between the library's State and the oracle's lists."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from tests import reference


def problem(widths, config, samples=40, seed=0, dtype=None):
    """A random classification problem and a state that violates every constraint."""
    rng = np.random.default_rng(seed)
    dtype = dtype or jnp.zeros(()).dtype
    x = jnp.asarray(rng.uniform(size=(samples, widths[0])), dtype)
    y = jnp.asarray(rng.integers(0, widths[-1], samples), jnp.int32)
    data = pdadmm.Data(x, y)
    # One program, where init would compile dozens.
    start = jax.jit(
        lambda key, data: admm.init(key, data, widths, config, initializer="orthogonal")
    )
    return data, perturb(start(jax.random.key(seed), data), seed)


def perturb(state, seed=0, scale=0.3):
    """Noise on every auxiliary variable; a stays p W + b and u stays zero."""
    rng = np.random.default_rng(seed)

    def noisy(array):
        noise = np.asarray(scale * rng.standard_normal(array.shape), array.dtype)
        return jnp.asarray(np.asarray(array) + noise)

    layers = []
    for stack in state.layers:
        below, a = stack.below, stack.a
        if below is not None:
            below = below._replace(p=noisy(below.p), q=noisy(below.q))
            a = jnp.asarray(
                np.asarray(below.p) @ np.asarray(stack.W) + np.asarray(stack.b)[:, None]
            )
        layers.append(stack._replace(z=noisy(stack.z), a=a, below=below))
    return state._replace(layers=tuple(layers))


def to_variables(state, data):
    """The state as the oracle's lists of float64 arrays."""

    def rows(name, holders):
        return [np.asarray(row, np.float64) for h in holders for row in getattr(h, name)]

    boundaries = [stack.below for stack in state.layers if stack.below is not None]
    return reference.Variables(
        p=[np.asarray(data.x, np.float64), *rows("p", boundaries)],
        W=rows("W", state.layers),
        b=rows("b", state.layers),
        z=rows("z", state.layers),
        q=rows("q", boundaries),
        u=rows("u", boundaries),
    )


def worst_difference(state, data, v):
    """Largest entry-wise difference between a state and the oracle, relative to 1 + |value|."""
    mine = to_variables(state, data)
    worst = 0.0
    for field in dataclasses.fields(v):
        for ours, theirs in zip(getattr(mine, field.name), getattr(v, field.name), strict=True):
            worst = max(worst, float(np.max(np.abs(ours - theirs) / (1 + np.abs(theirs)))))
    return worst


def refused(match, call, *args, **kwargs):
    """One line of ValueError or TypeError; the suite's type checks, which users lack, are off."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises((TypeError, ValueError), match=match) as caught:
            call(*args, **kwargs)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    assert "\n" not in str(caught.value)


def shard(state, data, mesh, message_dtype="full"):
    """A state and its data on a mesh."""
    return admm.reshard(state, mesh, message_dtype=message_dtype), pdadmm.shard_data(data, mesh)
