"""Which stage of the mesh holds which layers: arithmetic alone, no arrays.

Stages hold consecutive layers.  All stages run one program, so all hold arrays of the same shapes:

* a *stack* of hidden layers, equally many everywhere, solved together by vmap;
* a *head*, one more layer below the stack, which differs from stage to stage: a hidden layer
  (``LINK``), the network's first layer (``FIRST``) or nothing.

The head's memory has two sides, the input boundary (p, q, u) and the output (z, a).  The first
layer needs the output side alone, its input being the data, and the last layer the input side
alone, its own z having as many columns as there are classes.  So the last layer costs no stage of
its own either: it sits on top of the last stage and uses the free input side there (``LAST``), or
on the first stage, beside the first layer (``ENDS``), and the chain of stages becomes a ring:

    chain   [1  2 3] [4  5 6] [7 8  9]       9 in the head of the last stage, on top
    ring    [1, 7  2] [3  4] [5  6]          7 in the head of the first stage, beside 1

Both are tried, and the one whose busiest stage has less to do is taken; the chain if they tie, for
it has one boundary less.  No stage ever computes for nothing, and no depth is refused.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Sequence


class Head(enum.Enum):
    """What the head of a stage is."""

    FIRST = "first"  # the network's first layer
    LINK = "link"  # a hidden layer
    LAST = "last"  # the network's last layer, above the stack
    ENDS = "ends"  # the first and the last layer
    NONE = "none"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the layers of a network are dealt out.  Layers count from 1, stages from 0.

    Attributes:
        widths: (features, hidden, ..., outputs).
        heads: what the head of every stage is.
        stacked: hidden layers in the stack of every stage.
    """

    widths: tuple[int, ...]
    heads: tuple[Head, ...]
    stacked: int

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.widths) - 1

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.heads)

    @property
    def active(self) -> int:
        """Stages that hold a layer; the others, which come last, are idle."""
        return self.stages if self.stacked else sum(head is not Head.NONE for head in self.heads)

    @property
    def hidden(self) -> tuple[tuple[int | None, tuple[int, ...]], ...]:
        """The hidden layers of every stage: its head, if that is one, and its stack."""
        numbers = itertools.count(2)
        return tuple(
            (
                next(numbers) if head is Head.LINK else None,
                tuple(itertools.islice(numbers, self.stacked)),
            )
            for head in self.heads
        )

    @property
    def links(self) -> tuple[int | None, ...]:
        """The hidden layer that is the head of every stage, if it is one."""
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
        return tuple(1 if head in (Head.FIRST, Head.ENDS) else None for head in self.heads)

    @property
    def lasts(self) -> tuple[int | None, ...]:
        """The last layer where it is."""
        return tuple(self.depth if head in (Head.LAST, Head.ENDS) else None for head in self.heads)

    @property
    def inputs(self) -> tuple[int | None, ...]:
        """The layer whose boundary p, q, u lies on the input side of every head."""
        return tuple(last or link for last, link in zip(self.lasts, self.links, strict=True))

    @property
    def outputs(self) -> tuple[int | None, ...]:
        """The layer whose z and a lie on the output side of every head."""
        return tuple(first or link for first, link in zip(self.firsts, self.links, strict=True))

    @property
    def above(self) -> tuple[int | None, ...]:
        """The layer above the uppermost one of every stage, where another stage holds it."""
        tops = (
            stack[-1] if stack else output
            for stack, output in zip(self.stacks, self.outputs, strict=True)
        )
        return tuple(
            top + 1 if top and head is not Head.LAST else None
            for top, head in zip(tops, self.heads, strict=True)
        )

    @property
    def layers(self) -> tuple[tuple[int, ...], ...]:
        """The layers of every stage, in order."""
        sides = zip(self.outputs, self.inputs, self.stacks, strict=True)
        return tuple(tuple(sorted(filter(None, {*ends, *stack}))) for *ends, stack in sides)

    @property
    def upward(self) -> tuple[tuple[int, int], ...]:
        """(from, to) of every message f(z)."""
        closed = Head.ENDS in self.heads and self.active > 1
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
        shapes = list(itertools.pairwise(self.widths))
        return tuple(
            sum((4 if layer > 1 else 2) * n * m for layer in held for n, m in [shapes[layer - 1]])
            for held in self.layers
        )


def plan(widths: Sequence[int], stages: int) -> Plan:
    """Deals the layers of a network out to stages.

    Args:
        widths: (features, hidden, ..., outputs).
        stages: number of stages.

    Returns:
        The better of chain and ring.

    Raises:
        ValueError: fewer than one stage; or hidden layers of unequal widths on several stages,
            which could share no program.
    """
    widths = tuple(widths)
    if stages < 1:
        raise ValueError(f"the mesh has {stages} layer stages, but at least 1 is needed.")
    hidden = widths[1:-1]
    for index, width in enumerate(hidden, start=1):
        if stages > 1 and width != hidden[0]:
            raise ValueError(
                f"widths[{index}] is {width}, but widths[1] is {hidden[0]}: several layer stages "
                f"run one program and need equal hidden widths; use 1 stage instead of {stages}."
            )
    candidates = filter(None, (_chain(widths, stages), _ring(widths, stages)))
    return min(candidates, key=lambda candidate: max(candidate.work))


def _chain(widths: tuple[int, ...], stages: int) -> Plan | None:
    """The last layer on top of the last stage; None where its head would be needed for another."""
    stacked, links = divmod(len(widths) - 3, stages)
    idle = stages - 2 - links
    if idle < 0:
        return None
    middle = [Head.LINK] * links
    unused = [Head.NONE] * idle
    # Without stacks a stage that has no head has no layer: such stages come after the last layer.
    rest = [*middle, *unused, Head.LAST] if stacked else [*middle, Head.LAST, *unused]
    return Plan(widths, (Head.FIRST, *rest), stacked)


def _ring(widths: tuple[int, ...], stages: int) -> Plan:
    """The last layer beside the first one."""
    stacked, links = divmod(len(widths) - 3, stages)
    unused = stages - 1 - links
    return Plan(widths, (Head.ENDS, *[Head.LINK] * links, *[Head.NONE] * unused), stacked)
