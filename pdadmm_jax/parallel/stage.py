"""What one stage knows: which of the network's layers it holds, and how it reaches the others.

The algorithms are written for one stage among several.  A network on a single device is the case of
one stage, whose place in the plan is known when the program is built and whose messages come back
to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from pdadmm_jax._typing import Array
from pdadmm_jax.numerics.blocks import BLOCK, BLOCK_ELSEWHERE
from pdadmm_jax.parallel.compression import MessageType
from pdadmm_jax.parallel.plan import EdgeSlot, Plan
from pdadmm_jax.parallel.sample_reductions import ALL_AT_HAND, SampleReductions

T = TypeVar("T")
Truth = bool | Array  # known when the program is built if all stages agree


class Collectives(NamedTuple):
    """How a stage communicates; by default it is the only one.

    Attributes:
        shift_up: sends an array to the next stage, returns what the previous one sent.
        shift_down: the other way.
        swap: both at once between two stages in a chain, of which one sends up and the other down;
            None for others.
        samples: reductions over the devices of this stage, which hold other samples.
        sum_over_stages: adds up over the stages.
        vary: declares values that depend on the stage and its samples, which JAX tells apart from
            those that all devices have alike.
        vary_by_stage: the same of values that depend on the stage alone.
        message_dtype: type of the messages between stages.
    """

    shift_up: Callable[[Any], Any] = lambda message: message
    shift_down: Callable[[Any], Any] = lambda message: message
    swap: Callable[[Any], Any] | None = None
    samples: SampleReductions = ALL_AT_HAND
    sum_over_stages: Callable[[Array], Array] = lambda array: array
    vary: Callable[[Any], Any] = lambda tree: tree
    vary_by_stage: Callable[[Any], Any] = lambda tree: tree
    message_dtype: MessageType = "full"


class Stage(NamedTuple):
    """One stage of a plan.

    Attributes:
        holds_first: its edge slot holds the network's first layer.
        holds_edge: its edge slot holds a hidden layer.
        edge_has_output: either of these, so that the output side of its edge slot is in use.
        holds_last: it holds the network's last layer.
        skips_edge: its stack lies on the stage below directly, the edge slot being empty or on top.
        last_on_stack: the last layer lies on its stack.
        outputs: numbers from 0, of the layers whose z it holds: the edge slot's, then the stack's;
            the network's depth stands for none.
        inputs: the same of the layers whose boundary it holds: the stack's, then the edge slot's.
        position: how many shifts f(z) takes from the first stage to this one: its index.
        collectives: how it communicates.
        block_bytes: of an array that its device works on at a time (``blocks``).
        plan: which layers the stages hold.
        unequal: where stages hold arrays of different shapes, what each of them knows
            (``packing``); else empty.
    """

    holds_first: Truth
    holds_edge: Truth
    edge_has_output: Truth
    holds_last: Truth
    skips_edge: Truth
    last_on_stack: Truth
    outputs: Array
    inputs: Array
    position: int | Array
    collectives: Collectives
    block_bytes: int
    plan: Plan
    unequal: tuple[Stage, ...]

    @property
    def depth(self) -> int:
        """Layers of the network."""
        return self.plan.depth

    @property
    def hops(self) -> int:
        """Boundaries between the first stage and the last that holds a layer."""
        return self.plan.active - 1

    @property
    def reach(self) -> int:
        """Shifts that f(z) takes to the last layer; in a ring one more than ``hops``."""
        return self.plan.reach

    @property
    def known_index(self) -> int:
        """The stage's index, where it is known when the program is built."""
        assert isinstance(self.position, int)
        return self.position

    def stack_numbers(self, heights: Sequence[int]) -> list[Array]:
        """``outputs`` of the layers of every stack.

        Args:
            heights: how many layers each stack has.
        """
        return jnp.split(self.outputs[1:], np.cumsum(heights)[:-1]) if heights else []


