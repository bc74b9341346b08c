"""What layers pass to their neighbours: f(z) upward, q downward.

The layers of a stage lie on a string: the output side of its head, its stacks, and the input side
of the next stage's head.

    head's z --> stacks' boundaries and z --> (next stage) head's boundary

With a single stage the next one is itself, and the string a closed ring in which the first and the
last layer share the head.  Where a stage bypasses its head, the stacks hang on the stage below.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array
from pdadmm_jax.hyperparameters import Hyperparameters
from pdadmm_jax.stage import Stage, choose
from pdadmm_jax.state import Data, Messages, State
from pdadmm_jax.wire import Wire, decode, encode, exact


def from_below(outputs: Sequence[Array], arrived: Array, stage: Stage) -> list[Array]:
    """For every boundary of the stacks and the head, the array of the layer below it.

    Args:
        outputs: arrays of the layers on the output side: the head's, then each stack's.
        arrived: what the stage before handed up.
        stage: this stage.
    """
    head, *stacks = outputs
    if not stacks:
        return [arrived]
    own = choose(stage.closes, stacks[-1][-1:], jnp.zeros_like(arrived))
    string = [choose(stage.bypass, arrived, head), *stacks]
    shifted = [_join(below[-1:], own[:-1]) for below, own in itertools.pairwise(string)]
    return [*shifted, choose(stage.bypass, own, arrived)]


def from_above(inputs: Sequence[Array], arrived: Array, stage: Stage) -> list[Array]:
    """For every layer on the output side, the head's, then the stacks', the array above it.

    Args:
        inputs: arrays of the boundaries: each stack's, then the head's.
        arrived: what the next stage handed down.
        stage: this stage.
    """
    *stacks, head = inputs
    string = [*stacks, choose(stage.closes, head, arrived)]
    above_head, *_ = string
    shifted = [_join(own[1:], above[:1]) for own, above in itertools.pairwise(string)]
    return [above_head[:1], *shifted]


def outputs_of(state: State, data: Data, hyper: Hyperparameters) -> list[Array]:
    """f(z) of the layers on the output side, the head's, then the stacks'."""
    emit = jax.vmap(lambda z: data.keep(hyper.activation(z)))
    return [emit(layer.z) for layer in state.layers[:-1]]


def first_messages(q_above: Array, wire: Wire) -> Messages:
    """What stages have heard before the first iteration: of f(z), if it is rounded, nothing."""
    agreed = None if exact(wire, q_above.dtype) else jnp.zeros_like(q_above)
    return Messages(q_above, agreed, agreed)


def topmost(outputs: Sequence[Array]) -> Array:
    """Of one array per head and stack, the part of the uppermost layer."""
    return outputs[-1][-1:]


def lowest(inputs: Sequence[Array], stage: Stage) -> Array:
    """Of one array per stack and head, the part of the lowest boundary."""
    *stacks, head = inputs
    return choose(stage.bypass, stacks[0][:1], head) if stacks else head


def hand_up(
    outputs: Sequence[Array], messages: Messages | None, stage: Stage
) -> tuple[Array, Messages | None]:
    """Passes f(z) of the uppermost layer on to the next stage.

    Returns:
        What the stage before passed on, and the messages with what is agreed on now.
    """
    top, mail = topmost(outputs), stage.mail
    if messages is None or messages.f_sent is None or messages.f_below is None:
        return mail.upward(top), messages
    sent, heard = _agreed(top, messages.f_sent, messages.f_below, mail.upward, mail.wire)
    return heard, messages._replace(f_sent=sent, f_below=heard)


def hand_down(
    old: Sequence[Array], new: Sequence[Array], messages: Messages | None, stage: Stage
) -> tuple[Sequence[Array], Messages | None]:
    """Passes q of the lowest boundary on to the stage before, which keeps it for its solves.

    Args:
        old: q of every stack's and the head's boundaries before the update.
        new: the same after it.
        messages: what was heard so far.
        stage: this stage.

    Returns:
        q as it is from now on: where messages are rounded, the one that was passed on becomes
        what the other end has heard.
    """
    mail = stage.mail
    if messages is None:
        return new, None
    if messages.f_sent is None:
        return new, messages._replace(q_above=mail.downward(lowest(new, stage)))
    before, after = lowest(old, stage), lowest(new, stage)
    sent, heard = _agreed(after, before, messages.q_above, mail.downward, mail.wire)
    return _with_lowest(new, sent, stage), messages._replace(q_above=heard)


def heard_from_above(inputs: Sequence[Array], messages: Messages | None, stage: Stage) -> Array:
    """q of the boundary above the uppermost layer; a single stage is its own neighbour."""
    return lowest(inputs, stage) if messages is None else messages.q_above


def _agreed(
    value: Array, sent: Array, heard: Array, pass_on: Callable[[Array], Array], wire: Wire
) -> tuple[Array, Array]:
    """What this end has sent and heard, after passing on the rounded change of a value."""
    message = encode(value - sent, wire)
    width, dtype = value.shape[-1], value.dtype
    own, others = (decode(code, wire, width, dtype) for code in (message, pass_on(message)))
    return sent + own, heard + others


def _with_lowest(inputs: Sequence[Array], value: Array, stage: Stage) -> list[Array]:
    """The same arrays with the lowest boundary's part replaced."""
    *stacks, head = inputs
    if not stacks:
        return [value]
    bottom, *others = stacks
    bottom = bottom.at[:1].set(choose(stage.bypass, value, bottom[:1]))
    return [bottom, *others, choose(stage.bypass, head, value)]


def _join(left: Array, right: Array) -> Array:
    """Concatenation that copies nothing where one side is empty."""
    if not left.shape[0]:
        return right
    return jnp.concatenate([left, right]) if right.shape[0] else left
