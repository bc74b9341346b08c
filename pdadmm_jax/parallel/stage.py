"""What one stage knows: which of the network's layers it holds, and how it reaches the others.

The iteration is written for one stage among several.  A network on a single device is the case of
one stage, whose answers are all known in advance and whose messages come back to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from pdadmm_jax._typing import Array
from pdadmm_jax.numerics.blocks import BLOCK, BLOCK_ELSEWHERE
from pdadmm_jax.parallel.compression import Wire
from pdadmm_jax.parallel.plan import Head, Plan
from pdadmm_jax.parallel.sample_reductions import HERE, Samples

T = TypeVar("T")
Truth = bool | Array  # known when the program is built if all stages agree


class Mail(NamedTuple):
    """How a stage communicates; by default it is alone.

    Attributes:
        upward: hands an array to the next stage, returns what the one before handed over.
        downward: the other way.
        samples: the devices of this stage that hold other samples.
        stages: adds up over the stages.
        vary: declares values that depend on the stage and its samples, which JAX then keeps apart.
        wire: type of the messages.
    """

    upward: Callable[[Any], Any] = lambda message: message
    downward: Callable[[Any], Any] = lambda message: message
    samples: Samples = HERE
    stages: Callable[[Array], Array] = lambda array: array
    vary: Callable[[Any], Any] = lambda tree: tree
    wire: Wire = "full"


class Stage(NamedTuple):
    """One stage of a plan.

    Attributes:
        first: its head holds the first layer.
        linked: its head is a hidden layer.
        emits: its head is either of these and has a z.
        last: its head holds the last layer.
        bypass: its stack hangs on the stage below directly, not on the head.
        closes: the last layer lies on top of its stack.
        outputs: numbers from 0, of the layers whose z it holds: the head's, then the stack's; the
            network's depth stands for none.
        inputs: the same of the layers whose boundary it holds: the stack's, then the head's.
        depth: layers of the network.
        hops: boundaries between the first stage and the last that holds a layer.
        position: how many messages f(z) takes from the first stage to this one.
        reach: how many it takes to the last layer, which in a ring is one more than ``hops``.
        mail: how it communicates.
        block_bytes: of an array that its device works on at a time (``blocks``).
    """

    first: Truth
    linked: Truth
    emits: Truth
    last: Truth
    bypass: Truth
    closes: Truth
    outputs: Array
    inputs: Array
    depth: int
    hops: int
    position: int | Array
    reach: int
    mail: Mail
    block_bytes: int


def stage_of(plan: Plan, index: int | Array, mail: Mail, platform: str) -> Stage:
    """The stage of this index, which may be known only when the program runs."""

    def look_up(values: Sequence[Any]) -> Any:
        return values[0] if len(set(values)) == 1 else jnp.asarray(values)[index]

    def numbers(heads: Sequence[int | None], *, head_first: bool) -> Array:
        rows = [
            [head or plan.depth + 1, *stack] if head_first else [*stack, head or plan.depth + 1]
            for head, stack in zip(heads, plan.stacks, strict=True)
        ]
        return jnp.asarray(rows, jnp.int32)[index] - 1

    heads = plan.heads
    return Stage(
        first=look_up(list(map(bool, plan.firsts))),
        linked=look_up(list(map(bool, plan.links))),
        emits=look_up(list(map(bool, plan.outputs))),
        last=look_up(list(map(bool, plan.lasts))),
        bypass=look_up([plan.stacked > 0 and head in (Head.NONE, Head.LAST) for head in heads]),
        closes=look_up([plan.stacked > 0 and head is Head.LAST for head in heads]),
        outputs=numbers(plan.outputs, head_first=True),
        inputs=numbers(plan.inputs, head_first=False),
        depth=plan.depth,
        hops=plan.active - 1,
        position=index,
        reach=plan.reach,
        mail=mail,
        block_bytes=BLOCK.get(platform, BLOCK_ELSEWHERE),
    )


def choose(condition: Truth, yes: T, no: T) -> T:
    """One of two pytrees of equal shapes."""
    if isinstance(condition, bool):
        return yes if condition else no
    return jax.tree.map(lambda y, n: jnp.where(condition, y, n), yes, no)


def when(condition: Truth, function: Callable[[T], T], operand: T) -> T:
    """function(operand) where the condition holds, and nothing done or changed elsewhere."""
    if isinstance(condition, bool):
        return function(operand) if condition else operand
    return lax.cond(condition, function, lambda unchanged: unchanged, operand)


def gather(numbers: Array, values: Array, length: int) -> Array:
    """A vector with the stage's values at their numbers, zero where other stages have theirs."""
    return jnp.zeros(length, values.dtype).at[numbers].set(values, mode="drop")


def by_number(stage: Stage, lower: Array, output: Array) -> Array:
    """A vector over the network's layers of what one stage knows about its own, zero elsewhere.

    Args:
        stage: the stage.
        lower: a number for its head and for every layer of its stacks.
        output: the number of the last layer, which counts where that layer is.
    """
    last = jnp.zeros(stage.depth, output.dtype).at[-1].set(output[0])
    return gather(stage.outputs, lower, stage.depth) + jnp.where(stage.last, last, 0)


def add_up(stage: Stage, split: Any, shared: Any) -> tuple[Any, Any]:
    """The sums over all stages of what each of them knows, in few messages.

    Args:
        stage: this stage.
        split: pytree of numbers about its own samples.
        shared: pytree of numbers that all devices of a stage have alike.
    """
    numbers, restore = ravel_pytree(split)
    split = restore(stage.mail.stages(stage.mail.samples.total(numbers)))
    numbers, restore = ravel_pytree(shared)
    return split, restore(stage.mail.stages(numbers))
