"""How a run begins: random weights or given ones, and the forward pass they make."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from pdadmm_jax._checks import check_training_inputs, check_widths
from pdadmm_jax._surroundings import isolated_with_transfers
from pdadmm_jax._typing import Array, Params, ParamsLike, PRNGKeyArray
from pdadmm_jax.admm.config import Config, check_config
from pdadmm_jax.admm.exchange import first_messages, from_below, lowest
from pdadmm_jax.admm.packed import made_on
from pdadmm_jax.admm.relayout import laid_out
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
    layers_of,
)
from pdadmm_jax.parallel.compression import MessageType, check_message_type, lossless
from pdadmm_jax.parallel.forward import Climbed, affine, climb
from pdadmm_jax.parallel.groups import LayerGroups, group, only
from pdadmm_jax.parallel.mesh import abstract as abstract_on
from pdadmm_jax.parallel.mesh import (
    abstract_data,
    checked_mesh,
    on_stages,
    sample_specs,
    state_specs,
    weight_specs,
)
from pdadmm_jax.parallel.packing import AnyGroups, Packed, fit, message_widths, on_stage
from pdadmm_jax.parallel.placement import Placement
from pdadmm_jax.parallel.plan import plan
from pdadmm_jax.parallel.relayout import placement_of, put_weights
from pdadmm_jax.parallel.stage import Stage
from pdadmm_jax.problems.data import Data, as_arrays, check_data
from pdadmm_jax.problems.first_weights import (
    InitializerLike,
    as_pairs,
    check_params,
    default_initializer,
    random_params,
    zero_params,
)
from pdadmm_jax.problems.problem import at_precision_of

SMALLEST_OUTPUTS = 1e-6  # of the first forward pass, as a share of its inputs


@isolated_with_transfers
def init(
    key: PRNGKeyArray,
    data: Data,
    widths: Sequence[int],
    config: Config,
    *,
    initializer: InitializerLike = None,
    mesh: Mesh | None = None,
    message_dtype: MessageType = "full",
) -> Any:
    """The state of random weights and the forward pass they make.

    Args:
        key: PRNG key.
        data: training data.
        widths: (features, hidden, ..., outputs), any numbers.
        config: penalties, solvers and structure.
        initializer: see ``random_params``.  By default, where f(z) - f(-z) is linear, half of
            "looks_linear", from which Algorithm 1 learns best; beyond 20 layers a larger share,
            for L halves make outputs 2^-L as large.  Else "orthogonal".
        mesh: where the state is to live, the data having been put there by ``shard_data``; the
            forward pass is done there too, and no device ever holds more than its part.
        message_dtype: type of the messages between the stages of the mesh, see ``reshard``.

    Returns:
        The state, every constraint of the problem holding exactly.

    Raises:
        ValueError: widths, inputs, labels or a mesh that do not fit each other.
    """
    data, widths = as_arrays(data), check_widths(widths)
    check_data(data, widths, config)
    params = _first_params(key, widths, initializer, data.x.dtype, config)
    return _forward_start(params, data, widths, config, mesh, message_dtype)


@isolated_with_transfers
def from_params(
    params: ParamsLike,
    data: Data,
    config: Config,
    *,
    mesh: Mesh | None = None,
    message_dtype: MessageType = "full",
) -> Any:
    """The state of given weights and the forward pass they make, duals zero.

    Args:
        params: (W, b) of every layer, W of shape (n_in, n_out), or what ``pdadmm_jax.params``
            makes such pairs of.
        data: training data.
        config: penalties, solvers and structure.
        mesh: where the state is to live, see ``init``.
        message_dtype: type of the messages between its stages.

    Returns:
        The state, every constraint of the problem holding exactly.

    Raises:
        ValueError: weights, inputs or labels that do not fit each other.
    """
    data, pairs = as_arrays(data), as_pairs(params)
    widths = check_params(pairs, data, config)
    return _forward_start(pairs, data, widths, config, mesh, message_dtype)


@isolated_with_transfers
def abstract(
    data: Data,
    widths: Sequence[int],
    config: Config,
    *,
    mesh: Mesh | None = None,
    stages: int | None = None,
    message_dtype: MessageType = "full",
) -> tuple[Any, Data]:
    """A state and its data as shapes, dtypes and, on a mesh, shardings.

    For ``jax.jit(step).lower(...)``, which compiles for devices and sizes that need not be there,
    and for reading a state from a checkpoint.

    Args:
        data: training data, or ``jax.ShapeDtypeStruct`` in their place.
        widths: (features, hidden, ..., outputs).
        config: penalties, solvers and structure.
        mesh: devices, of any kind that JAX can compile for; None for a single one.
        stages: arrange the layers for so many stages instead of those of the mesh, every device
            having all of them, of a share of the samples: as a state of another mesh can be read
            from a checkpoint, to be given to ``reshard``.
        message_dtype: type of the messages between stages.

    Raises:
        ValueError: widths or inputs that do not fit each other.
    """
    widths = check_widths(widths)
    check_training_inputs(data.x, widths[0])
    if mesh is None:
        return _abstract_start(data, widths, config, None), data
    mesh, samples = checked_mesh(mesh), data.x.shape[0]
    if stages is None:
        placement = placement_of(widths, mesh, message_dtype, samples)
        data = abstract_data(data, mesh)
        state = _abstract_start(data, widths, config, placement)
        return abstract_on(state, mesh, state_specs(mesh, state)), data
    placement = Placement(mesh, plan(widths, stages), samples, message_dtype)
    rows = -(-samples // mesh.size) * mesh.size
    filled = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype), data
    )
    state = _abstract_start(filled, widths, config, placement)
    return abstract_on(state, mesh, sample_specs(mesh, state)), data


def _abstract_start(
    data: Data, widths: Sequence[int], config: Config, placement: Placement | None
) -> AnyState:
    """The shapes of a state with these rows of samples."""

    def start(data: Data) -> AnyState:
        params = zero_params(widths, data.x.dtype)
        state = _forward_start(params, data, tuple(widths), config, None, "full")
        if placement is None:
            return state
        held = laid_out(state.layers, placement.plan, placement.message_dtype)
        return ShardedState(*held, state.iteration, placement)

    return jax.eval_shape(start, data)


def _forward_start(
    params: Params,
    data: Data,
    widths: tuple[int, ...],
    config: Config,
    mesh: Mesh | None,
    message_dtype: MessageType,
) -> Any:
    """State with z = a = p W + b, p = q = f(z of the layer below) and u = 0."""
    check_config(config)
    check_message_type(message_dtype)
    weights, placement = group(params, data.x.dtype), None
    if mesh is not None:
        placement = placement_of(widths, mesh, message_dtype, _samples_on(mesh, data))
        weights = put_weights(weights, placement)
    config = at_precision_of(config, data.x.dtype)
    return _forward_pass(weights, data, config, placement)


def _first_params(
    key: PRNGKeyArray,
    widths: tuple[int, ...],
    initializer: InitializerLike,
    dtype: Any,
    config: Config,
) -> Params:
    """Random weights, by default those that Algorithm 1 learns best from."""
    share = 1.0
    if initializer is None:
        depth = len(widths) - 1
        initializer = default_initializer(depth, config.activation, deep=0)
        if initializer == "looks_linear":
            share = max(0.5, SMALLEST_OUTPUTS ** (1 / depth))
    params = random_params(key, widths, initializer, dtype, activation=config.activation)
    return [(share * W, b) for W, b in params]


def _samples_on(mesh: Mesh, data: Data) -> int:
    """How many samples there are, without those that fill up the last shard.

    Raises:
        ValueError: the data have not been put on this mesh.
    """
    if getattr(data.x.sharding, "mesh", None) != checked_mesh(mesh):
        raise ValueError(
            f"x lives on {data.x.sharding}, but the state is to live on the mesh "
            f"{dict(mesh.shape)}: put the data there first, shard_data(data, mesh)."
        )
    rows = data.x.shape[0]
    if data.valid is None:
        return rows
    return int(jnp.max(jnp.where(data.valid, jnp.arange(1, rows + 1), 0)))


@partial(jax.jit, static_argnums=3)
def _forward_pass(
    weights: AnyGroups, data: Data, config: Config, placement: Placement | None
) -> AnyState:
    """The state that a forward pass makes of weights."""
    iteration = jnp.asarray(0, jnp.int32)
    if placement is None:
        assert isinstance(weights, LayerGroups)  # packed are those of several stages alone
        held = on_stages(_forward, weights.plan, None)(weights, data, config)
        return State(layers_of(held.variables), iteration)
    mesh = placement.mesh
    results = state_specs(mesh, _like(weights, placement, data.x.dtype))
    given = weight_specs(mesh, weights)
    forward = on_stages(_forward, placement.plan, placement, given, results)
    held = forward(weights, data, config)
    return ShardedState(held.variables, held.messages, iteration, placement)


def _like(weights: AnyGroups, placement: Placement, dtype: Any) -> Held:
    """A tree of the structure and the ranks of what stages with these weights hold."""
    rows: Any = jax.ShapeDtypeStruct((1, 1, 1), dtype)
    agreed = None if lossless(placement.message_dtype, dtype) else rows
    plan = placement.plan
    messages = None if plan.stages == 1 else Messages(rows, agreed, agreed)
    if isinstance(weights, Packed):
        upper, layers = ((rows,) * max(map(len, held)) for held in (plan.upper, plan.layers))
        return Held(PackedVariables(weights, upper, upper, upper, layers, layers), messages)
    output, boundary = Output(rows, rows), Boundary(rows, rows, rows)
    stacks = tuple(Layer(stack.W, stack.b, rows, rows, boundary) for stack in weights.stacks)
    first, _, edge, last = weights
    return Held(StageVariables(first, edge, output, stacks, boundary, last, output), messages)


def _forward(stage: Stage, weights: AnyGroups, data: Data, config: Config) -> Held:
    """One stage's part of the forward pass, which takes one shift for every boundary of stages."""
    collectives, width = stage.collectives, stage.plan.message_width

    def top(received: Array) -> Array:
        def climbed(own: Stage, _: None, weights: LayerGroups) -> tuple[None, Array]:
            up = fit(_climbed(own, weights, received, data, config).up, width)
            return None, stage.collectives.vary(up)

        return on_stage(stage, climbed, None, weights)[1]

    def shift(_: Array, received: Array) -> Array:
        return collectives.shift_up(top(received))

    nothing = collectives.vary(jnp.zeros((1, len(data.x), width), data.x.dtype))
    below = lax.fori_loop(0, stage.hops, shift, nothing)
    received = collectives.shift_up(top(below))

    def variables_of(own: Stage, weights: LayerGroups) -> tuple[StageVariables, Array]:
        variables = _variables(own, weights, below, received, data, config)
        return variables, lowest([boundary.q[:1] for boundary in variables.boundaries], own)

    variables, q = made_on(stage, variables_of, weights)
    if not stage.hops:
        return Held(variables, None)
    q_above = collectives.shift_down(q)
    return Held(variables, first_messages(q, q_above, collectives.message_dtype))


