"""One stage's part of a pass over the samples, which stream through it in blocks (``sweeps``).

A tick is the time of one block in one stage.  A stage sweeps the block up that the stage below has
done a tick ago, and then another down that the stage above has done a tick ago; where the last
layer is, a block turns round.  With H boundaries between stages a block takes 2 H + 1 ticks, and
as many are on their way.  A network on a single device has one stage and nothing on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Bool, Float, Int, Number
from pdadmm_jax.admm.config import Problem
from pdadmm_jax.admm.state import Data, Parts, State, Weights, parts_of, with_parts
from pdadmm_jax.admm.updates import update_z_output
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.compression import through
from pdadmm_jax.parallel.stage import Stage, Truth, choose, when
from pdadmm_jax.sweeps.rules import Memory, Rule, Wish

T = TypeVar("T")


class Sweeping(Problem, Protocol):
    """What a pass has to know beside the samples."""

    @property
    def nu(self) -> Number: ...

    @property
    def rule(self) -> Rule: ...


class Sums(NamedTuple):
    """What the samples that passed a layer ask of it, added up, and how many they are."""

    wish: Wish
    number: Float[Array, "*n"]


class Slots(NamedTuple):
    """What layers keep of the blocks on their way, from up to down."""

    p: Float[Array, "*slots n rows n_in"] | None  # None for the first layer alone: its p is x
    a: Float[Array, "*slots n rows n_out"]


class Flight(NamedTuple):
    """Blocks on their way through a stage."""

    up: Float[Array, "rows h"]  # f(z) for the stage above
    down: Float[Array, "rows h"]  # u for the stage below
    head: Slots
    stacks: tuple[Slots, ...]


class Notes(NamedTuple):
    """What is found out about the samples of a block, or of several."""

    loss: Float[Array, "*updates"]  # sum of the risk, before the weights move
    number: Float[Array, "*updates"]  # of samples
    unsolved: Float[Array, "*updates"]  # layers whose z-problem met its bound, counted per block


class Pass(NamedTuple):
    """The samples of a pass.

    Attributes:
        data: the samples at hand.
        rows: which of them each block has, -1 for none.
    """

    data: Data
    rows: Int[Array, "updates blocks rows"]


class Block(NamedTuple):
    """Some of a pass's samples; of those that do not count, x is 0."""

    x: Float[Array, "rows features"]
    y: Array
    valid: Bool[Array, " rows"]

    def keep(self, rows: Array) -> Array:
        """The rows of the samples that count, zero in place of the others."""
        return Data.keep(Data(self.x, self.y, self.valid), rows)


def groups(function: Callable[..., Any], *parts: Parts) -> Parts:
    """Applies a function to every group of layers."""
    lower, last, link = zip(*parts, strict=True)
    return Parts(
        tuple(function(*group) for group in zip(*lower, strict=True)),
        function(*last),
        None if any(group is None for group in link) else function(*link),
    )


def memories_of(weights: State, rule: Rule) -> Parts:
    """What the rule remembers of every layer before the first batch."""
    return groups(jax.vmap(rule.init), parts_of(weights))


def stream(
    stage: Stage, weights: State, memories: Parts, batches: Pass, hyper: Sweeping, pipelined: bool
) -> tuple[State, Parts, Notes]:
    """Passes all batches through a stage.

    Args:
        stage: the stage.
        weights: a state with nothing but weights.
        memories: what the rule remembers of each layer.
        batches: the samples.
        hyper: numbers and structure.
        pipelined: whether each layer's weights move as soon as a block, which then is a batch, has
            come down to it, the blocks behind being on their way already; otherwise all weights
            move together, after the batch's last block.

    Returns:
        The new weights and memories, and the notes on every batch, (updates,) each.
    """
    way = _pipelined if pipelined else _batch_by_batch
    parts, memories, notes = way(stage, parts_of(weights), memories, batches, hyper)
    return with_parts(weights, parts), memories, notes


def _batch_by_batch(
    stage: Stage, parts: Parts, memories: Parts, batches: Pass, hyper: Sweeping
) -> tuple[Parts, Parts, Notes]:
    """All weights move together, when nothing is on its way."""
    nothing = stage.mail.vary(_nothing(parts, hyper))
    flight = stage.mail.vary(_empty(stage, parts, batches))

    def one_batch(carry: tuple[Parts, Parts], rows: Array) -> tuple[tuple[Parts, Parts], Notes]:
        parts, memories = carry
        passing = Pass(batches.data, rows)

        def one_tick(carry: tuple[Any, Parts], t: Array) -> tuple[tuple[Any, Parts], Notes]:
            flight, sums = carry
            flight, new, notes = _tick(stage, parts, flight, passing, t, hyper)
            return (flight, jax.tree.map(jnp.add, sums, new)), notes

        (_, sums), notes = lax.scan(one_tick, (flight, nothing), _ticks(stage, len(rows)))
        moved = _move(stage, parts, memories, sums, hyper)
        return moved, jax.tree.map(jnp.sum, notes)

    (parts, memories), notes = lax.scan(one_batch, (parts, memories), batches.rows)
    return parts, memories, notes