def stage_of(plan: Plan, index: int | Array, collectives: Collectives, platform: str) -> Stage:
    """The stage of this index, which may be known only when the program runs."""
    own_shapes = not isinstance(index, int) and not plan.alike

    def look_up(values: Sequence[Any]) -> Any:
        if isinstance(index, int):
            return values[index]
        return values[0] if len(set(values)) == 1 else jnp.asarray(values)[index]

    def numbers(edges: Sequence[int | None], *, edge_first: bool) -> Array:
        rows = [
            [edge or plan.depth + 1, *stack] if edge_first else [*stack, edge or plan.depth + 1]
            for edge, stack in zip(edges, plan.stacks, strict=True)
        ]
        found = rows[index] if isinstance(index, int) else jnp.asarray(rows)[index]
        return jnp.asarray(found, jnp.int32) - 1

    on_stack = [
        slot if stacked else None
        for slot, stacked in zip(plan.edge_slots, plan.stacked, strict=True)
    ]
    none = jnp.zeros(0, jnp.int32)
    return Stage(
        holds_first=look_up(list(map(bool, plan.firsts))),
        holds_edge=look_up(list(map(bool, plan.edge_hidden))),
        edge_has_output=look_up(list(map(bool, plan.edge_outputs))),
        holds_last=look_up(list(map(bool, plan.lasts))),
        skips_edge=look_up([slot in (EdgeSlot.EMPTY, EdgeSlot.LAST) for slot in on_stack]),
        last_on_stack=look_up([slot is EdgeSlot.LAST for slot in on_stack]),
        outputs=none if own_shapes else numbers(plan.edge_outputs, edge_first=True),
        inputs=none if own_shapes else numbers(plan.edge_inputs, edge_first=False),
        position=index,
        collectives=collectives,
        block_bytes=BLOCK.get(platform, BLOCK_ELSEWHERE),
        plan=plan,
        unequal=tuple(
            stage_of(plan, k, collectives, platform) for k in range(plan.stages * own_shapes)
        ),
    )


def both(one: Truth, other: Truth) -> Truth:
    """Whether two conditions hold; known when the program is built if they are."""
    if isinstance(one, bool):
        return other if one else False
    if isinstance(other, bool):
        return one if other else False
    return one & other


def choose(condition: Truth, yes: T, no: T) -> T:
    """One of two pytrees of equal shapes."""
    if isinstance(condition, bool):
        return yes if condition else no
    return jax.tree.map(lambda y, n: jnp.where(condition, y, n), yes, no)


def when(condition: Truth, function: Callable[[T], T], operand: T) -> T:
    """function(operand) where the condition holds, the operand unchanged elsewhere."""
    if isinstance(condition, bool):
        return function(operand) if condition else operand
    return lax.cond(condition, function, lambda unchanged: unchanged, operand)


def where(stage: Stage, here: Truth, function: Callable[[T], T], otherwise: T) -> T:
    """``when`` for operands that are alike on all stages and results that differ."""
    vary = stage.collectives.vary
    return when(here, lambda old: vary(function(old)), vary(otherwise))


def scatter_by_layer(numbers: Array, values: Array, length: int) -> Array:
    """A vector with the stage's values at their numbers, zero where other stages have theirs."""
    return jnp.zeros(length, values.dtype).at[numbers].set(values, mode="drop")


def per_layer(stage: Stage, lower: Array, last: Array) -> Array:
    """A vector over the network's layers of what one stage knows about its own, zero elsewhere.

    Args:
        stage: the stage.
        lower: a number for its edge slot and for every layer of its stacks.
        last: the number of the last layer, which counts where that layer is.
    """
    at_last = jnp.zeros(stage.depth, last.dtype).at[-1].set(last[0])
    at_lower = scatter_by_layer(stage.outputs, lower, stage.depth)
    return at_lower + jnp.where(stage.holds_last, at_last, 0)


def sum_over_devices(stage: Stage, by_sample: Any, by_stage: Any) -> tuple[Any, Any]:
    """The sums over all devices of what each of them knows, in few messages.

    Args:
        stage: this stage.
        by_sample: pytree of sums over its own samples.
        by_stage: pytree of numbers that all devices of a stage have alike.
    """
    collectives = stage.collectives
    numbers, restore = ravel_pytree(by_sample)
    by_sample = restore(collectives.sum_over_stages(collectives.samples.total(numbers)))
    numbers, restore = ravel_pytree(by_stage)
    return by_sample, restore(collectives.sum_over_stages(numbers))
