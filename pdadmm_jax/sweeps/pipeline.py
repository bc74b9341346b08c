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
from pdadmm_jax.parallel.forward import Climbed, Saved, climb
from pdadmm_jax.parallel.groups import LayerGroups, Weights, map_groups
from pdadmm_jax.parallel.packing import AnyGroups, Packed, Rows, fit, message_widths, widest
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.parallel.stage import Stage, Truth, both, choose, when, where
from pdadmm_jax.problems.residual import arrays
from pdadmm_jax.sweeps.columns import PaddedSaved, kept_r, kept_saved, r_apart, saved_apart
from pdadmm_jax.sweeps.layers import BatchMetrics, Descended, descend, turn
from pdadmm_jax.sweeps.samples import Batches, Block
from pdadmm_jax.sweeps.weight_update import PassConfig, Passed

T = TypeVar("T")


class InFlight(NamedTuple):
    """A stage's buffers.

    Block i is in slot i modulo their number.

    Attributes:
        steps: pipeline steps since the pipeline was empty.
        up: what passes up to the stage above (``residual``).
        down: what passes down to the stage below.
        blocks: the samples.
        saved: p and a of the hidden layers, and a of the first one; padded where stages hold layers
            of different shapes (``columns``).
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
    saved: LayerGroups | PaddedSaved
    r: LayerGroups | Rows | None
    r_last: Float[Array, "1 slots rows C"] | None
    p_last: Float[Array, "1 slots rows _h"] | None
    previous: AnyGroups | None


def nothing_in_flight(
    weights: AnyGroups,
    plan: Plan,
    blocks: Block,
    residual_block: int,
    *,
    keep_batch: bool,
    keep_weights: bool,
) -> InFlight:
    """Empty buffers.

    Args:
        weights: groups as high as the buffers are to be.
        plan: of the stages.
        blocks: empty slots of samples.
        residual_block: hidden layers of a residual block; 0 for a plain chain.
        keep_batch: whether r and the last layer's p are kept.
        keep_weights: whether the weights before the last update are.
    """
    n, slots, rows, _ = blocks.x.shape
    dtype = blocks.x.dtype

    def zeros(width: int, n: int = n) -> Array:
        return jnp.zeros((n, slots, rows, width), dtype)

    def outputs(of: Weights) -> Array:
        return zeros(of.W.shape[-1], of.W.shape[0])

    if isinstance(weights, Packed):
        r = tuple(map(zeros, widest(plan.lower, plan.n_out)))
        saved = PaddedSaved(tuple(map(zeros, widest(plan.stacks, plan.n_in))), r)
    else:
        a = outputs(weights.first)
        p_edge = None if weights.edge is None else a
        stacks = tuple(Saved(outputs(stack), outputs(stack)) for stack in weights.stacks)
        saved = LayerGroups(None, stacks, Saved(p_edge, a), None)
        r = map_groups(outputs, weights)._replace(last=None)
    message = jnp.zeros((n, arrays(residual_block), rows, max(plan.widths[1:-1])), dtype)
    return InFlight(
        steps=jnp.zeros((), jnp.int32),
        up=message,
        down=message,
        blocks=blocks,
        saved=saved,
        r=r if keep_batch else None,
        r_last=zeros(plan.widths[-1]) if keep_batch else None,
        p_last=zeros(plan.widths[-2]) if keep_batch else None,
        previous=weights if keep_weights else None,
    )


class Step(NamedTuple):
    """What a pipeline step leaves in a stage, beside the buffers.

    Attributes:
        left: p and r of every group of layers, as functions that read them where they are needed.
        moving: whether a block came down to every group.
        metrics: of the blocks that turned round or came down.
    """

    left: LayerGroups
    moving: LayerGroups
    metrics: BatchMetrics


Meet = Callable[[Callable[[LayerGroups], T]], T]


def pipeline_step(
    stage: Stage,
    flight: InFlight,
    received: tuple[Array, Array],
    rows: Int[Array, " rows"],
    batches: Batches,
    blocks: int | None,
    rising_meets: Meet[Any],
    falling_meets: Meet[Any],
    last: Weights,
    config: PassConfig,
) -> tuple[InFlight, Step]:
    """One block up, another one down.

    Args:
        stage: one of several.
        flight: buffers; ``steps`` is the number of this step.
        received: what the stages below and above have sent (``exchange``).
        rows: of the block that enters.
        batches: where the rows are from.
        blocks: how many enter before the pipeline is emptied; None for no end.
        rising_meets: calls a function with the weights that the block going up meets.
        falling_meets: the same for the block coming down.
        last: weights that the block turning round meets.
        config: numbers and structure.
    """
    collectives, t = stage.collectives, flight.steps
    rising, turning = t - stage.position, t - stage.reach
    falling = t - 2 * stage.reach + stage.position

    def under_way(block: Array) -> Bool[Array, ""]:
        return (block >= 0) if blocks is None else (block >= 0) & (block < blocks)

    width = flight.up.shape[-1]
    below, above = (fit(*pair) for pair in zip(received, message_widths(stage), strict=True))
    flight, x = _enter(stage, flight, rows, batches, under_way(t))

    has_edge = any(stage.plan.edge_hidden)

    # Up, from the layer that the stage below has come to.
    keep = _block(flight, rising, x).keep

    def up(weights: LayerGroups) -> Climbed:
        found = climb(
            stage,
            weights,
            below,
            x,
            config.activation,
            config.precision,
            config.residual_block,
            keep,
        )
        return collectives.vary(found)

    def rise() -> InFlight:
        edge, stacks, sent = rising_meets(up)
        if not has_edge:
            edge = edge._replace(p=None)
        saved = kept_saved(stage, LayerGroups(None, stacks, edge, None))
        put = partial(_put, block=rising)
        sent = fit(sent, width)[None]
        return flight._replace(up=sent, saved=jax.tree.map(put, flight.saved, saved))

    flight = lax.cond(under_way(rising), rise, lambda: flight)

    # The last layer, where a block turns.
    p_last = choose(stage.last_on_stack, flight.up[0], fit(below, width))[0]
    p_last = fit(p_last, last.W.shape[-2])
    turns = both(stage.holds_last, under_way(turning))
    turning_block = _block(flight, turning, x)
    turned = turn(stage, last, p_last, turning_block, config, turns)

    # Down, from the layer that the stage above has come to.
    u = choose(stage.last_on_stack, turned.u, above)
    falling_block = _block(flight, falling, x)

    def fall(weights: LayerGroups) -> Descended:
        saved = _taken(stage, flight.saved, falling)
        found = descend(stage, weights, u, saved.edge, saved.stacks, falling_block, config)
        return found._replace(u=fit(found.u, width))

    falls = under_way(falling)
    nothing = _no_descent(_taken(stage, flight.saved, falling), flight.down[0])
    down = where(stage, falls, lambda _: falling_meets(fall), nothing)
    lowest_is_last = jnp.logical_and(stage.holds_last, jnp.logical_not(stage.skips_edge))
    message = choose(lowest_is_last, fit(turned.u, width), down.u)
    flight = flight._replace(down=message[None], steps=t + 1)

    r = LayerGroups(down.first, down.stacks, down.edge, turned.r)
    if flight.r is not None:
        flight = _keep_batch(stage, flight, r, p_last, falls, falling, turns, turning)
    metrics = turned.metrics
    metrics = metrics._replace(unconverged=metrics.unconverged + down.unconverged)
    return flight, Step(
        left=_left(stage, flight, r, p_last, falling),
        moving=spread(r, falls, turns),
        metrics=metrics,
    )


def newest_batches(stage: Stage, flight: InFlight, blocks: int) -> tuple[Array, Array]:
    """Numbers of the last batch that has come down whole, and of the last that has turned round.

    Args:
        stage: the stage.
        flight: buffers.
        blocks: of a batch.
    """
    down = flight.steps - 2 * stage.reach + stage.position
    turned = flight.steps - stage.reach
    return down // blocks - 1, turned // blocks - 1


def spread(like: LayerGroups, lower: T, last: T) -> LayerGroups:
    """One thing for all groups of layers but the last."""
    edge = None if like.edge is None else lower
    return LayerGroups(lower, tuple(lower for _ in like.stacks), edge, last)


def batch_left(
    stage: Stage, flight: InFlight, lower: Array | int, last: Array | int, blocks: int
) -> LayerGroups:
    """p and r of the blocks of a batch, as functions that read them where they are needed.

    Args:
        stage: the stage.
        flight: buffers.
        lower: the slot of the first of these blocks, for all layers but the last.
        last: the same for the last layer.
        blocks: how many.
    """

    def rows(slots: Array, first: Array | int) -> Array:
        taken = lax.dynamic_slice_in_dim(slots, first, blocks, axis=1)
        return taken.reshape(len(taken), -1, taken.shape[-1])

    p_last, r_last = flight.p_last, flight.r_last
    assert p_last is not None
    assert r_last is not None
    read = partial(rows, first=lower)
    r = _r_of_lower(stage, flight, read)._replace(last=lambda: rows(r_last, last))
    p = _inputs(stage, flight, read)._replace(last=lambda: rows(p_last, last))
    return map_groups(_passed, p, r)


def batch_number(flight: InFlight, first: Array | int, blocks: int, dtype: Any) -> Array:
    """How many samples of a batch's blocks count."""
    x, _, valid = flight.blocks
    if valid is None:
        return jnp.asarray(blocks * x.shape[2], dtype)
    taken = lax.dynamic_slice_in_dim(valid, first, blocks, axis=1)
    return jnp.sum(taken, dtype=dtype)