def _pipelined(
    stage: Stage, parts: Parts, memories: Parts, batches: Pass, hyper: Sweeping
) -> tuple[Parts, Parts, Notes]:
    """Every layer's weights move when a batch, one block, has come down to it."""
    flight = stage.mail.vary(_empty(stage, parts, batches))
    passing = Pass(batches.data, batches.rows[:, 0])
    updates = len(passing.rows)

    def one_tick(carry: tuple[Any, Parts, Parts], t: Array) -> tuple[Any, Notes]:
        flight, parts, memories = carry
        flight, sums, notes = _tick(stage, parts, flight, passing, t, hyper)
        return (flight, *_move(stage, parts, memories, sums, hyper)), notes

    carry = flight, parts, memories
    (_, parts, memories), notes = lax.scan(one_tick, carry, _ticks(stage, updates))
    # A batch turns round ``reach`` ticks after it has come; what the last ones meet after that
    # counts as the last one's.
    loss, number, unsolved = (all[stage.reach :] for all in notes)
    unsolved = unsolved[:updates].at[-1].add(jnp.sum(unsolved[updates:]))
    return parts, memories, Notes(loss[:updates], number[:updates], unsolved)


def _ticks(stage: Stage, blocks: int) -> Array:
    """Numbers of the ticks in which so many blocks go up and come down."""
    return jnp.arange(blocks + 2 * stage.reach, dtype=jnp.int32)


def _tick(
    stage: Stage, parts: Parts, flight: Flight | None, passing: Pass, t: Array, hyper: Sweeping
) -> tuple[Flight | None, Parts, Notes]:
    """One block up, another one down.

    Args:
        stage: the stage.
        parts: its weights.
        flight: what is on its way through it; None if it is the only one.
        passing: samples and the rows of every block, (blocks, rows).
        t: number of the tick; blocks enter the first stage at the tick of their number.
        hyper: numbers and structure.

    Returns:
        What is on its way after it, what the layers are asked for, and the notes.
    """
    mail = stage.mail
    rising = _block(passing, t - stage.position)
    turning = _block(passing, t - stage.reach)
    falling = _block(passing, t - 2 * stage.reach + stage.position)

    # Up, from the layer that the stage below has come to.
    below = None if flight is None else through(flight.up, mail.upward, mail.wire)
    (head, *stacks), top = _climb(stage, parts, below, rising, hyper)
    arrived = top if below is None else choose(stage.closes, top, below)

    # The last layer, where a block turns.
    last, from_last, notes = _turn(stage, parts.last, arrived, turning, hyper)
    above = from_last
    if flight is not None:
        arriving = through(flight.down, mail.downward, mail.wire)
        above = choose(stage.closes, from_last, arriving)
        flight, (head, *stacks) = _held(stage, flight, (head, *stacks), t)

    # Down, from the layer that the stage above has come to.
    lower, link, down, unsolved = _descend(stage, parts, above, [head, *stacks], falling, hyper)
    notes = notes._replace(unsolved=notes.unsolved + unsolved)
    if flight is not None:
        lowest_is_last = jnp.logical_and(stage.last, jnp.logical_not(stage.bypass))
        flight = flight._replace(up=top, down=choose(lowest_is_last, from_last, down))
    return flight, Parts(lower, last, link), notes


def _block(passing: Pass, index: Array) -> Block:
    """The block of this number; one without samples that count where there is none."""
    data, blocks = passing.data, passing.rows.shape[0]
    rows = passing.rows[jnp.clip(index, 0, blocks - 1)]
    valid = (rows >= 0) & (index >= 0) & (index < blocks)
    if data.valid is not None:
        valid &= data.valid[rows]
    return Block(jnp.where(valid[:, None], data.x[rows], 0), data.y[rows], valid)


