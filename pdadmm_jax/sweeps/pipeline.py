"""One pipeline step of a stage, and the blocks of samples that are in flight meanwhile.

A pipeline step is the time of one block in one stage.  A stage takes the block up that the stage
below has done a step ago, and then another one down that the stage above has done a step ago; where
the last layer is, a block turns round.  With R boundaries between the first stage and the last
layer, at step t

    block t enters the pipeline,
    block t - s goes up through stage s,
    block t - R turns round in the last layer,
    block t - 2 R + s comes down through stage s.

A stage that has no block to take up or down computes nothing.

Up and down are two halves of a step, of which one needs the other only where a block turns round.
In the stages below that the way down may come first, and the weights may move in between
(``Move``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Bool, Float, Int
from pdadmm_jax.parallel.compression import transfer
from pdadmm_jax.parallel.forward import Climbed, Saved
from pdadmm_jax.parallel.groups import LayerGroups, Weights, map_groups
from pdadmm_jax.parallel.packing import AnyGroups, Packed, Rows, widest
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.parallel.stage import Stage, Truth, both, choose, when, where
from pdadmm_jax.problems.residual import arrays
from pdadmm_jax.sweeps.layers import BatchMetrics, Descended, ascend, descend, turn
from pdadmm_jax.sweeps.samples import Batches, Block
from pdadmm_jax.sweeps.weight_update import PassConfig, Passed

T = TypeVar("T")


class PaddedSaved(NamedTuple):
    """p of the hidden layers of a stage, and a of all its layers but the network's last.

    In the form that stages of unequal layers have it in (``parallel.packing``).
    """

    p: Rows
    a: Rows


class InFlight(NamedTuple):
    """A stage's buffers.

    Block i is in slot i modulo the number of slots, of which r may have fewer.

    Attributes:
        steps: pipeline steps since the pipeline was empty.
        up: what passes up to the stage above (``residual``).
        down: what passes down to the stage below.
        blocks: the samples.
        saved: p and a of the hidden layers, and a of the first one; padded where stages hold layers
            of different shapes (``unequal``).
        r: nu (z - a) of all layers but the last, likewise, where a batch is several blocks; else
            None.
        r_last: the same of the last layer.
        p_last: its inputs.
        previous: weights before the last update, where blocks still need them; else None.
    """

    steps: Int[Array, ""]
    up: Float[Array, "1 arrays rows h"]
    down: Float[Array, "1 arrays rows h"]
    blocks: Block
    saved: Any  # LayerGroups, or PaddedSaved
    r: Any  # LayerGroups, Rows, or None
    r_last: Float[Array, "1 slots rows C"] | None
    p_last: Float[Array, "1 slots rows _h"] | None
    previous: AnyGroups | None


def nothing_in_flight(
    weights: AnyGroups,
    plan: Plan,
    blocks: Block,
    residual_block: int,
    *,
    kept: int,
    keep_weights: bool,
) -> InFlight:
    """Empty buffers.

    Args:
        weights: groups as high as the buffers are to be.
        plan: of the stages.
        blocks: empty slots of samples.
        residual_block: hidden layers of a residual block; 0 for a plain chain.
        kept: slots of r and of the last layer's p; 0 if they are not kept.
        keep_weights: whether the weights before the last update are.
    """
    n, slots, rows, _ = blocks.x.shape
    dtype = blocks.x.dtype

    def zeros(width: int, n: int = n, slots: int = slots) -> Array:
        return jnp.zeros((n, slots, rows, width), dtype)

    def outputs(of: Weights, slots: int = slots) -> Array:
        return zeros(of.W.shape[-1], of.W.shape[0], slots)

    if isinstance(weights, Packed):
        a = widest(plan.lower, plan.n_out)
        p = tuple(map(zeros, widest(plan.stacks, plan.n_in)))
        saved = PaddedSaved(p, tuple(map(zeros, a)))
        r = tuple(zeros(width, slots=kept) for width in a)
    else:
        a = outputs(weights.first)
        p_edge = None if weights.edge is None else a
        stacks = tuple(Saved(outputs(stack), outputs(stack)) for stack in weights.stacks)
        saved = LayerGroups(None, stacks, Saved(p_edge, a), None)
        r = map_groups(partial(outputs, slots=kept), weights)._replace(last=None)
    message = jnp.zeros((n, arrays(residual_block), rows, plan.message_width), dtype)
    return InFlight(
        steps=jnp.zeros((), jnp.int32),
        up=message,
        down=message,
        blocks=blocks,
        saved=saved,
        r=r if kept else None,
        r_last=zeros(plan.widths[-1], slots=kept) if kept else None,
        p_last=zeros(plan.widths[-2], slots=kept) if kept else None,
        previous=weights if keep_weights else None,
    )


class LeftRows(NamedTuple):
    """p and r that blocks have left in the layers of a stage of unequal ones.

    Attributes:
        x: inputs of the first layer.
        p: of the hidden layers.
        r: nu (z - a) of all layers but the last.
        p_last: inputs of the last layer.
        r_last: its nu (z - a).
    """

    x: Float[Array, "1 rows features"]
    p: Rows
    r: Rows
    p_last: Float[Array, "1 rows _h"]
    r_last: Float[Array, "1 rows C"]


class Step(NamedTuple):
    """What a pipeline step leaves in a stage, beside the buffers.

    Attributes:
        left: p and r, in groups as functions that read them where they are needed.
        moving: whether a block came down to all layers but the last, and to the last.
        metrics: of the blocks that turned round or came down.
        moved: what weights that moved within the step have become; None if they did not.
    """

    left: LayerGroups | LeftRows
    moving: tuple[Truth, Truth]
    metrics: BatchMetrics
    moved: Any = None


class Met(NamedTuple):
    """The weights that blocks in flight meet.

    Attributes:
        newest: met by blocks of the batch that enters.
        older: met by blocks that entered before the last update; None if they meet the newest too.
        entered: steps since the first in which that batch entered.
    """

    newest: Any
    older: Any = None
    entered: Int[Array, ""] | int = 0

    def after(self, steps: Array | int, function: Callable[[LayerGroups], T]) -> T:
        """The function of the weights that a block meets so many steps after it has entered."""
        if self.older is None:
            return function(self.newest)
        newest, older = partial(function, self.newest), partial(function, self.older)
        return lax.cond(self.entered >= steps, newest, older)

    def last(self, stage: Stage) -> Weights:
        """Weights of the last layer that the block meets which turns round there."""
        if self.older is None:
            return self.newest.last
        return choose(self.entered >= stage.reach, self.newest.last, self.older.last)


# Moves the weights between the two halves of a step: given the buffers, the weights that the blocks
# meet which go up or turn round afterwards, and what is handed on as ``Step.moved``.
Move = Callable[[InFlight], tuple[Met, Any]]


class Passing(NamedTuple):
    """Numbers of the blocks that pass through a stage in a pipeline step; some may not be there.

    Attributes:
        rising: of the one that goes up.
        turning: of the one that turns round in the last layer.
        falling: of the one that comes down.
    """

    rising: Array
    turning: Array
    falling: Array


def passing(stage: Stage, step: Array) -> Passing:
    """Which blocks pass through a stage in a step."""
    return Passing(
        step - stage.position, step - stage.reach, step - 2 * stage.reach + stage.position
    )


def under_way(block: Array, blocks: int | None) -> Bool[Array, ""]:
    """Whether there is a block of this number, of so many; None for no end."""
    return (block >= 0) if blocks is None else (block >= 0) & (block < blocks)


def pipeline_step(
    stage: Stage,
    flight: InFlight,
    rows: Int[Array, " rows"],
    batches: Batches,
    blocks: int | None,
    met: Met,
    config: PassConfig,
    move: Move | None = None,
) -> tuple[InFlight, Step]:
    """One block up, another one down.

    Args:
        stage: one of several.
        flight: buffers; ``steps`` is the number of this step.
        rows: of the block that enters.
        batches: where the rows are from.
        blocks: how many enter before the pipeline is emptied; None for no end.
        met: the weights that blocks meet.
        config: numbers and structure.
        move: moves the weights when blocks have met ``met`` on their way down everywhere but where
            one turns round; all others meet the weights that it returns.  None to move nothing.
    """
    t, (below, above) = flight.steps, exchange(stage, flight)
    rising, turning, falling = passing(stage, t)
    flight, x = enter(stage, flight, rows, batches, under_way(t, blocks))
    falling_block, falls = block_of(flight, falling, x), under_way(falling, blocks)

    down = no_descent(jax.eval_shape(take, flight.saved, falling), above)
    falls_after, moved = falls, None

    def descended(
        flight: InFlight, met: Met, u: Array, falls: Truth, otherwise: Descended
    ) -> Descended:
        def fall(weights: LayerGroups) -> Descended:
            saved = take(flight.saved, falling)
            return descend(stage, weights, u, saved.edge, saved.stacks, falling_block, config)

        steps_down = 2 * stage.reach - stage.position
        return where(stage, falls, lambda _: met.after(steps_down, fall), otherwise)

    if move is not None:
        falls_before, falls_after = before_and_after(stage, falls)
        down = descended(flight, met, above, falls_before, down)
        r = LayerGroups(down.first, down.stacks, down.edge, None)
        flight = keep_r(flight, r, falls_before, falling)
        met, moved = move(flight)

    # Up, from the layer that the stage below has come to.
    rising_block = block_of(flight, rising, x)

    def up(weights: LayerGroups) -> Climbed:
        return stage.collectives.vary(ascend(stage, weights, below, rising_block, config))

    def rise() -> InFlight:
        edge, stacks, sent = met.after(stage.position, up)
        if flight.saved.edge.p is None:
            edge = edge._replace(p=None)
        saved = LayerGroups(None, stacks, edge, None)
        return flight._replace(up=sent[None], saved=put(flight.saved, saved, rising))

    flight = lax.cond(under_way(rising, blocks), rise, lambda: flight)

    # The last layer, where a block turns.
    p_last = choose(stage.last_on_stack, flight.up[0], below)[0]
    turns = both(stage.holds_last, under_way(turning, blocks))
    turning_block = block_of(flight, turning, x)
    turned = turn(stage, met.last(stage), p_last, turning_block, config, turns)

    # Down, from the layer that the stage above has come to.
    u = choose(stage.last_on_stack, turned.u, above)
    down = descended(flight, met, u, falls_after, down)
    lowest_is_last = jnp.logical_and(stage.holds_last, jnp.logical_not(stage.skips_edge))
    message = choose(lowest_is_last, turned.u, down.u)
    flight = flight._replace(down=message[None], steps=t + 1)

    r = LayerGroups(down.first, down.stacks, down.edge, turned.r)
    if flight.r is not None:
        flight = keep_batch(
            flight,
            r._replace(last=None),
            r.last,
            p_last[None],
            falls_after,
            falling,
            turns,
            turning,
        )
    metrics = turned.metrics
    metrics = metrics._replace(unconverged=metrics.unconverged + down.unconverged)
    return flight, Step(
        left=_left(flight, r, p_last, falling),
        moving=(falls, turns),
        metrics=metrics,
        moved=moved,
    )


def at_top(stage: Stage) -> Truth:
    """Whether a block comes down the stage in the step in which it turns round; not in a ring."""
    return stage.reach == stage.hops and stage.position == stage.reach


def before_and_after(stage: Stage, falls: Truth) -> tuple[Truth, Truth]:
    """Whether a block comes down before weights move within a step, and whether afterwards."""
    after = at_top(stage)
    before = not after if isinstance(after, bool) else ~after
    return both(falls, before), both(falls, after)


def newest_batches(stage: Stage, flight: InFlight, blocks: int) -> tuple[Array, Array]:
    """Numbers of the last batch that has come down whole, and of the last that has turned round.

    Args:
        stage: the stage.
        flight: buffers.
        blocks: of a batch.
    """
    at = passing(stage, flight.steps)
    return at.falling // blocks - 1, at.turning // blocks - 1


def spread(like: LayerGroups, lower: T, last: T) -> LayerGroups:
    """One thing for all groups of layers but the last."""
    edge = None if like.edge is None else lower
    return LayerGroups(lower, tuple(lower for _ in like.stacks), edge, last)


def batch_left(
    flight: InFlight, lower: Array | int, last: Array | int, blocks: int
) -> LayerGroups | LeftRows:
    """p and r of the blocks of a batch; in groups, as functions that read them when called.

    Args:
        flight: buffers.
        lower: the number of the first of these blocks, for all layers but the last.
        last: the same for the last layer.
        blocks: how many.
    """

    def read(slots: Array, first: Array | int = lower) -> Array:
        if slots.shape[1] == blocks:  # where they lie in order
            taken = slots
        else:
            taken = lax.dynamic_slice_in_dim(slots, first % slots.shape[1], blocks, axis=1)
        return taken.reshape(len(taken), -1, taken.shape[-1])

    x, saved, p_last, r_last = flight.blocks.x, flight.saved, flight.p_last, flight.r_last
    assert p_last is not None
    assert r_last is not None
    if isinstance(saved, PaddedSaved):
        p, r = jax.tree.map(read, (saved.p, flight.r))
        return LeftRows(read(x), p, r, read(p_last, last), read(r_last, last))
    assert isinstance(flight.r, LayerGroups)

    def reader(p: Array, r: Array) -> Callable[[], Passed]:
        return lambda: Passed(read(p), read(r))

    p = LayerGroups(x, tuple(one.p for one in saved.stacks), saved.edge.p, None)
    left = jax.tree.map(reader, p, flight.r)
    return left._replace(last=lambda: Passed(read(p_last, last), read(r_last, last)))


def batch_number(flight: InFlight, first: Array | int, blocks: int, dtype: Any) -> Array:
    """How many samples of so many blocks count, from the one of this number on."""
    x, _, valid = flight.blocks
    if valid is None:
        return jnp.asarray(blocks * x.shape[2], dtype)
    taken = lax.dynamic_slice_in_dim(valid, first % valid.shape[1], blocks, axis=1)
    return jnp.sum(taken, dtype=dtype)


def exchange(stage: Stage, flight: InFlight) -> tuple[Array, Array]:
    """What the stages below and above have sent."""
    collectives, up, down = stage.collectives, flight.up[0], flight.down[0]
    send = partial(transfer, message_dtype=collectives.message_dtype)
    if collectives.swap is not None:
        received = send(choose(stage.position == 0, up, down), collectives.swap)
        return received, received  # from the only neighbour, wherever that is
    return send(up, collectives.shift_up), send(down, collectives.shift_down)


def enter(
    stage: Stage, flight: InFlight, rows: Array, batches: Batches, entering: Array
) -> tuple[InFlight, Array]:
    """Saves the samples of the block that enters, and returns its x where the first layer is."""
    vary, t, slots = stage.collectives.vary, flight.steps, flight.blocks
    empty = jnp.zeros(slots.x.shape[2:], slots.x.dtype)
    x = where(stage, stage.holds_first & entering, lambda _: batches.inputs(rows), empty)
    x_slots = lax.cond(
        stage.holds_first & entering, lambda: put(slots.x, x[None], t), lambda: slots.x
    )

    def enter() -> tuple[Array, Array | None]:
        kept, valid = slots.valid, batches.valid(rows)
        if kept is not None:
            kept = put(kept, vary(jnp.ones(rows.shape, bool) if valid is None else valid)[None], t)
        return put(slots.y, vary(batches.data.y[rows])[None], t), kept

    y, valid = lax.cond(entering, enter, lambda: (slots.y, slots.valid))
    return flight._replace(blocks=Block(x_slots, y, valid)), x


def keep_batch(
    flight: InFlight,
    r: LayerGroups | Rows,
    r_last: Array,
    p_last: Array,
    falls: Truth,
    falling: Array,
    turns: Truth,
    turning: Array,
) -> InFlight:
    """Keeps r of a block, and p of the last layer, until all of its batch have come down."""
    last = flight.r_last, flight.p_last
    last = when(turns, lambda old: put(old, (r_last, p_last), turning), last)
    return keep_r(flight, r, falls, falling)._replace(r_last=last[0], p_last=last[1])


def keep_r(flight: InFlight, r: LayerGroups | Rows, falls: Truth, falling: Array) -> InFlight:
    """Keeps r of the layers but the last."""
    return flight._replace(r=when(falls, lambda old: put(old, r, falling), flight.r))


def _left(flight: InFlight, r: LayerGroups, p_last: Array, falling: Array) -> LayerGroups:
    """p and r of the block that came down and of the one that turned round."""

    def reader(p: Array, r: Array) -> Callable[[], Passed]:
        return lambda: Passed(take(p, falling), r)

    saved = flight.saved
    assert isinstance(saved, LayerGroups)
    p = LayerGroups(flight.blocks.x, tuple(one.p for one in saved.stacks), saved.edge.p, None)
    found = jax.tree.map(reader, p, r._replace(last=None))
    return found._replace(last=lambda: Passed(p_last[None], r.last))


def block_of(flight: InFlight, index: Array, x: Array) -> Block:
    """The samples of a block, but for x, which only the first layer needs."""
    taken = jax.tree.map(lambda rows: rows[0], take(flight.blocks._replace(x=None), index))
    return taken._replace(x=x)


def put(slots: T, rows: Any, block: Array) -> T:
    """Puts what belongs to a block into its slots, of every array of a pytree."""
    return jax.tree.map(
        lambda slots, rows: lax.dynamic_update_index_in_dim(slots, rows, block % slots.shape[1], 1),
        slots,
        rows,
    )


def take(slots: T, block: Array) -> T:
    """What belongs to a block, out of its slots."""
    return jax.tree.map(
        lambda slots: lax.dynamic_index_in_dim(slots, block % slots.shape[1], 1, keepdims=False),
        slots,
    )


def no_descent(saved: Any, u: Array) -> Descended:
    """What comes of no block, given what layers save of one, or its shapes."""
    first = jnp.zeros_like(saved.edge.a)
    edge = None if saved.edge.p is None else first
    stacks = tuple(jnp.zeros_like(one.a) for one in saved.stacks)
    return Descended(first, stacks, edge, jnp.zeros_like(u), jnp.zeros((), u.dtype))
