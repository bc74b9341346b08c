"""A pipeline step of stages whose layers differ in shape (``parallel.packing``).

What it does is what ``pipeline.pipeline_step`` does.  But only the mathematics is in the stages'
branches: buffers stay outside, for what a branch is given and returns is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Float, Int
from pdadmm_jax.parallel.forward import Saved
from pdadmm_jax.parallel.groups import LayerGroups
from pdadmm_jax.parallel.packing import (
    Rows,
    fit,
    message_widths,
    on_stage,
    padded,
    unpadded,
    widest,
)
from pdadmm_jax.parallel.stage import Stage, Truth, both, choose, when, where
from pdadmm_jax.sweeps.layers import BatchMetrics, Descended, ascend, descend, turn
from pdadmm_jax.sweeps.pipeline import (
    InFlight,
    LeftRows,
    Met,
    Move,
    PaddedSaved,
    Step,
    at_top,
    before_and_after,
    block_of,
    enter,
    exchange,
    keep_batch,
    keep_r,
    no_descent,
    passing,
    put,
    take,
    under_way,
)
from pdadmm_jax.sweeps.samples import Batches
from pdadmm_jax.sweeps.weight_update import PassConfig, Passed


class _Down(NamedTuple):
    """What comes of a block that comes down a stage.

    Attributes:
        u: what passes to the stage below.
        r: nu (z - a) of all layers but the last.
        unconverged: layers whose problems hit their iteration limit.
    """

    u: Float[Array, "arrays rows h"]
    r: Rows
    unconverged: Array


class _Advanced(NamedTuple):
    """What comes of a pipeline step in a stage.

    Attributes:
        saved: of the block going up.
        up: what passes to the stage above.
        down: what passes to the stage below.
        p: of the hidden layers, of the block coming down.
        r: nu (z - a) of all layers but the last, of the same.
        p_last: inputs of the last layer, of the block turning round.
        r_last: its nu (z - a).
        metrics: of the blocks that turned round or came down.
    """

    saved: PaddedSaved
    up: Float[Array, "arrays rows h"]
    down: Float[Array, "arrays rows h"]
    p: Rows
    r: Rows
    p_last: Float[Array, "1 rows _h"]
    r_last: Float[Array, "1 rows C"]
    metrics: BatchMetrics


def unequal_step(
    stage: Stage,
    flight: InFlight,
    rows: Int[Array, " rows"],
    batches: Batches,
    blocks: int | None,
    met: Met,
    config: PassConfig,
    move: Move | None = None,
) -> tuple[InFlight, Step]:
    """One block up, another one down; ``pipeline_step`` has the arguments."""
    t, received = flight.steps, exchange(stage, flight)
    rising, turning, falling = passing(stage, t)
    flight, x = enter(stage, flight, rows, batches, under_way(t, blocks))
    rising_block, turning_block, falling_block = (
        block_of(flight, block, x) for block in (rising, turning, falling)
    )
    rises, falls = under_way(rising, blocks), under_way(falling, blocks)
    turns = both(stage.holds_last, under_way(turning, blocks))
    saved, width = take(flight.saved, falling), flight.up.shape[-1]
    down, falls_after, moved = None, falls, None

    def descended(own: Stage, coming: LayerGroups, u: Array, falls: Truth, met: Met) -> _Down:
        def fall(weights: LayerGroups) -> Descended:
            found = descend(own, weights, u, coming.edge, coming.stacks, falling_block, config)
            return found._replace(u=fit(found.u, width))

        steps_down, nothing = 2 * own.reach - own.position, no_descent(coming, received[0])
        found = where(own, falls, lambda _: met.after(steps_down, fall), nothing)
        return _Down(found.u, _outputs_padded(own, found.first, found.stacks), found.unconverged)

    def advance_down(own: Stage, _: None, met: Met) -> tuple[None, _Down]:
        above = fit(received[1], message_widths(own)[1])
        falls_before = before_and_after(own, falls)[0]
        down = descended(own, _saved_apart(own, saved), above, falls_before, met)
        return None, own.collectives.vary(down)

    if move is not None:
        _, down = on_stage(stage, advance_down, None, met)
        falls_before, falls_after = before_and_after(stage, falls)
        flight = keep_r(flight, down.r, falls_before, falling)
        met, moved = move(flight)

    def advance(own: Stage, _: None, met: Met, down: _Down | None) -> tuple[None, _Advanced]:
        below, above = (fit(*pair) for pair in zip(received, message_widths(own), strict=True))
        coming = _saved_apart(own, saved)

        def rise(weights: LayerGroups) -> tuple[LayerGroups, Array]:
            edge, stacks, up = ascend(own, weights, below, rising_block, config)
            return LayerGroups(None, stacks, Saved(None, edge.a), None), fit(up, width)

        nothing = jax.tree.map(jnp.zeros_like, (coming, received[0]))
        new, up = where(own, rises, lambda _: met.after(own.position, rise), nothing)
        if at_top(own):
            coming = new  # the block turns here and comes down at once

        last = met.last(own)
        p_last = fit(choose(own.last_on_stack, up, fit(below, width))[0], last.W.shape[-2])
        here = both(own.holds_last, under_way(turning, blocks))
        turned = turn(own, last, p_last, turning_block, config, here)
        if down is None or at_top(own):
            u = choose(own.last_on_stack, turned.u, above)
            down = descended(own, coming, u, falls, met)
        only_last = own.holds_last and not own.skips_edge
        unconverged = turned.metrics.unconverged + down.unconverged
        found = _Advanced(
            saved=_padded_saved(own, new),
            up=up,
            down=fit(turned.u, width) if only_last else down.u,
            p=_padded_saved(own, coming).p,
            r=down.r,
            p_last=fit(p_last, own.plan.widths[-2])[None],
            r_last=turned.r,
            metrics=turned.metrics._replace(unconverged=unconverged),
        )
        return None, own.collectives.vary(found)

    _, found = on_stage(stage, advance, None, met, down)
    flight = flight._replace(
        up=choose(rises, found.up[None], flight.up),
        down=found.down[None],
        saved=when(rises, lambda old: put(old, found.saved, rising), flight.saved),
        steps=t + 1,
    )
    left = LeftRows(take(flight.blocks.x, falling), found.p, found.r, found.p_last, found.r_last)
    if flight.r is not None:
        flight = keep_batch(
            flight, found.r, found.r_last, found.p_last, falls_after, falling, turns, turning
        )
    return flight, Step(left, (falls, turns), found.metrics, moved)


def in_groups(stage: Stage, left: LayerGroups | LeftRows) -> LayerGroups:
    """What blocks have left, in the groups of a stage, as functions that return it."""
    if isinstance(left, LayerGroups):
        return left
    plan = stage.plan
    p = unpadded(left.p, plan.stacks[stage.known_index], plan.n_in)
    first, stacks = _outputs_apart(stage, left.r)

    def later(p: Array, r: Array) -> Callable[[], Passed]:
        return lambda: Passed(p, r)

    hidden = tuple(map(later, p, stacks))
    return LayerGroups(later(left.x, first), hidden, None, later(left.p_last, left.r_last))


def _padded_saved(stage: Stage, saved: LayerGroups) -> PaddedSaved:
    """What layers have saved on the way up, as it is kept."""
    plan = stage.plan
    a, p = [one.a for one in saved.stacks], [one.p for one in saved.stacks]
    inputs = padded(p, widest(plan.stacks, plan.n_in), saved.edge.a)
    return PaddedSaved(inputs, _outputs_padded(stage, saved.edge.a, a))


def _saved_apart(stage: Stage, saved: PaddedSaved) -> LayerGroups:
    """``_padded_saved``, reversed."""
    plan = stage.plan
    p = unpadded(saved.p, plan.stacks[stage.known_index], plan.n_in)
    first, a = _outputs_apart(stage, saved.a)
    return LayerGroups(None, tuple(map(Saved, p, a)), Saved(None, first), None)


def _outputs_padded(stage: Stage, first: Array, stacks: Sequence[Array]) -> Rows:
    """Arrays of the first layer, if the stage holds it, and of its hidden ones."""
    plan = stage.plan
    held = [first] * bool(stage.holds_first)
    return padded([*held, *stacks], widest(plan.lower, plan.n_out), first)


def _outputs_apart(stage: Stage, rows: Rows) -> tuple[Array, list[Array]]:
    """The same, reversed; zeros for the first layer if the stage does not hold it."""
    plan = stage.plan
    found = unpadded(rows, plan.lower[stage.known_index], plan.n_out)
    if stage.holds_first:
        return found[0], found[1:]
    return jnp.zeros((*rows[0].shape[:-1], plan.n_out(1)), rows[0].dtype), found
