"""What layers pass to their neighbours: f(z) upward, q downward.

The layers of a stage lie on a string: the output side of its edge slot, its stacks, and the input
side of the next stage's edge slot.

    edge slot's z --> stacks' boundaries and z --> (next stage) edge slot's boundary

With a single stage the next one is itself, and the string a closed ring in which the first and the
last layer share the edge slot.  Where a stage skips its edge slot, its stacks lie on the stage
below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.admm.config import Config
from pdadmm_jax.admm.grid import Grid
from pdadmm_jax.admm.packed import read
from pdadmm_jax.admm.state import Boundary, Messages, PackedVariables, StageVariables
from pdadmm_jax.parallel.compression import MessageType, decode, encode, lossless
from pdadmm_jax.parallel.packing import fit
from pdadmm_jax.parallel.stage import Stage, choose
from pdadmm_jax.problems.data import Data


class BoundaryInputs(NamedTuple):
    """What lines 5 and 6 need from other layers at the lowest of n stacked boundaries."""

    f: Float[Array, "1 N h"]  # f(z) of the layer below
    q: Float[Array, "1 N h"] | None  # its new q; None where no other stage has to know it already


def from_below(tops: Sequence[Array], received: Array, stage: Stage) -> list[Array]:
    """For the lowest boundary of every stack and of the edge slot, the array of the layer below it.

    Args:
        tops: arrays of the topmost layers on the output side: the edge slot's, then each stack's.
        received: what the previous stage sent up.
        stage: this stage.
    """
    edge, *stacks = tops
    if not stacks:
        return [received]
    own = choose(stage.last_on_stack, stacks[-1], jnp.zeros_like(received))
    lowest_stack = choose(stage.skips_edge, received, edge)
    return [lowest_stack, *stacks[:-1], choose(stage.skips_edge, own, received)]


def from_above(bottoms: Sequence[Array], received: Array, stage: Stage) -> list[Array]:
    """For the topmost layer on the output side, edge slot's, then each stack's, the array above.

    Args:
        bottoms: arrays of the lowest boundaries: each stack's, then the edge slot's.
        received: what the next stage sent down.
        stage: this stage.
    """
    *stacks, edge = bottoms
    return [*stacks, choose(stage.last_on_stack, edge, received)]


def f_of(z: Float[Array, "n N h"], data: Data, config: Config) -> Float[Array, "n N h"]:
    """f(z) of stacked layers, zero for samples that do not count."""
    return jax.vmap(lambda rows: data.keep(config.activation(rows)))(z)


def f_below(
    lowest: Float[Array, "1 N h"], z: Float[Array, "n N _h"], data: Data, config: Config
) -> Float[Array, "n N h"]:
    """f(z) of the layer below each of n stacked layers, given their z and f(z) below the lowest."""
    return concatenate(lowest, f_of(z[:-1], data, config))


def tops_of(variables: StageVariables, data: Data, config: Config) -> list[Array]:
    """f(z) of the topmost layers on the output side, the edge slot's, then each stack's."""
    outputs = [variables.edge_output.z, *(stack.z for stack in variables.stacks)]
    return [f_of(z[-1:], data, config) for z in outputs]


def top_of(
    stage: Stage, variables: StageVariables | PackedVariables, data: Data, config: Config
) -> Array:
    """f(z) of a stage's uppermost layer, as wide as messages are."""

    def top(own: Stage, variables: StageVariables) -> Array:
        return fit(tops_of(variables, data, config)[-1], own.plan.message_width)

    return read(stage, top, variables)


def bottoms_of(boundaries: Sequence[Boundary]) -> list[Array]:
    """q of the lowest boundaries of each stack, then of the edge slot."""
    return [boundary.q[:1] for boundary in boundaries]


def first_messages(q: Array, q_above: Array, message_dtype: MessageType) -> Messages:
    """What stages have received before the first iteration.

    Where messages are rounded, the first one is f(z) - q: both ends know q.

    Args:
        q: of the lowest boundary of each stage.
        q_above: of the boundary above each stage, which is another one's q.
        message_dtype: type of the messages.
    """
    if lossless(message_dtype, q.dtype):
        return Messages(q_above, None, None)
    return Messages(q_above, f_below=q, f_sent=q_above)


