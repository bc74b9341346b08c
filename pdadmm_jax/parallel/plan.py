"""Which stage of the mesh holds which layers: arithmetic alone, no arrays.

Stages hold consecutive layers.  Where the hidden layers are equally wide, all stages run the same
program on arrays of the same shapes:

* a *stack* of hidden layers, equally many everywhere, solved together by vmap;
* an *edge slot*, room for one more layer below the stack, which differs from stage to stage: a
  hidden layer (``HIDDEN``), the network's first layer (``FIRST``) or nothing.

The edge slot has two sides, the input side (p, q, u) and the output side (z, a).  The first layer
needs the output side alone, its input being the data, and the last layer the input side alone, its
own z having as many columns as there are outputs.  So the last layer costs no stage of its own
either: it sits on top of the last stage and uses the free input side there (``LAST``), or on the
first stage, beside the first layer (``FIRST_AND_LAST``), and the chain of stages becomes a ring:

    chain   [1  2 3] [4  5 6] [7 8  9]       9 in the edge slot of the last stage, on top
    ring    [1, 7  2] [3  4] [5  6]          7 in the edge slot of the first stage, beside 1

Both are tried, and the one whose busiest stage has less to do is taken; the chain if they tie, for
it has one boundary less.  No stage ever computes on padding, and no depth is refused.

Where their widths differ, each stage runs a program of its own (``packing``), so that it may hold
any number of layers: a chain, cut where the busiest stage has least to do.

    chain   [1] [2] [3 4 5 6]                    e.g. of widths 784-512-256-128-64-64-10
"""

from __future__ import annotations

import bisect
import dataclasses
import enum
import itertools
from collections.abc import Sequence


class EdgeSlot(enum.Enum):
    """What the edge slot of a stage holds."""

    FIRST = "first"  # the network's first layer
    HIDDEN = "hidden"  # a hidden layer
    LAST = "last"  # the network's last layer, above the stack
    FIRST_AND_LAST = "first and last"
    EMPTY = "empty"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the layers of a network are laid out over stages.  Layers count from 1, stages from 0.

    Attributes:
        widths: (features, hidden, ..., outputs).
        edge_slots: what the edge slot of every stage holds.
        stacked: how many hidden layers the stack of every stage has.
    """

    widths: tuple[int, ...]
    edge_slots: tuple[EdgeSlot, ...]
    stacked: tuple[int, ...]

    @property
    def alike(self) -> bool:
        """Whether all stages hold arrays of the same shapes and run the same program."""
        return self.stages == 1 or len(set(self.widths[1:-1])) == 1

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.widths) - 1

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.edge_slots)

    @property
    def active(self) -> int:
        """Stages that hold a layer; the others, which come last, are idle."""
        return sum(map(bool, self.layers))

    @property
    def hidden(self) -> tuple[tuple[int | None, tuple[int, ...]], ...]:
        """The hidden layers of every stage: in its edge slot, if there is one, and in its stack."""
        numbers = itertools.count(2)
        return tuple(
            (
                next(numbers) if slot is EdgeSlot.HIDDEN else None,
                tuple(itertools.islice(numbers, stacked)),
            )
            for slot, stacked in zip(self.edge_slots, self.stacked, strict=True)
        )

    @property
    def edge_hidden(self) -> tuple[int | None, ...]:
        """The hidden layer in the edge slot of every stage, if there is one."""
        return tuple(link for link, _ in self.hidden)

    @property
    def stacks(self) -> tuple[tuple[int, ...], ...]:
        """The layers in the stack of every stage."""
        return tuple(stack for _, stack in self.hidden)

    @property
    def stack(self) -> tuple[int, ...]:
        """The layers of all stacks, one stage after the other."""
        return tuple(itertools.chain(*self.stacks))

    @property
    def firsts(self) -> tuple[int | None, ...]:
        """Layer 1 where it is."""
        return tuple(
            1 if slot in (EdgeSlot.FIRST, EdgeSlot.FIRST_AND_LAST) else None
            for slot in self.edge_slots
        )

    @property
    def lasts(self) -> tuple[int | None, ...]:
        """The last layer where it is."""
        return tuple(
            self.depth if slot in (EdgeSlot.LAST, EdgeSlot.FIRST_AND_LAST) else None
            for slot in self.edge_slots
        )

    @property
    def edge_inputs(self) -> tuple[int | None, ...]:
        """The layer whose boundary p, q, u lies on the input side of every edge slot."""
        return tuple(last or link for last, link in zip(self.lasts, self.edge_hidden, strict=True))

    @property
    def edge_outputs(self) -> tuple[int | None, ...]:
        """The layer whose z and a lie on the output side of every edge slot."""
        return tuple(
            first or link for first, link in zip(self.firsts, self.edge_hidden, strict=True)
        )

    @property
    def above(self) -> tuple[int | None, ...]:
        """The layer above the uppermost one of every stage, where another stage holds it."""
        tops = (
            stack[-1] if stack else output
            for stack, output in zip(self.stacks, self.edge_outputs, strict=True)
        )
        return tuple(
            top + 1 if top and slot is not EdgeSlot.LAST else None
            for top, slot in zip(tops, self.edge_slots, strict=True)
        )

    @property
    def below(self) -> tuple[int | None, ...]:
        """The lowest layer of every stage, where another stage holds the one below it."""
        senders = {to: sender for sender, to in self.upward}
        return tuple(
            self.above[senders[stage]] if stage in senders else None for stage in range(self.stages)
        )

    @property
    def layers(self) -> tuple[tuple[int, ...], ...]:
        """The layers of every stage, in order."""
        sides = zip(self.edge_outputs, self.edge_inputs, self.stacks, strict=True)
        return tuple(tuple(sorted(filter(None, {*ends, *stack}))) for *ends, stack in sides)

    @property
    def message_width(self) -> int:
        """How wide messages are: as the widest hidden layer; on one stage, as the uppermost."""
        return self.widths[-2] if self.alike else max(self.widths[1:-1])

    @property
    def lower(self) -> tuple[tuple[int, ...], ...]:
        """The layers of every stage but the network's last."""
        return tuple(tuple(layer for layer in held if layer < self.depth) for held in self.layers)

    @property
    def upper(self) -> tuple[tuple[int, ...], ...]:
        """The layers of every stage but the network's first."""
        return tuple(tuple(layer for layer in held if layer > 1) for held in self.layers)

    def n_in(self, layer: int) -> int:
        """How many inputs a layer has."""
        return self.widths[layer - 1]

    def n_out(self, layer: int) -> int:
        """How many outputs a layer has."""
        return self.widths[layer]

    @property
    def upward(self) -> tuple[tuple[int, int], ...]:
        """(from, to) of every message f(z)."""
        closed = EdgeSlot.FIRST_AND_LAST in self.edge_slots and self.active > 1
        chain = tuple(itertools.pairwise(range(self.active)))
        return (*chain, (self.active - 1, 0)) if closed else chain

    @property
    def downward(self) -> tuple[tuple[int, int], ...]:
        """(from, to) of every message q."""
        return tuple((above, below) for below, above in self.upward)

    @property
    def reach(self) -> int:
        """Messages that f(z) of a sample takes from the first layer to the last."""
        return len(self.upward)

    @property
    def work(self) -> tuple[int, ...]:
        """Multiply-adds of the matrix products of every stage, per sample and iteration."""
        return tuple(sum(_work(self.widths, layer) for layer in held) for held in self.layers)


