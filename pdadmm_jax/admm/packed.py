"""Variables of Algorithm 1 on stages whose layers differ in shape (``parallel.packing``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array
from pdadmm_jax.admm.state import Boundary, Layer, Output, PackedVariables, StageVariables
from pdadmm_jax.parallel.groups import LayerGroups, join_stacks
from pdadmm_jax.parallel.packing import (
    AnyGroups,
    Packed,
    Rows,
    fit,
    heights_of,
    message_widths,
    on_stage,
    pack,
    padded,
    unpack,
    unpadded,
    widest,
)
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.parallel.stage import Stage

# Metrics that all devices of a stage have alike: the term of the weights, intercepts not finite.
_BY_STAGE = "weight", "nonfinite"


def change(
    stage: Stage,
    function: Callable[[Stage, StageVariables], tuple[StageVariables, Any]],
    variables: Any,
) -> tuple[Any, Any]:
    """Calls a function that returns new variables of a stage, and results alike on all stages."""
    if not stage.unequal:
        return function(stage, variables)

    def branch(own: Stage, packed: PackedVariables) -> tuple[PackedVariables, Any]:
        new, results = function(own, opened(own, packed))
        return closed(own, new), _varying(own, results)

    return on_stage(stage, branch, variables)


def read(stage: Stage, function: Callable[[Stage, StageVariables], Any], variables: Any) -> Any:
    """Calls a function of a stage's variables whose results are alike on all stages."""
    if not stage.unequal:
        return function(stage, variables)

    def branch(own: Stage, _: None, packed: PackedVariables) -> tuple[None, Any]:
        return None, _varying(own, function(own, opened(own, packed)))

    return on_stage(stage, branch, None, variables)[1]


def made_on(
    stage: Stage,
    function: Callable[[Stage, Any], tuple[StageVariables, Array]],
    weights: AnyGroups,
) -> tuple[StageVariables | PackedVariables, Array]:
    """Calls a function that makes a stage's variables of its weights, and a message."""
    if not stage.unequal:
        return function(stage, weights)

    def branch(own: Stage, _: None, weights: LayerGroups) -> tuple[None, Any]:
        variables, message = function(own, weights)
        columns = closed(own, variables)._replace(weights=None)
        return None, _varying(own, (columns, fit(message, stage.plan.message_width)))

    columns, message = on_stage(stage, branch, None, weights)[1]
    return columns._replace(weights=weights), message


def _varying(stage: Stage, results: Any) -> Any:
    """Results declared to vary alike on all stages."""
    collectives = stage.collectives

    def declared(path: Any, array: Array) -> Array:
        by_stage = getattr(path[-1], "name", None) in _BY_STAGE if path else False
        return collectives.vary_by_stage(array) if by_stage else collectives.vary(array)

    return jax.tree_util.tree_map_with_path(declared, results)


def opened(stage: Stage, packed: PackedVariables) -> StageVariables:
    """The variables of a stage, padding left out; zeros for what it does not hold.

    Args:
        stage: one whose index is known.
        packed: its variables, the weights ``packing.opened`` already.
    """
    plan, weights = stage.plan, packed.weights
    assert isinstance(weights, LayerGroups)
    like = packed.z[0]

    def zeros(width: int) -> Array:
        return jnp.zeros((*like.shape[:-1], width), like.dtype)

    boundaries, outputs = _sides(packed, plan, stage.known_index)
    edge_output = outputs.pop(0) if stage.holds_first else Output(*2 * [zeros(plan.widths[1])])
    last_output = outputs.pop() if stage.holds_last else Output(*2 * [zeros(plan.widths[-1])])
    edge_input = boundaries.pop() if stage.holds_last else None
    if edge_input is None:
        edge_input = Boundary(*3 * [zeros(message_widths(stage)[0])])
    return StageVariables(
        first=weights.first,
        edge=None,
        edge_output=edge_output,
        stacks=tuple(
            Layer(W, b, z, a, below)
            for (W, b), (z, a), below in zip(weights.stacks, outputs, boundaries, strict=True)
        ),
        edge_input=edge_input,
        last=weights.last,
        last_output=last_output,
    )


def closed(stage: Stage, variables: StageVariables) -> PackedVariables:
    """``opened``, reversed."""
    layers = [*variables.stacks]
    if stage.holds_first:
        layers.insert(0, variables.first_layer)
    if stage.holds_last:
        layers.append(variables.last_layer)
    return _packed(variables.weights, layers, variables.edge_output.z, stage.plan)


def _packed(weights: Any, layers: Sequence[Layer], like: Array, plan: Plan) -> PackedVariables:
    """The variables of a stage's layers; ``like`` has as many rows."""

    def rows(name: str, sides: Sequence[Any], widths: Sequence[int]) -> Rows:
        return padded([getattr(side, name) for side in sides], widths, like)

    inputs, outputs = widest(plan.upper, plan.n_in), widest(plan.layers, plan.n_out)
    below = [layer.below for layer in layers if layer.below is not None]
    p, q, u = (rows(name, below, inputs) for name in "pqu")
    z, a = (rows(name, layers, outputs) for name in "za")
    return PackedVariables(weights, p, q, u, z, a)


def _sides(packed: PackedVariables, plan: Plan, stage: int) -> tuple[list[Boundary], list[Output]]:
    """The input sides of a stage's layers but the network's first, and all output sides."""
    upper, layers = plan.upper[stage], plan.layers[stage]
    p, q, u = (unpadded(rows, upper, plan.n_in) for rows in (packed.p, packed.q, packed.u))
    z, a = (unpadded(rows, layers, plan.n_out) for rows in (packed.z, packed.a))
    return list(map(Boundary, p, q, u)), list(map(Output, z, a))


def pack_variables(variables: StageVariables, target: Plan) -> PackedVariables:
    """The variables of a single stage, packed for the stages of a plan."""
    first, stacks, last = variables.first_layer, variables.stacks, variables.last_layer
    hidden = [
        jax.tree.map(lambda rows, k=k: rows[k : k + 1], stack)
        for stack in stacks
        for k in range(stack.W.shape[0])
    ]
    layers = [first, *hidden, last]
    stages = [
        _packed(None, [layers[number - 1] for number in held], first.z, target)
        for held in target.layers
    ]
    packed = jax.tree.map(lambda *rows: jnp.concatenate(rows), *stages)
    return packed._replace(weights=pack(variables.weights, target))


def unpack_variables(packed: PackedVariables, source: Plan) -> StageVariables:
    """``pack_variables``, reversed."""
    assert isinstance(packed.weights, Packed)
    boundaries, outputs = [], []
    for stage in range(source.stages):
        own = packed._replace(weights=None)
        own = jax.tree.map(lambda rows, stage=stage: rows[stage : stage + 1], own)
        below, above = _sides(own, source, stage)
        boundaries += below
        outputs += above
    hidden = list(map(_Sides, outputs[1:-1], boundaries[:-1]))
    sides = join_stacks(LayerGroups(None, tuple(hidden), None, None), heights_of(source))
    first, stacks, _, last = unpack(packed.weights)
    return StageVariables(
        first=first,
        edge=None,
        edge_output=outputs[0],
        stacks=tuple(
            Layer(W, b, z, a, below)
            for (W, b), ((z, a), below) in zip(stacks, sides.stacks, strict=True)
        ),
        edge_input=boundaries[-1],
        last=last,
        last_output=outputs[-1],
    )


class _Sides(NamedTuple):
    """Both sides of hidden layers."""

    output: Output
    below: Boundary
