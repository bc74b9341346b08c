"""Schedules: in which order batches pass through the stages, and which weights they meet.

On a single stage there is nothing to wait for, and all schedules are the synchronous one.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array
from pdadmm_jax.parallel.forward import Saved
from pdadmm_jax.parallel.groups import LayerGroups, map_groups
from pdadmm_jax.parallel.packing import AnyGroups, Packed, on_stage, zeros_of
from pdadmm_jax.parallel.stage import Stage, Truth, both, when
from pdadmm_jax.sweeps.layers import BatchMetrics, ascend, descend, turn
from pdadmm_jax.sweeps.pipeline import (
    InFlight,
    LeftRows,
    Met,
    Move,
    Step,
    batch_left,
    batch_number,
    newest_batches,
    nothing_in_flight,
    pipeline_step,
    spread,
)
from pdadmm_jax.sweeps.rules import LayerStatistics, RuleState
from pdadmm_jax.sweeps.samples import Batches, Block
from pdadmm_jax.sweeps.stream import EMPTIED
from pdadmm_jax.sweeps.unequal import in_groups, unequal_step
from pdadmm_jax.sweeps.weight_update import (
    PassConfig,
    Passed,
    apply_rule,
    apply_rule_to_all,
    layer_sums,
    layers_held,
    no_sums,
)

T = TypeVar("T")
Carry = tuple[Any, RuleState, InFlight | None]


class ScheduleConfig(PassConfig, Protocol):
    """What a schedule has to know."""

    @property
    def schedule(self) -> str: ...

    @property
    def batch(self) -> int | None: ...

    @property
    def block(self) -> int: ...

    @property
    def microbatches(self) -> int | None: ...


def run_pass(
    stage: Stage, carry: Carry, batches: Batches, config: ScheduleConfig
) -> tuple[Carry, BatchMetrics]:
    """Passes all batches through a stage.

    Args:
        stage: the stage.
        carry: weights, the rule's state, and what is in flight.
        batches: the samples.
        config: numbers and structure.

    Returns:
        The new carry, and metrics, (updates,) each: of what turned round or came down in the time
        of each batch.
    """
    if not stage.reach:
        schedule = _alone
    elif config.schedule in EMPTIED:
        schedule = _synchronous
    else:
        schedule = _without_waiting
    return schedule(stage, carry, batches, config)


def _alone(
    stage: Stage, carry: Carry, batches: Batches, config: ScheduleConfig
) -> tuple[Carry, BatchMetrics]:
    """A single stage: batch by batch, block by block."""

    def pass_block(weights: LayerGroups, block: Block) -> tuple[LayerGroups, BatchMetrics]:
        edge, stacks, up = ascend(stage, weights, None, block, config)
        last = turn(stage, weights.last, up[0], block, config, here=True)
        down = descend(stage, weights, last.u, edge, stacks, block, config)
        left = LayerGroups(
            Passed(block.x[None], down.first),
            tuple(map(_passed, stacks, down.stacks)),
            None,
            Passed(up[:1], last.r),
        )
        unconverged = last.metrics.unconverged + down.unconverged
        return left, last.metrics._replace(unconverged=unconverged)

    def one_batch(carry: Any, rows: Array) -> tuple[Any, BatchMetrics]:
        weights, rule_state = carry
        if len(rows) == 1:
            left, metrics = pass_block(weights, batches.block(rows[0]))
            batch = map_groups(lambda one: partial(layer_sums, one, config), left)
        else:

            def one_block(totals: LayerGroups, rows: Array) -> tuple[LayerGroups, BatchMetrics]:
                left, metrics = pass_block(weights, batches.block(rows))
                new = map_groups(partial(layer_sums, config=config), left)
                return jax.tree.map(jnp.add, totals, new), metrics

            nothing = map_groups(partial(no_sums, config=config), weights)
            nothing = stage.collectives.vary(nothing)
            totals, every = lax.scan(one_block, nothing, rows)
            metrics, batch = jax.tree.map(jnp.sum, every), _known(totals)
        total = stage.collectives.samples.total(metrics.number)
        active = True if batches.complete else total > 0
        moved = apply_rule_to_all(stage, weights, rule_state, batch, total, active, config)
        return moved, metrics

    weights, rule_state, _ = carry
    (weights, rule_state), metrics = lax.scan(one_batch, (weights, rule_state), batches.rows)
    return (weights, rule_state, None), metrics


def _synchronous(
    stage: Stage, carry: Carry, batches: Batches, config: ScheduleConfig
) -> tuple[Carry, BatchMetrics]:
    """All blocks of a batch meet the same weights, which move when nothing is in flight.

    The products p^T r need no neighbour: they take all blocks at once when the last has come down.
    With "zero_bubble" a stage makes those of the first R blocks one by one, while the last blocks
    are in other stages.
    """
    blocks = batches.rows.shape[1]
    weights, rule_state, _ = carry
    early = stage.reach if config.schedule == "zero_bubble" else 0
    # A batch of more samples than may pass at a time adds block to block as they come down, so that
    # memory does not grow with it.
    at_once = early > 0 or (config.batch is not None and config.batch <= config.block)
    slots = blocks if at_once else 2 * stage.reach + 1
    vary = stage.collectives.vary
    nothing = nothing_in_flight(
        weights,
        stage.plan,
        batches.no_blocks(slots),
        config.residual_block,
        kept=slots if at_once else 0,
        keep_weights=False,
    )
    flight = vary(nothing)._replace(steps=nothing.steps)
    no_totals = vary(_no_totals(weights, config)) if early or not at_once else None

    def advance(weights: Any, carry: tuple[InFlight, Any], rows: Array) -> tuple[Any, BatchMetrics]:
        flight, totals = carry
        t = flight.steps
        flight, step = _advance(stage, flight, rows, batches, blocks, Met(weights), config)
        if early:
            block = block_of_idle_time(t, stage.position, stage.reach, blocks)
            slot = jnp.maximum(block, 0)
            moving, left = (block >= 0, block >= 0), batch_left(flight, slot, slot, 1)
            totals = _add(stage, totals, moving, left, config)
        elif not at_once:
            totals = _add(stage, totals, step.moving, step.left, config)
        return (flight, totals), step.metrics

    def one_batch(carry: Any, rows: Array) -> tuple[Any, BatchMetrics]:
        weights, rule_state, flight = carry
        steps = jnp.concatenate([rows, jnp.full((2 * stage.reach, rows.shape[1]), -1, rows.dtype)])
        flight = flight._replace(steps=jnp.zeros((), jnp.int32))
        (flight, totals), every = lax.scan(partial(advance, weights), (flight, no_totals), steps)
        left = batch_left(flight, early, early, blocks - early) if at_once else None
        total = stage.collectives.samples.total(batches.number(rows))
        active = True if batches.complete else total > 0

        def move(stage: Stage, carry: Any, totals: Any) -> tuple[Any, None]:
            if left is None:
                batch = _known(totals)
            else:
                batch = _sums_of(in_groups(stage, left), config, totals)
            return apply_rule_to_all(stage, carry[0], carry[1], batch, total, active, config), None

        moved, _ = on_stage(stage, move, (weights, rule_state), totals)
        return (*moved, flight), jax.tree.map(jnp.sum, every)

    (weights, rule_state, _), metrics = lax.scan(
        one_batch, (weights, rule_state, flight), batches.rows
    )
    return (weights, rule_state, None), metrics


def _without_waiting(
    stage: Stage, carry: Carry, batches: Batches, config: ScheduleConfig
) -> tuple[Carry, BatchMetrics]:
    """No stage waits: while blocks of a batch are in flight, the next batch enters.

    All stages move their weights after the same pipeline step, once per batch: when one has come
    down to the lowest.  Neighbours wait for each other in every step, so that weights moved at
    another step in every stage would make all steps longer.

    With "streaming" a block meets whatever weights there are, and each stage moves them by the
    newest batch that has come down to it.

    With "one_batch_late" every batch meets the weights before the last update.  Of M >= 2 R blocks
    of a batch the last has come down everywhere 2 R steps after the next batch began to enter.
    When the weights move then, the blocks in flight go on meeting them as they were, on their way
    up and on their way down; so both are kept.  Of 2 R - 1 blocks the last comes down to the lowest
    stage in the step in which the next batch but one enters there: in that step the weights move
    in between.
    """
    blocks, round_trip = batches.rows.shape[1], 2 * stage.reach
    late = config.schedule == "one_batch_late"
    until_moved = (round_trip - 1) % blocks + 1  # steps from the first in which a batch enters

    def steps(
        newest: Any, older: Any, flight: InFlight, rows: Array, first: int = 0
    ) -> tuple[InFlight, BatchMetrics]:
        def one(flight: InFlight, entering: tuple[Array, Array]) -> tuple[InFlight, BatchMetrics]:
            entered, rows = entering
            met = Met(newest, older, entered)
            flight, step = _advance(stage, flight, rows, batches, None, met, config)
            return flight, step.metrics

        entering = first + jnp.arange(len(rows), dtype=jnp.int32), rows
        flight, metrics = lax.scan(one, flight, entering)
        return flight, jax.tree.map(jnp.sum, metrics)

    def moved(
        weights: Any,
        rule_state: RuleState,
        flight: InFlight,
        left: Any,
        numbers: tuple[Array, Array],
    ) -> tuple[Any, RuleState]:
        """Weights moved by what batches of these numbers, which have come down whole, have left."""
        lower, last = first = [number * blocks for number in numbers]
        dtype = flight.blocks.x.dtype
        own = [batch_number(flight, block, blocks, dtype) for block in first]
        counts = stage.collectives.samples.total(jnp.stack(own))
        active = [(numbers[k] >= 0) & (counts[k] > 0) for k in range(2)]
        if left is None:
            left = batch_left(flight, lower, last, blocks)

        def move(stage: Stage, carry: Any) -> tuple[Any, None]:
            batch = _sums_of(in_groups(stage, left), config)
            number = spread(carry[0], counts[0], counts[1])
            moving = spread(carry[0], active[0], active[1])
            return apply_rule(stage, carry[0], carry[1], batch, number, moving, config), None

        return on_stage(stage, move, (weights, rule_state))[0]

    def one_batch(carry: Carry, rows: Array) -> tuple[Carry, BatchMetrics]:
        weights, rule_state, flight = carry
        assert flight is not None
        older, flight = flight.previous, flight._replace(previous=None)
        left = None
        if blocks == 1:
            flight, step = _advance(stage, flight, rows[0], batches, None, Met(weights), config)
            left, metrics = step.left, step.metrics
        else:
            flight, metrics = steps(weights, older, flight, rows[:until_moved])
        numbers = newest_batches(stage, flight, blocks)
        new, rule_state = moved(weights, rule_state, flight, left, numbers)
        if blocks > until_moved:
            met = weights if late else new
            flight, more = steps(met, None, flight, rows[until_moved:])
            metrics = jax.tree.map(jnp.add, metrics, more)
        return (new, rule_state, flight._replace(previous=weights if late else None)), metrics

    def one_batch_within(carry: Carry, rows: Array) -> tuple[Carry, BatchMetrics]:
        weights, rule_state, flight = carry
        assert flight is not None
        older, flight = flight.previous, flight._replace(previous=None)

        def move(flight: InFlight) -> tuple[Met, Any]:
            number = flight.steps // blocks - 2
            held = moved(weights, rule_state, flight, None, (number, number))
            return Met(held[0], weights), held

        met = Met(weights, older, blocks)
        flight, step = _advance(stage, flight, rows[0], batches, None, met, config, move)
        (new, rule_state), metrics = step.moved, step.metrics
        if blocks > 1:
            flight, more = steps(new, weights, flight, rows[1:], first=1)
            metrics = jax.tree.map(jnp.add, metrics, more)
        return (new, rule_state, flight._replace(previous=weights)), metrics

    # What moves within a step does so in the first one of each batch.
    function = one_batch_within if late and blocks < round_trip else one_batch
    # Two batches at a time: else XLA copies what the rule keeps, or the weights, once a batch.
    return lax.scan(function, carry, batches.rows, unroll=2)


def _passed(saved: Saved, r: Array) -> Passed:
    assert saved.p is not None  # hidden layers save it
    return Passed(saved.p, r)


def block_of_idle_time(t: Any, position: Any, reach: int, blocks: int) -> Any:
    """Whose p^T r a stage makes in a pipeline step in which it takes no block up or none down.

    From step M + s on no block goes up through stage s, but until step M + R others have one; from
    step M + 2 R - s on none comes down.

    Args:
        t: the step.
        position: s.
        reach: R, of at most M / 2.
        blocks: M.

    Returns:
        One of the first R blocks, which have come down by then; negative for none.
    """
    first = jnp.where(t < blocks + position, -1, t - blocks - position)
    rest = jnp.where(t < blocks + 2 * reach - position, -1, t - blocks - reach)
    return jnp.where(t < blocks + reach, first, rest)


def _advance(
    stage: Stage,
    flight: InFlight,
    rows: Array,
    batches: Batches,
    blocks: int | None,
    met: Met,
    config: PassConfig,
    move: Move | None = None,
) -> tuple[InFlight, Step]:
    """A pipeline step, whatever the stages are; see ``pipeline_step``."""
    step = unequal_step if stage.unequal else pipeline_step
    return step(stage, flight, rows, batches, blocks, met, config, move)


def _add(
    stage: Stage,
    totals: AnyGroups,
    moving: tuple[Truth, Truth],
    left: LayerGroups | LeftRows,
    config: PassConfig,
) -> AnyGroups:
    """Adds what a block has left to the sums of its batch."""

    def on_group(held: Truth, moving: Truth, totals: Any, left: Any) -> Any:
        def add(old: Any) -> Any:
            return jax.tree.map(jnp.add, old, layer_sums(left(), config))

        return when(both(held, moving), add, totals)

    def on_own(own: Stage, totals: LayerGroups) -> tuple[LayerGroups, None]:
        held, moved = layers_held(own, totals), spread(totals, *moving)
        return map_groups(on_group, held, moved, totals, in_groups(own, left)), None

    return on_stage(stage, on_own, totals)[0]


def _sums_of(
    left: LayerGroups, config: PassConfig, totals: LayerGroups | None = None
) -> LayerGroups:
    """The sums over samples that have left p and r, where they are needed, and over others."""

    def of_group(left: Callable[[], Passed], *others: LayerStatistics) -> Any:
        return lambda: jax.tree.map(
            lambda *sums: functools.reduce(operator.add, sums), layer_sums(left(), config), *others
        )

    return map_groups(of_group, left, *([] if totals is None else [totals]))


def _no_totals(weights: AnyGroups, config: PassConfig) -> AnyGroups:
    """The sums of no samples."""
    function = partial(no_sums, config=config)
    if isinstance(weights, Packed):
        return zeros_of(function, weights)
    return map_groups(function, weights)


def _known(totals: LayerGroups) -> LayerGroups:
    """Sums that are there, in the same form."""
    return map_groups(lambda total: lambda: total, totals)
