"""The variables of Algorithm 1, in the two arrangements in which they are kept.

``State`` holds them layer by layer, on a single device.  ``ShardedState`` holds them as the stages
of a mesh do.  An iteration works on what one stage holds, ``StageVariables``: those of a sharded
state, or a state whose only stage is the device (``split``, ``join``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from pdadmm_jax import _checks
from pdadmm_jax._typing import Array, Float, Int
from pdadmm_jax.admm.config import Config, check_config
from pdadmm_jax.parallel.compression import keeps_multiples
from pdadmm_jax.parallel.groups import LayerGroups, Weights
from pdadmm_jax.parallel.packing import AnyGroups, Rows
from pdadmm_jax.parallel.placement import Placement
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.problems.data import Data, check_targets


class Output(NamedTuple):
    """The output side of n layers."""

    z: Float[Array, "n N n_out"]  # pre-activation variable
    a: Float[Array, "n N n_out"]  # p W + b, carried


class Boundary(NamedTuple):
    """The input side of n layers: the constraint p = q to the layer below each.

    The layer holds it all, so that neighbours exchange nothing but f(z) upward and q downward.
    """

    p: Float[Array, "n N n_in"]  # input of the layer
    q: Float[Array, "n N n_in"]  # activation variable of the layer below
    u: Float[Array, "n N n_in"]  # dual variable of p = q


class Layer(NamedTuple):
    """Variables of n consecutive layers of one shape n_in -> n_out, stacked along the first axis.

    The updates themselves see one layer, without that axis.
    """

    W: Float[Array, "n n_in n_out"]
    b: Float[Array, "n n_out"]
    z: Float[Array, "n N n_out"]
    a: Float[Array, "n N n_out"]  # p W + b, carried
    below: Boundary | None  # None for the first layer, whose input is the data


class State(NamedTuple):
    """All variables of a network on a single device, from input to output.

    Attributes:
        layers: the first layer, the hidden ones, the last layer.  Consecutive hidden layers of one
            shape share a stack; the first and the last layer have a stack of one each.
        iteration: how many iterations were done.
    """

    layers: tuple[Layer, ...]
    iteration: Int[Array, ""]

    @property
    def weights(self) -> LayerGroups:
        """W and b of all layers."""
        first, *stacks, last = (Weights(layer.W, layer.b) for layer in self.layers)
        return LayerGroups(first, tuple(stacks), None, last)

    @property
    def plan(self) -> Plan:
        """The plan of a single stage."""
        return self.weights.plan

    @property
    def placement(self) -> Placement | None:
        """None: the state lives on no mesh."""
        return None


class StageVariables(NamedTuple):
    """What one stage holds of the variables; see ``parallel.plan`` for its edge slot.

    In a ``ShardedState`` every array has the stages' rows one after the other in its first axis.
    What a stage has no use for is zero.

    Attributes:
        first: weights of the network's first layer.
        edge: weights of the hidden layer in the edge slot; None where the plan has none.
        edge_output: output side of the edge slot, the first layer's or the hidden layer's.
        stacks: hidden layers.
        edge_input: input side of the edge slot, the hidden layer's or the last layer's.
        last: weights of the network's last layer.
        last_output: output side of the network's last layer.
    """

    first: Weights
    edge: Weights | None
    edge_output: Output
    stacks: tuple[Layer, ...]
    edge_input: Boundary
    last: Weights
    last_output: Output

    @property
    def weights(self) -> LayerGroups:
        """W and b of all layers."""
        stacks = tuple(Weights(stack.W, stack.b) for stack in self.stacks)
        return LayerGroups(self.first, stacks, self.edge, self.last)

    @property
    def boundaries(self) -> list[Boundary]:
        """The boundaries of the stacks, from below, then that of the edge slot."""
        return [*(stack.below for stack in self.stacks if stack.below), self.edge_input]

    @property
    def first_layer(self) -> Layer:
        """The network's first layer, where the edge slot holds it."""
        return Layer(*self.first, *self.edge_output, None)

    @property
    def edge_layer(self) -> Layer:
        """The hidden layer in the edge slot, where there is one."""
        assert self.edge is not None
        return Layer(*self.edge, *self.edge_output, self.edge_input)

    @property
    def last_layer(self) -> Layer:
        """The network's last layer, where the edge slot holds its input side."""
        return Layer(*self.last, *self.last_output, self.edge_input)