def _climb(
    stage: Stage, parts: Parts, below: Array | None, block: Block, hyper: Sweeping
) -> tuple[list[Slots], Array]:
    """p and a of the head and of the stacks, and f(z) of the uppermost layer, z being a."""
    first, *stacks = parts.lower

    def affine(p: Array, weights: Weights) -> Array:
        return multiply(p, weights.W, hyper.precision) + weights.b

    def emit(a: Array) -> Array:
        return block.keep(hyper.activation(a))

    def layer(p: Array, weights: Weights) -> tuple[Array, Slots]:
        a = affine(p, weights)
        return emit(a), Slots(p, a)

    a = jnp.zeros((len(block.x), first.W.shape[-1]), block.x.dtype)
    a = _where(stage, stage.first, lambda _: affine(block.x, _one(first)), a)
    if below is not None and parts.link is not None:
        a = _where(stage, stage.linked, lambda _: affine(below, _one(parts.link)), a)
    p = emit(a) if below is None else choose(stage.bypass, below, emit(a))

    held = [Slots(None if below is None else below[None], a[None])]
    for stack in stacks:
        if len(stack.W) == 1:  # the only kind of stack that may change the width
            p, slots = layer(p, _one(stack))
            slots = jax.tree.map(lambda rows: rows[None], slots)
        else:
            p, slots = lax.scan(layer, p, stack)
        held.append(slots)
    return held, p


def _turn(
    stage: Stage, last: Weights, p: Array, block: Block, hyper: Sweeping
) -> tuple[Sums, Array, Notes]:
    """The last layer: forward, its z, what it asks for, and u for the layer below."""

    def turn(_: Any) -> tuple[Sums, Array, Notes]:
        W, b = _one(last)
        a = multiply(p, W, hyper.precision) + b
        z, solved = update_z_output(a, a, block.y, hyper.loss, hyper.nu)
        r = block.keep(hyper.nu * (z - a))
        number = _number(block)
        loss = jnp.sum(block.keep(hyper.loss.value(a, block.y)))
        notes = Notes(loss, number, 1.0 - solved.astype(p.dtype))
        return _asked(p, r, block, hyper), multiply(r, W.T, hyper.precision), notes

    zero = jnp.zeros((), p.dtype)
    sums = _one(_nothing_of(last, hyper))
    nothing = sums, jnp.zeros_like(p), Notes(zero, zero, zero)
    sums, u, notes = _where(stage, stage.last, turn, nothing)
    return jax.tree.map(lambda one: one[None], sums), u, notes


def _descend(
    stage: Stage, parts: Parts, u: Array, held: list[Slots], block: Block, hyper: Sweeping
) -> tuple[tuple[Sums, ...], Sums | None, Array, Array]:
    """The hidden layers and the first: their z, what they ask for, and u for the layers below.

    Returns:
        What the first layer and the stacks ask for, what a hidden layer in the head does, u for
        the stage below, and how many layers' problems met their bound.
    """
    first, *stacks = parts.lower
    head, *slots = held

    def answer(u: Array, p: Array, a: Array) -> tuple[Array, Sums, Array]:
        away, solved = hyper.activation.respond(a, u / hyper.nu)
        r = block.keep(hyper.nu * away)
        return r, _asked(p, r, block, hyper), 1.0 - solved.astype(u.dtype)

    def layer(u: Array, known: tuple[Weights, Slots]) -> tuple[Array, tuple[Sums, Array]]:
        weights, (p, a) = known
        assert p is not None  # hidden layers keep it
        r, sums, unsolved = answer(u, p, a)
        return multiply(r, weights.W.T, hyper.precision), (sums, unsolved)

    found: list[Sums] = []
    unsolved = jnp.zeros((), u.dtype)
    for stack, kept in zip(reversed(stacks), reversed(slots), strict=True):
        if len(stack.W) == 1:
            u, asked = layer(u, (_one(stack), _one(kept)))
            asked = jax.tree.map(lambda one: one[None], asked)
        else:
            u, asked = lax.scan(layer, u, (stack, kept), reverse=True)
        found.insert(0, asked[0])
        unsolved += jnp.sum(asked[1])

    def first_layer(old: tuple[Sums, Array]) -> tuple[Sums, Array]:
        _, sums, more = answer(u, block.x, head.a[0])
        return sums, old[1] + more

    def link_layer(old: tuple[Sums, Array, Array]) -> tuple[Sums, Array, Array]:
        down, (sums, more) = layer(u, (_one(parts.link), _one(head)))
        return sums, old[1] + more, down

    nothing = _one(_nothing_of(first, hyper))
    sums, unsolved = _where(stage, stage.first, first_layer, (nothing, unsolved))
    found.insert(0, jax.tree.map(lambda one: one[None], sums))
    link, down = None, u
    if parts.link is not None:
        nothing = _one(_nothing_of(parts.link, hyper))
        link, unsolved, down = _where(stage, stage.linked, link_layer, (nothing, unsolved, u))
        link = jax.tree.map(lambda one: one[None], link)
    return tuple(found), link, down, unsolved


