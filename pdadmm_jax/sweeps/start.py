"""How sweeps begin, and their state on another mesh."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from pdadmm_jax._checks import check_training_inputs, check_widths
from pdadmm_jax._surroundings import isolated_with_transfers
from pdadmm_jax._typing import Params, ParamsLike, PRNGKeyArray
from pdadmm_jax.parallel.compression import MessageType, check_message_type
from pdadmm_jax.parallel.groups import group, map_groups, ungroup
from pdadmm_jax.parallel.mesh import abstract as abstract_on
from pdadmm_jax.parallel.mesh import (
    abstract_data,
    checked_mesh,
    create_on,
    in_flight_specs,
    replicated_specs,
    shards,
    weight_specs,
)
from pdadmm_jax.parallel.packing import AnyGroups, Packed, pack, unpack
from pdadmm_jax.parallel.placement import Placement
from pdadmm_jax.parallel.plan import Plan, plan
from pdadmm_jax.parallel.relayout import placement_of, put_weights, relayout_groups
from pdadmm_jax.problems.data import Data, as_arrays, check_data
from pdadmm_jax.problems.first_weights import (
    DEEP,
    InitializerLike,
    as_pairs,
    check_params,
    default_initializer,
    random_params,
    zero_params,
)
from pdadmm_jax.problems.sample_weights import is_squared_error
from pdadmm_jax.sweeps.config import Config, check_config
from pdadmm_jax.sweeps.rules import OptaxRule, RuleState
from pdadmm_jax.sweeps.separable import separable
from pdadmm_jax.sweeps.state import State, check_state
from pdadmm_jax.sweeps.stream import Stream, empty_pipeline, stream_of


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
) -> State:
    """The state of random weights before the first pass.

    Args:
        key: PRNG key.
        data: training data, of which the width and the dtype matter here.
        widths: (features, hidden, ..., outputs), any numbers.
        config: numbers and structure.
        initializer: see ``random_params``.  By default the squared error over all samples begins
            with "looks_linear" in networks of any depth, where the activation allows it.
        mesh: where the state is to live; the data are put there by ``shard_data``.
        message_dtype: type of the messages between stages, see ``admm.reshard``; what is rounded
            here is f(z) and u themselves, for no two messages are about the same samples.

    Raises:
        ValueError: widths, inputs, labels or a mesh that do not fit each other.
    """
    data, widths = as_arrays(data), check_widths(widths)
    check_data(data, widths, config)
    if initializer is None:
        regression = config.batch is None and is_squared_error(config.loss)
        deep = 0 if regression else DEEP
        initializer = default_initializer(len(widths) - 1, config.activation, deep=deep)
    params = random_params(
        key,
        widths,
        initializer,
        data.x.dtype,
        activation=config.activation,
        residual_block=config.residual_block,
    )
    return _start(params, data, widths, config, mesh, message_dtype)


@isolated_with_transfers
def from_params(
    params: ParamsLike,
    data: Data,
    config: Config,
    *,
    mesh: Mesh | None = None,
    message_dtype: MessageType = "full",
) -> State:
    """The state of given weights before the first pass.

    Args:
        params: (W, b) of every layer, W of shape (n_in, n_out), or what ``pdadmm_jax.params``
            makes such pairs of.
        data: training data, of which the width and the dtype matter here.
        config: numbers and structure.
        mesh: where the state is to live, see ``init``.
        message_dtype: type of the messages between its stages.

    Raises:
        ValueError: weights, inputs or labels that do not fit each other.
    """
    data, pairs = as_arrays(data), as_pairs(params)
    widths = check_params(pairs, data, config)
    return _start(pairs, data, widths, config, mesh, message_dtype)


@isolated_with_transfers
def abstract(
    data: Data,
    widths: Sequence[int],
    config: Config,
    *,
    mesh: Mesh | None = None,
    stages: int | None = None,
    message_dtype: MessageType = "full",
) -> tuple[State, Data]:
    """A state and its data as shapes, dtypes and, on a mesh, shardings.

    For ``jax.jit(step).lower(...)``, and for reading a state from a checkpoint.

    Args:
        data: training data, or ``jax.ShapeDtypeStruct`` in their place.
        widths: (features, hidden, ..., outputs).
        config: numbers and structure; its rule says what is kept.
        mesh: devices, of any kind that JAX can compile for; None for a single one.
        stages: arrange the layers for so many stages instead of those of the mesh, with all of
            them on every device: what ``reshard`` takes.
        message_dtype: type of the messages between stages.

    Raises:
        ValueError: widths or inputs that do not fit each other.
    """
    check_config(config)
    widths = check_widths(widths)
    check_training_inputs(data.x, widths[0])
    placement = None
    if mesh is not None:
        mesh = checked_mesh(mesh)
        placement = placement_of(widths, mesh, message_dtype)
        if stages is not None:
            placement = dataclasses.replace(placement, plan=plan(widths, stages))

    def start() -> State:
        weights = group(zero_params(widths, data.x.dtype), data.x.dtype)
        if placement is not None:
            weights = relayout_groups(weights, plan(widths, 1), placement.plan)
        rule_state = _rule_state(weights, config, len(widths) - 1, placement)
        stream = stream_of(config, data, 1 if mesh is None else shards(mesh))
        return _with_empty_pipeline(_state_of(weights, rule_state, stream, placement))

    state = jax.eval_shape(start)
    if mesh is None:
        return state, data
    specs = replicated_specs(state) if stages is not None else _specs(mesh, state)
    return abstract_on(state, mesh, specs), abstract_data(data, mesh)


@isolated_with_transfers
def reshard(state: State, mesh: Mesh | None, *, message_dtype: MessageType = "full") -> State:
    """The same state on another mesh.

    Args:
        state: on a single device or on a mesh; also one as ``abstract`` with ``stages`` says.
        mesh: where it is to live; None for a single device.
        message_dtype: type of the messages between the stages of the mesh.

    Raises:
        TypeError: another kind of state.
        ValueError: a mesh or message type that cannot be used, or an optimizer that couples
            layers, on several stages.
    """
    check_state(state, "reshard")
    source = state.plan
    target = None if mesh is None else placement_of(source.widths, mesh, message_dtype)
    arrangement = plan(source.widths, 1) if target is None else target.plan
    coupled = not isinstance(state.rule_state, AnyGroups)
    if coupled and arrangement.stages > 1:
        raise ValueError(_coupled_message(arrangement))

    def lay_out(state: State) -> State:
        weights = relayout_groups(state.weights, source, arrangement)
        rule_state = state.rule_state
        if not coupled:
            rule_state = relayout_groups(rule_state, source, arrangement)
        moved = State(weights, rule_state, state.iteration, state.stream, None, target)
        return _with_empty_pipeline(moved)

    if target is None:
        return jax.device_put(jax.jit(lay_out)(state), jax.devices()[0])
    if set(state.iteration.devices()) != set(target.mesh.devices.flat):
        state = jax.device_get(state)
    return create_on(target.mesh, lay_out, state, partial(_specs, target.mesh))


def restarted_if_needed(state: State, data: Data, config: Config) -> State:
    """The same state, its pipeline empty if batches are to stream otherwise than so far."""
    stream = stream_of(config, data)
    if stream == state.stream:
        return state
    return _with_empty_pipeline(state._replace(stream=stream))


def _start(
    params: Params,
    data: Data,
    widths: tuple[int, ...],
    config: Config,
    mesh: Mesh | None,
    message_dtype: MessageType,
) -> State:
    check_config(config)
    check_message_type(message_dtype)
    weights = group(params, data.x.dtype)
    depth = len(widths) - 1
    stream = stream_of(config, data, 1 if mesh is None else shards(mesh))
    placement = None if mesh is None else placement_of(widths, mesh, message_dtype)
    first = _first(depth, stream, placement)
    if placement is None:
        return jax.jit(first)((weights, config))
    given = put_weights(weights, placement), config
    return create_on(placement.mesh, first, given, partial(_specs, placement.mesh))


@lru_cache(maxsize=64)
def _first(
    depth: int, stream: Stream, placement: Placement | None
) -> Callable[[tuple[AnyGroups, Config]], State]:
    """Makes the first state of weights and a configuration; kept, so as to compile once."""

    def first(given: tuple[AnyGroups, Config]) -> State:
        weights, config = given
        rule_state = _rule_state(weights, config, depth, placement)
        return _with_empty_pipeline(_state_of(weights, rule_state, stream, placement))

    return first


def _state_of(
    weights: AnyGroups, rule_state: RuleState, stream: Stream, placement: Placement | None
) -> State:
    return State(weights, rule_state, jnp.asarray(0, jnp.int32), stream, None, placement)


def _with_empty_pipeline(state: State) -> State:
    count = 1 if state.placement is None else shards(state.placement.mesh)
    return state._replace(in_flight=empty_pipeline(state.stream, state.weights, state.plan, count))


def _specs(mesh: Mesh, state: State) -> State:
    """How a state is split."""
    specs = weight_specs(mesh, state._replace(in_flight=None))
    return specs._replace(in_flight=in_flight_specs(mesh, state.in_flight))


def _rule_state(
    weights: AnyGroups, config: Config, depth: int, placement: Placement | None
) -> AnyGroups | RuleState:
    """What the rule keeps before the first batch, for every group of layers.

    Raises:
        ValueError: an Optax optimizer that couples layers, on several stages.
    """
    rule = config.rule
    if isinstance(weights, Packed):
        rule_state: Any = _rule_state(unpack(weights), config, depth, placement)
        return pack(rule_state, weights.layout.plan)
    if isinstance(rule, OptaxRule) and not separable(rule.optimizer, depth):
        arrangement = weights.plan if placement is None else placement.plan
        if arrangement.stages > 1:
            raise ValueError(_coupled_message(arrangement))
        return rule.optimizer.init(ungroup(weights))
    return map_groups(jax.vmap(rule.init), weights)


def _coupled_message(arrangement: Plan) -> str:
    return (
        "the optimizer does not move every layer as it would alone (a norm over the whole network, "
        f"say, or a mask that names layers), but the layers lie on {arrangement.stages} stages, "
        "none of which sees the others' gradients: use one stage, or an optimizer whose layers are "
        "independent, such as optax.adamw or optax.contrib.muon."
    )