def exchange(stage: Stage, flight: InFlight) -> tuple[Array, Array]:
    """What the stages below and above have sent."""
    collectives, up, down = stage.collectives, flight.up[0], flight.down[0]
    send = partial(transfer, message_dtype=collectives.message_dtype)
    if collectives.swap is not None:
        received = send(choose(stage.position == 0, up, down), collectives.swap)
        return received, received  # from the only neighbour, wherever that is
    return send(up, collectives.shift_up), send(down, collectives.shift_down)


def _enter(
    stage: Stage, flight: InFlight, rows: Array, batches: Batches, entering: Array
) -> tuple[InFlight, Array]:
    """Saves the samples of the block that enters, and returns its x where the first layer is."""
    vary, t, slots = stage.collectives.vary, flight.steps, flight.blocks
    empty = jnp.zeros(slots.x.shape[2:], slots.x.dtype)
    x = where(stage, stage.holds_first & entering, lambda _: batches.inputs(rows), empty)
    x_slots = lax.cond(
        stage.holds_first & entering, lambda: _put(slots.x, x[None], t), lambda: slots.x
    )

    def enter() -> tuple[Array, Array | None]:
        kept, valid = slots.valid, batches.valid(rows)
        if kept is not None:
            kept = _put(kept, vary(jnp.ones(rows.shape, bool) if valid is None else valid)[None], t)
        return _put(slots.y, vary(batches.data.y[rows])[None], t), kept

    y, valid = lax.cond(entering, enter, lambda: (slots.y, slots.valid))
    return flight._replace(blocks=Block(x_slots, y, valid)), x