def _held(
    stage: Stage, flight: Flight, new: tuple[Slots, ...], t: Array
) -> tuple[Flight, list[Slots]]:
    """Keeps p and a of the block that goes up, and finds those of the block that comes down."""
    slots = 2 * stage.reach + 1
    put, take = t - stage.position, t + stage.position - 2 * stage.reach
    kept = jax.tree.map(
        lambda old, rows: lax.dynamic_update_index_in_dim(old, rows, put % slots, 0),
        (flight.head, *flight.stacks),
        new,
    )
    found = jax.tree.map(
        lambda rows: lax.dynamic_index_in_dim(rows, take % slots, 0, keepdims=False), kept
    )
    return flight._replace(head=kept[0], stacks=kept[1:]), list(found)


def _empty(stage: Stage, parts: Parts, batches: Pass) -> Flight | None:
    """Nothing on its way; None for a stage that is the only one."""
    if not stage.reach:
        return None
    rows, slots = batches.rows.shape[-1], 2 * stage.reach + 1
    h, dtype = parts.lower[0].W.shape[-1], batches.data.x.dtype
    message = jnp.zeros((rows, h), dtype)

    def of(layers: int) -> Slots:
        empty = jnp.zeros((slots, layers, rows, h), dtype)
        return Slots(empty, empty)

    return Flight(message, message, of(1), tuple(of(len(stack.W)) for stack in parts.lower[1:]))


def _asked(p: Array, r: Array, block: Block, hyper: Sweeping) -> Sums:
    """What a block's samples ask of one layer, given its inputs and r = nu (z - a)."""
    gram = multiply(p.T, p) if hyper.rule.grams else None
    wish = Wish(multiply(p.T, r, hyper.precision), jnp.sum(r, 0), jnp.sum(p, 0), gram)
    return Sums(wish, _number(block))


def _nothing(parts: Parts, hyper: Sweeping) -> Parts:
    """What no samples ask for."""
    return groups(partial(_nothing_of, hyper=hyper), parts)


def _nothing_of(weights: Weights, hyper: Sweeping) -> Sums:
    W, b = weights
    p = jnp.zeros(W.shape[:2], W.dtype)
    gram = jnp.zeros((*p.shape, p.shape[-1]), W.dtype) if hyper.rule.grams else None
    wish = Wish(jnp.zeros_like(W), jnp.zeros_like(b), p, gram)
    return Sums(wish, jnp.zeros(len(W), W.dtype))


def _number(block: Block) -> Array:
    return jnp.sum(block.valid, dtype=block.x.dtype)


def _move(
    stage: Stage, parts: Parts, memories: Parts, sums: Parts, hyper: Sweeping
) -> tuple[Parts, Parts]:
    """Moves W and b of all layers, but those that no sample has come to."""
    sums = jax.tree.map(stage.mail.samples.total, sums)

    def one(weights: Weights, memory: Memory, sums: Sums) -> tuple[Weights, Memory]:
        mean = jax.tree.map(lambda total: total / jnp.maximum(sums.number, 1), sums.wish)
        move, remembered = hyper.rule.move(weights, mean, memory, hyper.nu)
        moved = jax.tree.map(jnp.add, weights, move)
        return choose(sums.number > 0, (moved, remembered), (weights, memory))

    def move(old: tuple[Weights, Memory], sums: Sums) -> tuple[Weights, Memory]:
        return jax.vmap(one)(*old, sums)

    def move_where(
        here: Truth, weights: Weights, memory: Memory, sums: Sums
    ) -> tuple[Weights, Memory]:
        return when(here, partial(move, sums=sums), (weights, memory))

    here = Parts((stage.first, *[True] * (len(parts.lower) - 1)), stage.last, stage.linked)
    both = groups(move_where, here, parts, memories, sums)
    new, remembered = (
        Parts(
            tuple(pair[k] for pair in both.lower),
            both.last[k],
            None if both.link is None else both.link[k],
        )
        for k in range(2)
    )
    return new, remembered


def _where(stage: Stage, here: Truth, function: Callable[[T], T], otherwise: T) -> T:
    """function(otherwise) on the stages where that is to be done, the same unchanged elsewhere."""
    vary = stage.mail.vary
    return when(here, lambda old: vary(function(old)), vary(otherwise))


def _one(stacked: T) -> T:
    """The only one of a group of layers, without their axis."""
    return jax.tree.map(lambda rows: rows[0], stacked)
