"""The carried a = p W + b, computed anew: linearity saves products, but its roundings add up."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.admm.config import Hyperparameters
from pdadmm_jax.admm.state import (
    Data,
    State,
    as_arrays,
    boundaries_of,
    check_match,
    dtype_of,
    plan_of,
)
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.mesh import P, on_stages, specs_of
from pdadmm_jax.parallel.stage import Stage, by_number, when

Sizes = tuple[Array, Array]  # of n layers: the largest change of a, and the largest a


def refresh(
    state: State, data: Data, hyper: Hyperparameters
) -> tuple[State, Float[Array, " layers"]]:
    """Computes a = p W + b of all layers anew: one product each, its inputs not rounded.

    Worth while now and then, at the latest where the state is used: a follows the moves of p, W and
    b by linearity, and what products round away adds up, above all where ``Hyperparameters``
    rounds their inputs.

    Args:
        state: current variables.
        data: the data the state was made for.
        hyper: hyperparameters.

    Returns:
        The state, living where it did, and how far a had drifted in every layer: its largest
        change relative to its largest entry.

    Raises:
        ValueError: data of another shape or dtype than the state's.
    """
    return _refresh(state, as_arrays(data), hyper)


@jax.jit
def _refresh(state: State, data: Data, hyper: Hyperparameters) -> tuple[State, Array]:
    check_match(state, data, hyper)
    specs = specs_of(state, dtype_of(state))
    everywhere = on_stages(_refresh_stage, plan_of(state), state.placement, specs, (specs, P()))
    return everywhere(state, data, hyper)


def _refresh_stage(
    stage: Stage, state: State, data: Data, _: Hyperparameters
) -> tuple[State, Array]:
    """One stage's part."""

    def renewed(z: Array, a: Array, p: Array, W: Array, b: Array) -> tuple[Array, Array, Sizes]:
        new = jax.vmap(multiply)(p, W) + b[:, None]
        changes, entries = (jax.vmap(data.keep)(rows) for rows in (new - a, new))
        sizes = jnp.max(jnp.abs(changes), (1, 2)), jnp.max(jnp.abs(entries), (1, 2))
        # Samples that do not count keep z = a, as after every line.
        return jax.vmap(data.keep)(z, new), new, stage.mail.vary(sizes)

    first, *stacks, last = state.layers
    *stacked, below = boundaries_of(state)
    none = stage.mail.vary(2 * (jnp.zeros(1, first.a.dtype),))
    head = first.z, first.a, none
    x = data.x[None]
    head = when(stage.first, lambda old: renewed(*old[:2], x, first.W, first.b), head)
    if state.link is not None:
        W, b = state.link
        head = when(stage.linked, lambda old: renewed(*old[:2], below.p, W, b), head)
    top = last.z, last.a, none
    top = when(stage.last, lambda old: renewed(*old[:2], below.p, last.W, last.b), top)
    middle = [
        renewed(stack.z, stack.a, boundary.p, stack.W, stack.b)
        for stack, boundary in zip(stacks, stacked, strict=True)
    ]

    found = [head, *middle, top]
    layers = tuple(
        layer._replace(z=z, a=a) for layer, (z, a, _) in zip(state.layers, found, strict=True)
    )
    changes, largest = (
        by_number(stage, jnp.concatenate([sizes[k] for *_, sizes in found[:-1]]), top[2][k])
        for k in range(2)
    )
    sizes = stage.mail.samples.greatest(jnp.stack([changes, largest]))
    changes, largest = stage.mail.stages(sizes)
    return state._replace(layers=layers), changes / jnp.where(largest > 0, largest, 1)
