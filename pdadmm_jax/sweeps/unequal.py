"""A pipeline step of stages whose layers differ in shape (``parallel.packing``).

What it does is what ``pipeline.pipeline_step`` does.  But only the mathematics is in the stages'
branches: buffers stay outside, for what a branch is given and returns is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Bool, Float, Int
from pdadmm_jax.parallel.forward import Saved, climb
from pdadmm_jax.parallel.groups import LayerGroups
from pdadmm_jax.parallel.packing import (
    AnyGroups,
    Rows,
    fit,
    message_widths,
    on_stage,
    padded,
    widest,
)
from pdadmm_jax.parallel.stage import Stage, both, choose, when, where
from pdadmm_jax.sweeps.layers import BatchMetrics, Descended, descend, turn
from pdadmm_jax.sweeps.pipeline import (
    InFlight,
    LeftRows,
    PaddedSaved,
    Step,
    block_of,
    enter,
    exchange,
    keep_batch,
    no_descent,
    put,
    take,
)
from pdadmm_jax.sweeps.samples import Batches
from pdadmm_jax.sweeps.weight_update import PassConfig, Passed

T = TypeVar("T")


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
    newest: AnyGroups,
    older: AnyGroups | None,
    entered: Int[Array, ""] | int,
    config: PassConfig,
) -> tuple[InFlight, Step]:
    """One block up, another one down.

    Args:
        stage: one of several.
        flight: buffers; ``steps`` is the number of this step.
        rows: of the block that enters.
        batches: where the rows are from.
        blocks: how many enter before the pipeline is emptied; None for no end.
        newest: weights that blocks meet.
        older: those that blocks meet which entered before the last update; None if they meet the
            newest too.
        entered: steps since the last update.
        config: numbers and structure.
    """
    t, received = flight.steps, exchange(stage, flight)
    rising, turning = t - stage.position, t - stage.reach
    falling = t - 2 * stage.reach + stage.position

    def under_way(block: Array) -> Bool[Array, ""]:
        return (block >= 0) if blocks is None else (block >= 0) & (block < blocks)

    flight, x = enter(stage, flight, rows, batches, under_way(t))
    rising_block, turning_block, falling_block = (
        block_of(flight, block, x) for block in (rising, turning, falling)
    )
    rises, falls = under_way(rising), under_way(falling)
    turns = both(stage.holds_last, under_way(turning))
    saved, width = take(flight.saved, falling), flight.up.shape[-1]
    assert isinstance(saved, PaddedSaved)

    def advance(
        own: Stage, _: None, newest: LayerGroups, older: LayerGroups | None
    ) -> tuple[None, _Advanced]:
        below, above = (fit(*pair) for pair in zip(received, message_widths(own), strict=True))
        met = _saved_apart(own, saved)

        def meets(steps: int, function: Callable[[LayerGroups], T]) -> T:
            if older is None:
                return function(newest)
            return lax.cond(entered >= steps, partial(function, newest), partial(function, older))

        def rise(weights: LayerGroups) -> tuple[LayerGroups, Array]:
            edge, stacks, up = climb(
                own,
                weights,
                below,
                x,
                config.activation,
                config.precision,
                config.residual_block,
                rising_block.keep,
            )
            return LayerGroups(None, stacks, Saved(None, edge.a), None), fit(up, width)

        nothing = jax.tree.map(jnp.zeros_like, (met, received[0]))
        new, up = where(own, rises, lambda _: meets(own.known_index, rise), nothing)
        if own.position == own.reach:
            met = new  # the block turns here and comes down at once

        last = newest.last
        if older is not None:
            last = choose(entered >= own.reach, last, older.last)
        p_last = fit(choose(own.last_on_stack, up, fit(below, width))[0], last.W.shape[-2])
        here = both(own.holds_last, under_way(turning))
        turned = turn(own, last, p_last, turning_block, config, here)
        u = choose(own.last_on_stack, turned.u, above)

        def fall(weights: LayerGroups) -> Descended:
            found = descend(own, weights, u, met.edge, met.stacks, falling_block, config)
            return found._replace(u=fit(found.u, width))

        steps_down = 2 * own.reach - own.known_index
        down = where(own, falls, lambda _: meets(steps_down, fall), no_descent(met, received[0]))
        only_last = own.holds_last and not own.skips_edge
        unconverged = turned.metrics.unconverged + down.unconverged
        found = _Advanced(
            saved=_padded_saved(own, new),
            up=up,
            down=fit(turned.u, width) if only_last else down.u,
            p=_padded_saved(own, met).p,
            r=_outputs_padded(own, down.first, down.stacks),
            p_last=fit(p_last, own.plan.widths[-2])[None],
            r_last=turned.r,
            metrics=turned.metrics._replace(unconverged=unconverged),
        )
        return None, own.collectives.vary(found)

    _, found = on_stage(stage, advance, None, newest, older)
    flight = flight._replace(
        up=choose(rises, found.up[None], flight.up),
        down=found.down[None],
        saved=when(rises, lambda old: put(old, found.saved, rising), flight.saved),
        steps=t + 1,
    )
    left = LeftRows(take(flight.blocks.x, falling), found.p, found.r, found.p_last, found.r_last)
    if flight.r is not None:
        flight = keep_batch(
            flight, found.r, found.r_last, found.p_last, falls, falling, turns, turning
        )
    return flight, Step(left, (falls, turns), found.metrics)


def in_groups(stage: Stage, left: LayerGroups | LeftRows) -> LayerGroups:
    """What blocks have left, in the groups of a stage, as functions that return it."""
    if isinstance(left, LayerGroups):
        return left
    plan = stage.plan
    p = map(fit, left.p, map(plan.n_in, plan.stacks[stage.known_index]))
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
    p = map(fit, saved.p, map(plan.n_in, plan.stacks[stage.known_index]))
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
    found = list(map(fit, rows, map(plan.n_out, plan.lower[stage.known_index])))
    if stage.holds_first:
        return found[0], found[1:]
    return jnp.zeros((*rows[0].shape[:-1], plan.n_out(1)), rows[0].dtype), found