def _climbed(
    stage: Stage, weights: LayerGroups, received: Array, data: Data, config: Config
) -> Climbed:
    """The way up a stage, from what the stage below has sent."""
    below = fit(received, message_widths(stage)[0]) if stage.hops else None
    return climb(stage, weights, below, data.x, config.activation, keep=data.keep)


def _variables(
    stage: Stage, weights: LayerGroups, below: Array, received: Array, data: Data, config: Config
) -> StageVariables:
    """What a forward pass leaves in the layers of a stage.

    Args:
        stage: the stage.
        weights: of its layers.
        below: f(z) of the stage below, from which this stage goes up.
        received: the same after that, which in a ring is that of the last stage for the first.
        data: its samples.
        config: penalties, solvers and structure.
    """
    last = only(weights.last)
    climbed = _climbed(stage, weights, below, data, config)
    edge, stacks = climbed.edge.a, climbed.stacks
    top_of_edge = jax.vmap(lambda a: data.keep(config.activation(a)))(edge)
    own = fit(received, message_widths(stage)[0])
    *_, p_edge = from_below([top_of_edge, *[climbed.up] * len(stacks)], own, stage)
    z_last = jnp.zeros((1, len(data.x), last.W.shape[-1]), data.x.dtype)
    if stage.holds_last is not False:
        z_last = affine(p_edge[0], last)[None]
    return StageVariables(
        first=weights.first,
        edge=weights.edge,
        edge_output=Output(edge, edge),
        stacks=tuple(
            Layer(stack.W, stack.b, saved.a, saved.a, _boundary(saved.p))
            for stack, saved in zip(weights.stacks, stacks, strict=True)
        ),
        edge_input=_boundary(p_edge),
        last=weights.last,
        last_output=Output(z_last, z_last),
    )


def _boundary(p: Array | None) -> Boundary:
    assert p is not None
    return Boundary(p, p, jnp.zeros_like(p))