def lowest(bottoms: Sequence[Array], stage: Stage) -> Array:
    """Of the lowest boundaries' arrays, each stack's, then the edge slot's, the lowest one's."""
    *stacks, edge = bottoms
    return choose(stage.skips_edge, stacks[0], edge) if stacks else edge


def send_up(
    tops: Sequence[Array], messages: Messages | None, stage: Stage, config: Config
) -> tuple[Array, Messages | None]:
    """Sends f(z) of the uppermost layer to the next stage.

    On a grid, rounded messages bring the multiple of its spacing that is nearest to f(z).

    Returns:
        What the previous stage sent, and the messages with what is agreed on now.
    """
    top, collectives = tops[-1], stage.collectives
    if messages is None or messages.f_sent is None or messages.f_below is None:
        return collectives.shift_up(top), messages
    sent, received = _agreed(
        top,
        (messages.f_sent, messages.f_below),
        collectives.shift_up,
        collectives.message_dtype,
        config.grid,
        bounded=False,
    )
    return received, messages._replace(f_sent=sent, f_below=received)


def send_down(
    old: Sequence[Array], new: Sequence[Array], messages: Messages, stage: Stage, config: Config
) -> tuple[Sequence[Array], Messages]:
    """Sends q of the lowest boundary to the previous stage, which keeps it for its solves.

    Args:
        old: q of each stack's and the edge slot's lowest boundary before the update.
        new: the same after it.
        messages: what was received so far.
        stage: this stage.
        config: what is asked for.

    Returns:
        q as it is from now on: where messages are rounded, the one that was sent becomes what the
        other end has received.
    """
    shift, message_dtype = stage.collectives.shift_down, stage.collectives.message_dtype
    if messages.f_sent is None:
        return new, messages._replace(q_above=shift(lowest(new, stage)))
    before, after = lowest(old, stage), lowest(new, stage)
    ends = before, messages.q_above
    sent, received = _agreed(after, ends, shift, message_dtype, config.grid, bounded=True)
    return _with_lowest(new, sent, stage), messages._replace(q_above=received)


def received_from_above(bottoms: Sequence[Array], messages: Messages | None, stage: Stage) -> Array:
    """q of the boundary above the uppermost layer; a single stage is its own neighbour."""
    return lowest(bottoms, stage) if messages is None else messages.q_above


def _agreed(
    value: Array,
    ends: tuple[Array, Array],
    shift: Callable[[Array], Array],
    message_dtype: MessageType,
    grid: Grid | None,
    *,
    bounded: bool,
) -> tuple[Array, Array]:
    """What this end has sent and received, after sending the rounded change of a value.

    On a grid changes are whole numbers of its spacing, and what was received is a multiple of it.

    Args:
        value: what the other end is to know.
        ends: what this end has sent and received so far.
        shift: the collective that sends it.
        message_dtype: type of the message.
        grid: that of p and q.
        bounded: whether the value has to be a point of the grid.
    """
    sent, received = ends
    scale = None if grid is None else grid.spacing
    message = encode(value - sent, message_dtype, scale)
    width, dtype = value.shape[-1], value.dtype

    def after(before: Array, message: Array) -> Array:
        now = before + decode(message, message_dtype, width, dtype, scale)
        if grid is None:
            return now
        return grid.nearest(now) if bounded else grid.multiple(now)

    return after(sent, message), after(received, shift(message))


def _with_lowest(bottoms: Sequence[Array], value: Array, stage: Stage) -> list[Array]:
    """The same arrays with the lowest boundary's replaced."""
    *stacks, edge = bottoms
    if not stacks:
        return [value]
    bottom, *others = stacks
    bottom, edge = choose(stage.skips_edge, (value, edge), (bottom, value))
    return [bottom, *others, edge]


def concatenate(left: Array, right: Array) -> Array:
    """Concatenation that copies nothing where one side is empty."""
    if not left.shape[0]:
        return right
    return jnp.concatenate([left, right]) if right.shape[0] else left
