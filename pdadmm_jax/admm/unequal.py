"""Lines 5 and 6 of Algorithm 1 on stages whose layers differ in shape (``parallel.packing``).

Collectives stay outside of the stages' branches, so that a boundary's update comes in pieces.
"""

from __future__ import annotations

from typing import NamedTuple

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.admm import stacked
from pdadmm_jax.admm.config import Config
from pdadmm_jax.admm.exchange import (
    BoundaryInputs,
    bottoms_of,
    from_below,
    lowest,
    send_down,
    send_up,
    top_of,
    tops_of,
)
from pdadmm_jax.admm.packed import read
from pdadmm_jax.admm.state import Held, Messages, PackedVariables, StageVariables
from pdadmm_jax.parallel.packing import fit, message_widths
from pdadmm_jax.parallel.stage import Stage
from pdadmm_jax.problems.data import Data


class Received(NamedTuple):
    """What the neighbours have sent for lines 5 and 6, as wide as messages are.

    Attributes:
        f: f(z) of the layer below the stage.
        q: the new q of the stage's lowest boundary, as the stage below has it.
    """

    f: Float[Array, "1 N h"]
    q: Float[Array, "1 N h"]


def exchange(stage: Stage, held: Held, data: Data, config: Config) -> tuple[Messages, Received]:
    """A stage's messages to the others, and theirs."""
    variables, messages = held
    assert isinstance(variables, PackedVariables)
    assert messages is not None
    width = messages.q_above.shape[-1]
    top = top_of(stage, variables, data, config)
    received, messages = send_up([top], messages, stage, config)
    assert messages is not None

    def lowest_q(own: Stage, variables: StageVariables) -> tuple[Array, Array]:
        boundaries = variables.boundaries
        f = _from_below(own, variables, received, data, config)
        k = _lowest(own)
        new = stacked.lowest_q(boundaries[k], f[k], config, own.block_bytes)
        return fit(lowest(bottoms_of(boundaries), own), width), fit(new, width)

    old, new = read(stage, lowest_q, variables)
    (q,), messages = send_down([old], [new], messages, stage, config)
    return messages, Received(received, q)


# What lines 5 and 6 need: of the stacks and of the edge slot, or as the neighbours have sent it.
Inputs = list[BoundaryInputs] | Received


def inputs_of(
    stage: Stage, variables: StageVariables, received: Inputs, data: Data, config: Config
) -> list[BoundaryInputs]:
    """The boundary inputs of a stage's stacks and of its edge slot."""
    if not isinstance(received, Received):
        return received
    f = _from_below(stage, variables, received.f, data, config)
    inputs = [BoundaryInputs(one, None) for one in f]
    k = _lowest(stage)
    inputs[k] = inputs[k]._replace(q=fit(received.q, f[k].shape[-1]))
    return inputs


def cut(stage: Stage, messages: Messages | None) -> Messages | None:
    """Messages as wide as the layers of a stage that they are for."""
    if messages is None:
        return None
    return messages._replace(q_above=fit(messages.q_above, message_widths(stage)[1]))


def _from_below(
    stage: Stage, variables: StageVariables, received: Array, data: Data, config: Config
) -> list[Array]:
    below = fit(received, message_widths(stage)[0])
    return from_below(tops_of(variables, data, config), below, stage)


def _lowest(stage: Stage) -> int:
    """Which of the stacks' boundaries and the edge slot's is the lowest of the stage."""
    return 0 if stage.skips_edge else -1
