"""A state of Algorithm 1 on another mesh, or on none."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pdadmm_jax._surroundings import isolated_with_transfers
from pdadmm_jax._typing import Array
from pdadmm_jax.admm.exchange import first_messages
from pdadmm_jax.admm.packed import pack_variables, unpack_variables
from pdadmm_jax.admm.state import (
    AnyState,
    Boundary,
    Held,
    Layer,
    Messages,
    Output,
    PackedVariables,
    ShardedState,
    StageVariables,
    State,
    check_state,
    layers_of,
    split,
    stage_variables,
)
from pdadmm_jax.parallel.compression import MessageType
from pdadmm_jax.parallel.groups import LayerGroups
from pdadmm_jax.parallel.mesh import (
    create_on,
    per_sample,
    put,
    replicate,
    shardings,
    shards,
    stages,
    state_specs,
)
from pdadmm_jax.parallel.packing import fit
from pdadmm_jax.parallel.plan import Plan, plan
from pdadmm_jax.parallel.relayout import (
    exchange_rows,
    nonfinite_rows,
    numbered,
    on_host,
    placement_of,
    relayout_groups,
    select_rows,
    to_host,
)

_VARIABLES = "Wbzapqu"


@isolated_with_transfers
def reshard(state: AnyState, mesh: Mesh | None, *, message_dtype: MessageType = "full") -> AnyState:
    """The same state on another mesh; ``step``, ``run`` and all others then work there.

    Depth need not be a multiple of the stages, see ``parallel.plan``, nor samples one of the data
    shards: rows that do not count fill up the last one, as ``shard_data`` does with the data.  The
    arrays pass through the host's memory; a state too large for that is better made on the mesh,
    by ``init``.  A state that lies as ``abstract`` with ``stages`` says, read from a checkpoint,
    stays on the devices.

    What rounded messages of the former stages had agreed on is forgotten: as at the start of a
    run, the first one brings all of f(z).

    Args:
        state: a state on a single device or on a mesh.
        mesh: devices, with axes ``layer`` and ``data``; see ``make_mesh``.  None for a single
            device.
        message_dtype: type of the messages between stages.  "full" is the state's own; "float32",
            "bfloat16", "int8" and "int4" round what is sent, in such a way that both ends agree
            on the rounded value and the error is made up for later.

    Raises:
        TypeError: another kind of state.
        ValueError: a mesh or message type that cannot be used.
    """
    check_state(state, "reshard")
    if isinstance(state, ShardedState) and _by_samples(state):
        return _laid_out_on_devices(state, mesh, message_dtype)
    local = _on_one_device(state) if isinstance(state, ShardedState) else state
    return local if mesh is None else _put(local, mesh, message_dtype)


def _by_samples(state: ShardedState) -> bool:
    """Whether every device holds all layers, of a share of the samples."""
    plan, mesh = state.placement.plan, state.placement.mesh
    replicated = jax.tree.leaves(state.weights)[0].sharding.is_fully_replicated
    return plan.stages != stages(mesh) or (plan.stages > 1 and replicated)


def _put(state: State, mesh: Mesh, message_dtype: MessageType) -> ShardedState:
    """A state of a single device, on a mesh."""
    samples = state.layers[0].z.shape[1]
    placement = placement_of(state.plan.widths, mesh, message_dtype, samples)
    padding = -samples % shards(placement.mesh)

    def padded(path: Any, rows: Array) -> Array:
        return jnp.pad(rows, [(0, 0), (0, padding), (0, 0)]) if per_sample(path) else rows

    with on_host():
        layers = jax.tree_util.tree_map_with_path(padded, to_host(state.layers))
        held = laid_out(layers, placement.plan, message_dtype)
        whole = ShardedState(*held, to_host(state.iteration), placement)
    return put(whole, shardings(placement.mesh, state_specs(placement.mesh, whole)))


def _on_one_device(state: ShardedState) -> State:
    """A state of a mesh, on a single device; every device holds all of it on the way."""
    samples = state.placement.samples

    def local(path: Any, leaf: Array) -> Array:
        rows = np.asarray(leaf)
        return jnp.asarray(rows[:, :samples] if per_sample(path) else rows)

    return jax.tree_util.tree_map_with_path(local, _replicated(state))


@jax.jit
def _replicated(state: ShardedState) -> State:
    placement = state.placement
    canonical = plan(placement.plan.widths, stages=1)
    variables = relayout(state.variables, placement.plan, canonical)
    return replicate(State(layers_of(variables), state.iteration), placement.mesh)


def _laid_out_on_devices(
    state: ShardedState, mesh: Mesh | None, message_dtype: MessageType
) -> AnyState:
    """A state of which every device has all layers of some samples, on the stages of a mesh."""
    source, samples = state.placement.plan, state.placement.samples
    canonical = plan(source.widths, stages=1)
    target = None
    rows = samples
    if mesh is not None:
        target = placement_of(source.widths, mesh, message_dtype, samples)
        rows += -samples % shards(target.mesh)

    def with_rows(path: Any, leaf: Array) -> Array:
        return leaf[:, :rows] if per_sample(path) else leaf

    def lay_out(state: ShardedState) -> AnyState:
        variables = jax.tree_util.tree_map_with_path(with_rows, state.variables)
        layers = layers_of(relayout(variables, source, canonical))
        if target is None:
            return State(layers, state.iteration)
        held = laid_out(layers, target.plan, message_dtype)
        return ShardedState(*held, state.iteration, target)

    if target is None:
        return jax.device_put(jax.jit(lay_out)(state), jax.devices()[0])
    return create_on(target.mesh, lay_out, state, partial(state_specs, target.mesh))


def laid_out(layers: tuple[Layer, ...], target: Plan, message_dtype: MessageType) -> Held:
    """The layers of a network on the stages of a plan, which have received nothing new."""
    canonical = plan(target.widths, stages=1)
    variables = relayout(stage_variables(layers), canonical, target)
    messages: Messages | None = None
    if target.stages > 1:
        below = [layer.below for layer in layers if layer.below is not None]
        q = jnp.concatenate([fit(one.q, target.message_width) for one in below])
        numbers, wanted = range(2, target.depth + 1), (target.below, target.above)
        q_below, q_above = (select_rows(q, numbers, one) for one in wanted)
        messages = first_messages(q_below, q_above, message_dtype)
    return Held(variables, messages)


def relayout(variables: Any, source: Plan, target: Plan) -> Any:
    """What stages hold, in the arrangement of another plan for the same network."""
    if isinstance(variables, PackedVariables):
        variables, source = unpack_variables(variables, source), plan(source.widths, stages=1)
    if source.stages == target.stages == 1:
        return variables
    if not target.alike:
        return pack_variables(variables, target)
    stack = variables.stacks[0] if variables.stacks else None
    rows = (None, None, None) if stack is None else (stack.z, stack.a, stack.below)
    stack_z, stack_a, stack_below = rows

    outputs = partial(exchange_rows, source.edge_outputs, target.edge_outputs, source, target)
    inputs = partial(exchange_rows, source.edge_inputs, target.edge_inputs, source, target)
    edge_z, z = outputs(variables.edge_output.z, stack_z)
    edge_a, a = outputs(variables.edge_output.a, stack_a)
    pairs = zip(variables.edge_input, stack_below or (None, None, None), strict=True)
    edge_input, below = (Boundary(*rows) for rows in zip(*(inputs(*p) for p in pairs), strict=True))
    last = (select_rows(rows, source.lasts, target.lasts) for rows in variables.last_output)

    weights = relayout_groups(variables.weights, source, target)
    return StageVariables(
        first=weights.first,
        edge=weights.edge,
        edge_output=Output(edge_z, edge_a),
        stacks=tuple(Layer(W, b, z, a, below) for W, b in weights.stacks),
        edge_input=edge_input,
        last=weights.last,
        last_output=Output(*last),
    )


def nonfinite(state: AnyState) -> list[str]:
    """Which variables hold a NaN or an infinity, as "W of layer 3"; layers count from 1."""
    if isinstance(state, ShardedState) and not state.plan.alike:
        state = _on_one_device(state)
    variables, plan = split(state).variables, state.plan
    first, *_, last = weights = variables.weights
    groups = [
        *numbered(LayerGroups(first, variables.stacks, weights.edge, last), plan),
        (variables.edge_output, plan.edge_outputs),
        (variables.edge_input, plan.edge_inputs),
        (variables.last_output, plan.lasts),
    ]
    found = nonfinite_rows(groups, state.placement)
    ordered = sorted(found, key=lambda one: (one[0], _VARIABLES.index(one[1])))
    return [f"{name} of layer {layer}" for layer, name in ordered]
