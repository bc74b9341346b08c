"""Depth by growth: function-preserving insertion of identity layers (the paper's greedy start)."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdadmm_jax._surroundings import isolated_with_transfers
from pdadmm_jax.admm.config import Config, check_config
from pdadmm_jax.admm.relayout import laid_out, relayout
from pdadmm_jax.admm.state import (
    AnyState,
    Boundary,
    Held,
    Layer,
    ShardedState,
    State,
    check_state,
    layers_of,
)
from pdadmm_jax.parallel.mesh import apply_by_samples
from pdadmm_jax.parallel.plan import plan
from pdadmm_jax.problems.problem import at_precision_of


def check_growable(config: Config) -> None:
    """Refuses activations for which no identity layer preserves the function.

    Raises:
        ValueError: f(f(z)) is not f(z).
    """
    if not config.activation.idempotent:
        raise ValueError(
            f"identity layers would change the function of a network with {config.activation}, for "
            "which f(f(z)) is not f(z): grow a network with relu, or start at full depth."
        )


@isolated_with_transfers
def grow(state: AnyState, config: Config, layers: int) -> AnyState:
    """Inserts identity layers before the output layer.

    A new layer has W = I, b = 0 and passes on the output layer's own input: z = q = p.  The
    function of the network, the output layer, all old variables and their duals stay what they
    are; the old state's arrays are shared, not copied.

    Entries of p outside the activation's range (negative ones, for ReLU; p only approaches f(z) as
    ADMM converges) violate q = f(z) in the new layers, by which the Lagrangian rises.  Their duals
    u = nu (q - f(z)) keep Lemma 4, hence the descent of the certified mode from here on.

    Args:
        state: a trained state.
        config: what it was trained with.
        layers: how many layers to insert, 0 or more.

    Returns:
        The deeper state.  On a mesh its layers are laid out anew, and what rounded messages have
        agreed on is forgotten.

    Raises:
        ValueError: a negative number of layers, or an activation with f(f(z)) != f(z), for which
            no identity layer preserves the function.
    """
    if not isinstance(layers, (int, np.integer)) or layers < 0:
        raise ValueError(f"layers is {layers!r}, but has to be a whole number, 0 or more.")
    check_state(state, "grow")
    check_config(config)
    check_growable(config)
    if layers == 0:
        return state
    if isinstance(state, ShardedState):
        return _grown_on_mesh(state, config, layers)
    return State(_grown(state.layers, config, layers), state.iteration)


@partial(jax.jit, static_argnums=2)
def _grown_on_mesh(state: ShardedState, config: Config, layers: int) -> ShardedState:
    placement = state.placement
    *lower, outputs = placement.plan.widths
    deeper = plan((*lower, *lower[-1:] * layers, outputs), placement.plan.stages)
    canonical = plan(placement.plan.widths, stages=1)

    def grown(variables: Any) -> Held:
        layers_before = layers_of(relayout(variables, placement.plan, canonical))
        layers_after = _grown(layers_before, config, layers)
        return laid_out(layers_after, deeper, placement.message_dtype)

    held = apply_by_samples(grown, state.variables, placement.mesh)
    target = dataclasses.replace(placement, plan=deeper)
    return ShardedState(held.variables, held.messages, state.iteration, target)


def _grown(before: tuple[Layer, ...], config: Config, layers: int) -> tuple[Layer, ...]:
    """``grow`` in the arrangement of a single stage."""
    *lower, output = before
    assert output.below is not None  # there are two layers at least
    p, q, u = (variable[0] for variable in output.below)
    config = at_precision_of(config, p.dtype)
    dual = config.nu * (p - config.activation(p))

    def stack(array: jax.Array) -> jax.Array:
        return jnp.broadcast_to(array, (layers, *array.shape))

    # The old boundary (q, u) below the output layer is now the one below the first new layer.
    inserted = Layer(
        W=stack(jnp.eye(p.shape[-1], dtype=p.dtype)),
        b=stack(jnp.zeros(p.shape[-1], p.dtype)),
        z=stack(p),
        a=stack(p),
        below=Boundary(stack(p), stack(p).at[0].set(q), stack(dual).at[0].set(u)),
    )
    output = output._replace(below=Boundary(p[None], p[None], dual[None]))
    joins = len(lower) > 1 and lower[-1].W.shape[1:] == inserted.W.shape[1:]
    if joins:
        lower[-1] = jax.tree.map(lambda *pair: jnp.concatenate(pair), lower[-1], inserted)
    else:
        lower.append(inserted)
    return (*lower, output)