class PackedVariables(NamedTuple):
    """What stages of unequal layers hold, padded (``parallel.packing``).

    In a ``ShardedState`` every array has one row for each stage in its first axis.

    Attributes:
        weights: W and b of all layers.
        p, q, u: input sides of all layers but the first.
        z, a: output sides of all layers.
    """

    weights: AnyGroups | None  # None while they are elsewhere
    p: Rows  # (stages, N, _) each
    q: Rows
    u: Rows
    z: Rows
    a: Rows


class Messages(NamedTuple):
    """What each of n stages has received from its neighbours."""

    q_above: Float[Array, "n N h"]  # q of the boundary above its topmost layer
    # Where messages are rounded, the values both ends have agreed on:
    f_below: Float[Array, "n N h"] | None  # f(z) of the layer below, as received
    f_sent: Float[Array, "n N h"] | None  # f(z) of its own topmost layer, as sent


class ShardedState(NamedTuple):
    """All variables of a network on a mesh.

    Attributes:
        variables: what the stages hold.
        messages: what they have received from each other; None if there is only one.
        iteration: how many iterations were done.
        placement: where they live.
    """

    variables: Any  # StageVariables; PackedVariables where stages are unequal
    messages: Messages | None
    iteration: Int[Array, ""]
    placement: Placement

    @property
    def weights(self) -> Any:
        """W and b of all layers: ``LayerGroups``, or ``Packed`` where stages are unequal."""
        return self.variables.weights

    @property
    def plan(self) -> Plan:
        """Which stage holds which layers."""
        return self.placement.plan


AnyState = State | ShardedState


class Held(NamedTuple):
    """What one stage holds: its variables, and what it has received; messages None if alone."""

    variables: Any  # StageVariables; PackedVariables where stages are unequal
    messages: Messages | None


def split(state: AnyState) -> Held:
    """What the stages of a state hold; the single device is one stage."""
    if isinstance(state, ShardedState):
        return Held(state.variables, state.messages)
    return Held(stage_variables(state.layers), None)


def join(held: Held, like: AnyState, iteration: Int[Array, ""]) -> Any:
    """The state whose stages hold these variables, of the same kind as another."""
    if isinstance(like, ShardedState):
        return ShardedState(held.variables, held.messages, iteration, like.placement)
    return State(layers_of(held.variables), iteration)


def stage_variables(layers: tuple[Layer, ...]) -> StageVariables:
    """The layers of a network as its only stage holds them."""
    first, *stacks, last = layers
    assert last.below is not None  # there are two layers at least
    return StageVariables(
        first=Weights(first.W, first.b),
        edge=None,
        edge_output=Output(first.z, first.a),
        stacks=tuple(stacks),
        edge_input=last.below,
        last=Weights(last.W, last.b),
        last_output=Output(last.z, last.a),
    )


def layers_of(variables: StageVariables) -> tuple[Layer, ...]:
    """The layers of a network whose only stage holds these variables."""
    return (variables.first_layer, *variables.stacks, variables.last_layer)


def dtype_of(state: AnyState) -> Any:
    """The floating dtype of all variables."""
    return jax.tree.leaves(state.weights)[0].dtype


def check_state(state: Any, function: str) -> None:
    """Refuses what is not a state of Algorithm 1, or one batched by ``jax.vmap``."""
    _checks.check_state(state, (State, ShardedState), "admm", "sweeps", function)


def check_match(state: AnyState, data: Data, config: Config) -> None:
    """Refuses data of other samples, width or dtype than the state was made for, or other y."""
    check_config(config)
    message_dtype = "full" if state.placement is None else state.placement.message_dtype
    variables, dtype = split(state).variables, dtype_of(state)
    if config.grid is not None and not keeps_multiples(message_dtype, dtype):
        raise ValueError(
            f"message_dtype is {message_dtype!r}, which would take q off {config.grid}: use "
            "'int8' or 'int4', which send codes of its points, or 'full'."
        )
    z = variables.z[0] if isinstance(variables, PackedVariables) else variables.edge_output.z
    expected = (z.shape[1], state.plan.widths[0])
    if data.x.shape != expected:
        mesh = "" if state.placement is None else " (on a mesh, what shard_data made of them)"
        raise ValueError(
            f"x has shape {data.x.shape}, but the state was made for {expected}: the auxiliary "
            f"variables belong to their samples; use the same data{mesh}, or init for these."
        )
    if data.x.dtype != dtype:
        raise ValueError(f"x has dtype {data.x.dtype}, but the state {dtype}: cast one of them.")
    check_targets(data, state.plan.widths[-1], config)