def _keep_batch(
    stage: Stage,
    flight: InFlight,
    r: LayerGroups,
    p_last: Array,
    falls: Truth,
    falling: Array,
    turns: Truth,
    turning: Array,
) -> InFlight:
    """Keeps r of a block, and p of the last layer, until all of its batch have come down."""
    lower = kept_r(stage, r)

    def keep_lower(old: Any) -> Any:
        return jax.tree.map(partial(_put, block=falling), old, lower)

    def keep_last(old: Any) -> Any:
        return _put(old[0], r.last, turning), _put(old[1], p_last[None], turning)

    kept = when(falls, keep_lower, flight.r)
    r_last, p_last = when(turns, keep_last, (flight.r_last, flight.p_last))
    return flight._replace(r=kept, r_last=r_last, p_last=p_last)


def _left(
    stage: Stage, flight: InFlight, r: LayerGroups, p_last: Array, falling: Array
) -> LayerGroups:
    """p and r of the block that came down and of the one that turned round."""
    p = _inputs(stage, flight, partial(_take, block=falling))
    p = p._replace(last=lambda: p_last[None])
    return map_groups(_passed, p, map_groups(lambda rows: lambda: rows, r))


def _passed(p: Callable[[], Array], r: Callable[[], Array]) -> Callable[[], Passed]:
    return lambda: Passed(p(), r())


def _inputs(stage: Stage, flight: InFlight, read: Callable[[Array], Array]) -> LayerGroups:
    """Inputs of every group of layers but the last, as functions that read them out of slots."""
    saved, x = flight.saved, flight.blocks.x
    if isinstance(saved, LayerGroups):
        p = LayerGroups(x, tuple(one.p for one in saved.stacks), saved.edge.p, None)
        return jax.tree.map(lambda slots: partial(read, slots), p)
    found = saved_apart(stage, jax.tree.map(read, saved))
    p = LayerGroups(read(x), tuple(one.p for one in found.stacks), None, None)
    return jax.tree.map(lambda rows: lambda: rows, p)


def _r_of_lower(stage: Stage, flight: InFlight, read: Callable[[Array], Array]) -> LayerGroups:
    """The same of r."""
    if isinstance(flight.r, LayerGroups):
        return jax.tree.map(lambda slots: partial(read, slots), flight.r)
    assert flight.r is not None
    return jax.tree.map(lambda rows: lambda: rows, r_apart(stage, tuple(map(read, flight.r))))


def _block(flight: InFlight, index: Array, x: Array) -> Block:
    """The samples of a block, but for x, which only the first layer needs."""
    taken = jax.tree.map(lambda slots: _take(slots, index)[0], flight.blocks._replace(x=None))
    return taken._replace(x=x)


def _put(slots: Array, rows: Array, block: Array) -> Array:
    return lax.dynamic_update_index_in_dim(slots, rows, block % slots.shape[1], 1)


def _taken(stage: Stage, saved: LayerGroups | PaddedSaved, block: Array) -> LayerGroups:
    """What the layers of a stage have saved of a block."""
    return saved_apart(stage, jax.tree.map(partial(_take, block=block), saved))


def _take(slots: Array, block: Array) -> Array:
    return lax.dynamic_index_in_dim(slots, block % slots.shape[1], 1, keepdims=False)


def _no_descent(saved: LayerGroups, u: Array) -> Descended:
    """What comes of no block."""
    first = jnp.zeros_like(saved.edge.a)
    edge = None if saved.edge.p is None else first
    stacks = tuple(jnp.zeros_like(one.a) for one in saved.stacks)
    return Descended(first, stacks, edge, jnp.zeros_like(u), jnp.zeros((), u.dtype))
