"""The carried a = p W + b, recomputed: linearity saves products, but its roundings add up."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from pdadmm_jax._surroundings import isolated
from pdadmm_jax._typing import Array, Float
from pdadmm_jax.admm.config import Config
from pdadmm_jax.admm.packed import change
from pdadmm_jax.admm.state import (
    AnyState,
    Held,
    Output,
    StageVariables,
    check_match,
    check_state,
    join,
    split,
)
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.groups import Weights
from pdadmm_jax.parallel.mesh import P, on_stages, state_specs
from pdadmm_jax.parallel.stage import Stage, Truth, per_layer, when
from pdadmm_jax.problems.data import Data, as_arrays

Sizes = tuple[Array, Array]  # of n layers: the largest change of a, and the largest a
Renewed = tuple[Output, Sizes]


@isolated
def refresh(state: AnyState, data: Data, config: Config) -> tuple[Any, Float[Array, " layers"]]:
    """Recomputes a = p W + b of all layers: one product each, its inputs not rounded.

    Worth while now and then, at the latest where the state is used: a follows the moves of p, W and
    b by linearity, and what products round away adds up, above all where ``Config``
    rounds their inputs.

    Args:
        state: current variables.
        data: the data the state was made for.
        config: penalties, solvers and structure.

    Returns:
        The state, living where it did, and how far a had drifted in every layer: its largest
        change relative to its largest entry.

    Raises:
        ValueError: data of another shape or dtype than the state's.
    """
    check_state(state, "refresh")
    return _refresh(state, as_arrays(data), config)


@jax.jit
def _refresh(state: AnyState, data: Data, config: Config) -> tuple[Any, Array]:
    check_match(state, data, config)
    held, placement = split(state), state.placement
    specs = None if placement is None else state_specs(placement.mesh, held)
    everywhere = on_stages(_refresh_stage, state.plan, placement, specs, (specs, P()))
    held, drift = everywhere(held, data, config)
    return join(held, state, state.iteration), drift


def _refresh_stage(stage: Stage, held: Held, data: Data, _: Config) -> tuple[Held, Array]:
    """One stage's part."""
    variables, sizes = change(stage, partial(_refresh_variables, data=data), held.variables)
    sizes = stage.collectives.samples.greatest(sizes)
    changes, largest = stage.collectives.sum_over_stages(sizes)
    return held._replace(variables=variables), changes / jnp.where(largest > 0, largest, 1)


def _refresh_variables(
    stage: Stage, variables: StageVariables, data: Data
) -> tuple[StageVariables, Array]:
    """The same variables, and how large the changes of a and a itself are, (2, layers)."""

    def renewed(output: Output, p: Array, weights: Weights) -> Renewed:
        z, a = output
        new = jax.vmap(multiply)(p, weights.W) + weights.b[:, None]
        changes, entries = (jax.vmap(data.keep)(rows) for rows in (new - a, new))
        sizes = jnp.max(jnp.abs(changes), (1, 2)), jnp.max(jnp.abs(entries), (1, 2))
        # Samples that do not count keep z = a, as after every line.
        return Output(jax.vmap(data.keep)(z, new), new), stage.collectives.vary(sizes)

    *stacked, below = variables.boundaries
    none = stage.collectives.vary(2 * (jnp.zeros(1, variables.first.W.dtype),))

    def where(held_here: Truth, p: Array, weights: Weights, old: Renewed) -> Renewed:
        return when(held_here, lambda old: renewed(old[0], p, weights), old)

    edge = where(stage.holds_first, data.x[None], variables.first, (variables.edge_output, none))
    if variables.edge is not None:
        edge = where(stage.holds_edge, below.p, variables.edge, edge)
    last = where(stage.holds_last, below.p, variables.last, (variables.last_output, none))
    stacks = [
        renewed(Output(stack.z, stack.a), boundary.p, Weights(stack.W, stack.b))
        for stack, boundary in zip(variables.stacks, stacked, strict=True)
    ]
    variables = variables._replace(
        edge_output=edge[0],
        stacks=tuple(
            stack._replace(z=output.z, a=output.a)
            for stack, (output, _) in zip(variables.stacks, stacks, strict=True)
        ),
        last_output=last[0],
    )

    changes, largest = (
        per_layer(stage, jnp.concatenate([sizes[k] for _, sizes in (edge, *stacks)]), last[1][k])
        for k in range(2)
    )
    return variables, jnp.stack([changes, largest])
