"""What layers pass to their neighbours: f(z) upward, q downward.

The layers of a stage lie on a string: the output side of its head, its stacks, and the input side
of the next stage's head.

    head's z --> stacks' boundaries and z --> (next stage) head's boundary

With a single stage the next one is itself, and the string a closed ring in which the first and the
last layer share the head.  Where a stage bypasses its head, the stacks hang on the stage below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.admm.config import Hyperparameters
from pdadmm_jax.admm.state import Boundary, Data, Messages, State
from pdadmm_jax.parallel.compression import Wire, decode, encode, exact
from pdadmm_jax.parallel.stage import Stage, choose


class News(NamedTuple):
    """What the lowest of n stacked boundaries learns from other layers."""

    f: Float[Array, "1 N h"]  # f(z) of the layer below
    q: Float[Array, "1 N h"] | None  # its new q; None where no other stage has to know it already


def from_below(tops: Sequence[Array], arrived: Array, stage: Stage) -> list[Array]:
    """For the lowest boundary of every stack and of the head, the array of the layer below it.

    Args:
        tops: arrays of the topmost layers on the output side: the head's, then each stack's.
        arrived: what the stage before handed up.
        stage: this stage.
    """
    head, *stacks = tops
    if not stacks:
        return [arrived]
    own = choose(stage.closes, stacks[-1], jnp.zeros_like(arrived))
    hanging = choose(stage.bypass, arrived, head)
    return [hanging, *stacks[:-1], choose(stage.bypass, own, arrived)]


def from_above(bottoms: Sequence[Array], arrived: Array, stage: Stage) -> list[Array]:
    """For the topmost layer on the output side, the head's, then each stack's, the array above it.

    Args:
        bottoms: arrays of the lowest boundaries: each stack's, then the head's.
        arrived: what the next stage handed down.
        stage: this stage.
    """
    *stacks, head = bottoms
    return [*stacks, choose(stage.closes, head, arrived)]


def f_of(z: Float[Array, "n N h"], data: Data, hyper: Hyperparameters) -> Float[Array, "n N h"]:
    """f(z) of stacked layers, zero for samples that do not count."""
    return jax.vmap(lambda rows: data.keep(hyper.activation(rows)))(z)


def f_below(
    lowest: Float[Array, "1 N h"], z: Float[Array, "n N _h"], data: Data, hyper: Hyperparameters
) -> Float[Array, "n N h"]:
    """f(z) of the layer below each of n stacked layers, given their z and f(z) below the lowest."""
    return join(lowest, f_of(z[:-1], data, hyper))


def tops_of(state: State, data: Data, hyper: Hyperparameters) -> list[Array]:
    """f(z) of the topmost layers on the output side, the head's, then each stack's."""
    return [f_of(layer.z[-1:], data, hyper) for layer in state.layers[:-1]]


def bottoms_of(boundaries: Sequence[Boundary]) -> list[Array]:
    """q of the lowest boundaries of each stack, then of the head."""
    return [boundary.q[:1] for boundary in boundaries]


def first_messages(q_above: Array, wire: Wire) -> Messages:
    """What stages have heard before the first iteration: of f(z), if it is rounded, nothing."""
    agreed = None if exact(wire, q_above.dtype) else jnp.zeros_like(q_above)
    return Messages(q_above, agreed, agreed)


def lowest(bottoms: Sequence[Array], stage: Stage) -> Array:
    """Of the lowest boundaries' arrays, each stack's, then the head's, the lowest one's."""
    *stacks, head = bottoms
    return choose(stage.bypass, stacks[0], head) if stacks else head


def hand_up(
    tops: Sequence[Array], messages: Messages | None, stage: Stage
) -> tuple[Array, Messages | None]:
    """Passes f(z) of the uppermost layer on to the next stage.

    Returns:
        What the stage before passed on, and the messages with what is agreed on now.
    """
    top, mail = tops[-1], stage.mail
    if messages is None or messages.f_sent is None or messages.f_below is None:
        return mail.upward(top), messages
    sent, heard = _agreed(top, messages.f_sent, messages.f_below, mail.upward, mail.wire)
    return heard, messages._replace(f_sent=sent, f_below=heard)


def hand_down(
    old: Sequence[Array], new: Sequence[Array], messages: Messages, stage: Stage
) -> tuple[Sequence[Array], Messages]:
    """Passes q of the lowest boundary on to the stage before, which keeps it for its solves.

    Args:
        old: q of each stack's and the head's lowest boundary before the update.
        new: the same after it.
        messages: what was heard so far.
        stage: this stage.

    Returns:
        q as it is from now on: where messages are rounded, the one that was passed on becomes
        what the other end has heard.
    """
    mail = stage.mail
    if messages.f_sent is None:
        return new, messages._replace(q_above=mail.downward(lowest(new, stage)))
    before, after = lowest(old, stage), lowest(new, stage)
    sent, heard = _agreed(after, before, messages.q_above, mail.downward, mail.wire)
    return _with_lowest(new, sent, stage), messages._replace(q_above=heard)


def heard_from_above(bottoms: Sequence[Array], messages: Messages | None, stage: Stage) -> Array:
    """q of the boundary above the uppermost layer; a single stage is its own neighbour."""
    return lowest(bottoms, stage) if messages is None else messages.q_above


def _agreed(
    value: Array, sent: Array, heard: Array, pass_on: Callable[[Array], Array], wire: Wire
) -> tuple[Array, Array]:
    """What this end has sent and heard, after passing on the rounded change of a value."""
    message = encode(value - sent, wire)
    width, dtype = value.shape[-1], value.dtype
    own, others = (decode(code, wire, width, dtype) for code in (message, pass_on(message)))
    return sent + own, heard + others


def _with_lowest(bottoms: Sequence[Array], value: Array, stage: Stage) -> list[Array]:
    """The same arrays with the lowest boundary's replaced."""
    *stacks, head = bottoms
    if not stacks:
        return [value]
    bottom, *others = stacks
    bottom, head = choose(stage.bypass, (value, head), (bottom, value))
    return [bottom, *others, head]


def join(left: Array, right: Array) -> Array:
    """Concatenation that copies nothing where one side is empty."""
    if not left.shape[0]:
        return right
    return jnp.concatenate([left, right]) if right.shape[0] else left