def plan(widths: Sequence[int], stages: int) -> Plan:
    """Lays the layers of a network out over stages.

    Args:
        widths: (features, hidden, ..., outputs).
        stages: number of stages.

    Returns:
        The better of chain and ring, or a chain of unequal stages.

    Raises:
        ValueError: fewer than one stage.
    """
    widths = tuple(widths)
    if stages < 1:
        raise ValueError(f"the mesh has {stages} layer stages, but at least 1 is needed.")
    if stages > 1 and len(set(widths[1:-1])) > 1:
        return _unequal_chain(widths, stages)
    candidates = filter(None, (_chain(widths, stages), _ring(widths, stages)))
    return min(candidates, key=lambda candidate: max(candidate.work))


def _chain(widths: tuple[int, ...], stages: int) -> Plan | None:
    """The last layer on top of the last stage; None where its edge slot is needed for another."""
    stacked, hidden = divmod(len(widths) - 3, stages)
    idle = stages - 2 - hidden
    if idle < 0:
        return None
    middle = [EdgeSlot.HIDDEN] * hidden
    unused = [EdgeSlot.EMPTY] * idle
    # Without stacks a stage with an empty edge slot has no layer: such stages come last.
    rest = [*middle, *unused, EdgeSlot.LAST] if stacked else [*middle, EdgeSlot.LAST, *unused]
    return Plan(widths, (EdgeSlot.FIRST, *rest), (stacked,) * stages)


def _ring(widths: tuple[int, ...], stages: int) -> Plan:
    """The last layer beside the first one."""
    stacked, hidden = divmod(len(widths) - 3, stages)
    unused = stages - 1 - hidden
    slots = EdgeSlot.FIRST_AND_LAST, *[EdgeSlot.HIDDEN] * hidden, *[EdgeSlot.EMPTY] * unused
    return Plan(widths, slots, (stacked,) * stages)


def _unequal_chain(widths: tuple[int, ...], stages: int) -> Plan:
    """The chain whose busiest stage has least to do, on as few stages as that takes."""
    work = [_work(widths, layer) for layer in range(1, len(widths))]
    sums = list(itertools.accumulate(work, initial=0))
    runs = sorted(high - low for low, high in itertools.combinations(sums, 2))

    def suffices(most: int) -> bool:
        return most >= max(work) and len(_filled(work, most)) <= stages

    most = runs[bisect.bisect_left(runs, True, key=suffices)]
    lowest, *middle, highest = _filled(work, most)
    idle = stages - len(middle) - 2
    empty = EdgeSlot.EMPTY
    slots = EdgeSlot.FIRST, *[empty] * len(middle), EdgeSlot.LAST, *[empty] * idle
    return Plan(widths, slots, (lowest - 1, *middle, highest - 1, *[0] * idle))


def _filled(work: Sequence[int], most: int) -> list[int]:
    """How many layers every stage holds if none is given more than so much work."""
    held: list[int] = []
    left = 0
    for one in work:
        if one > left:
            held.append(0)
            left = most
        held[-1] += 1
        left -= one
    return held


def _work(widths: Sequence[int], layer: int) -> int:
    """Multiply-adds of a layer's matrix products, per sample and iteration."""
    return (4 if layer > 1 else 2) * widths[layer - 1] * widths[layer]
