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
from pdadmm_jax.parallel.forward import Saved, climb
from pdadmm_jax.parallel.groups import LayerGroups, alike, map_groups
from pdadmm_jax.parallel.packing import AnyGroups, Packed, on_stage, zeros_of
from pdadmm_jax.parallel.stage import Stage, Truth, both, choose, when
from pdadmm_jax.sweeps.layers import BatchMetrics, descend, turn
from pdadmm_jax.sweeps.pipeline import (
    InFlight,
    Step,
    batch_left,
    batch_number,
    exchange,
    newest_batches,
    nothing_in_flight,
    pipeline_step,
    spread,
)
from pdadmm_jax.sweeps.rules import LayerStatistics, RuleState
from pdadmm_jax.sweeps.samples import Batches, Block
from pdadmm_jax.sweeps.stream import EMPTIED
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
        edge, stacks, up = climb(
            stage,
            weights,
            None,
            block.x,
            config.activation,
            config.precision,
            config.residual_block,
            block.keep,
        )
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
        keep_batch=at_once,
        keep_weights=False,
    )
    flight = vary(nothing)._replace(steps=nothing.steps)
    no_totals = vary(_no_totals(weights, config)) if early or not at_once else None

    def one_step(
        stage: Stage,
        carry: tuple[InFlight, Any],
        weights: LayerGroups,
        received: tuple[Array, Array],
        rows: Array,
    ) -> tuple[Any, BatchMetrics]:
        flight, totals = carry
        t, meets = flight.steps, partial(_call, weights)
        flight, step = pipeline_step(
            stage, flight, received, rows, batches, blocks, meets, meets, weights.last, config
        )
        if early:
            block = block_of_idle_time(t, stage.position, stage.reach, blocks)
            moving, slot = alike(weights, block >= 0), jnp.maximum(block, 0)
            totals = _add(stage, totals, moving, batch_left(stage, flight, slot, slot, 1), config)
        elif not at_once:
            totals = _add(stage, totals, step.moving, step.left, config)
        return (flight, totals), stage.collectives.vary(step.metrics)

    def move(
        stage: Stage,
        carry: tuple[LayerGroups, RuleState],
        totals: Any,
        flight: InFlight,
        number: Array,
        active: Truth,
    ) -> tuple[Any, None]:
        if at_once:
            left = batch_left(stage, flight, early, early, blocks - early)
            batch = _sums_of(left, config, totals)
        else:
            batch = _known(totals)
        return apply_rule_to_all(stage, *carry, batch, number, active, config), None

    def one_batch(carry: Any, rows: Array) -> tuple[Any, BatchMetrics]:
        weights, rule_state, flight = carry

        def advance(carry: Any, rows: Array) -> tuple[Any, BatchMetrics]:
            received = exchange(stage, carry[0])
            step = partial(one_step, received=received, rows=rows)
            (flight, totals), metrics = on_stage(stage, step, carry, weights)
            return (_counted(flight, carry[0]), totals), metrics

        steps = jnp.concatenate([rows, jnp.full((2 * stage.reach, rows.shape[1]), -1, rows.dtype)])
        flight = flight._replace(steps=jnp.zeros((), jnp.int32))
        (flight, totals), every = lax.scan(advance, (flight, no_totals), steps)
        total = stage.collectives.samples.total(batches.number(rows))
        active = True if batches.complete else total > 0
        of_batch = partial(move, flight=flight, number=total, active=active)
        moved, _ = on_stage(stage, of_batch, (weights, rule_state), totals)
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
    up and on their way down; so both are kept.
    """
    blocks, round_trip = batches.rows.shape[1], 2 * stage.reach
    late = config.schedule == "one_batch_late"
    until_moved = (round_trip - 1) % blocks + 1  # steps from the first in which a batch enters

    def one_step(
        stage: Stage,
        flight: InFlight,
        newest: LayerGroups,
        older: LayerGroups | None,
        received: tuple[Array, Array],
        entered: Any,
        rows: Array,
    ) -> tuple[InFlight, Step]:
        """Blocks of the batch that enters meet the newest weights, others the older ones."""

        def meets(steps: Any, function: Callable[[LayerGroups], T]) -> T:
            if older is None:
                return function(newest)
            return lax.cond(entered >= steps, partial(function, newest), partial(function, older))

        last = newest.last
        if older is not None:
            last = choose(entered >= stage.reach, last, older.last)
        rising = partial(meets, stage.position)
        falling = partial(meets, round_trip - stage.position)
        return pipeline_step(
            stage, flight, received, rows, batches, None, rising, falling, last, config
        )

    def steps(
        newest: Any, older: Any, flight: InFlight, rows: Array
    ) -> tuple[InFlight, BatchMetrics]:
        def one(flight: InFlight, entering: tuple[Array, Array]) -> tuple[InFlight, BatchMetrics]:
            received = exchange(stage, flight)

            def step(
                stage: Stage, flight: InFlight, newest: LayerGroups, older: LayerGroups | None
            ) -> tuple[InFlight, BatchMetrics]:
                entered, rows = entering
                flight, step = one_step(stage, flight, newest, older, received, entered, rows)
                return flight, stage.collectives.vary(step.metrics)

            new, metrics = on_stage(stage, step, flight, newest, older)
            return _counted(new, flight), metrics

        entering = jnp.arange(len(rows), dtype=jnp.int32), rows
        flight, metrics = lax.scan(one, flight, entering)
        return flight, jax.tree.map(jnp.sum, metrics)

    def move(
        stage: Stage,
        carry: tuple[LayerGroups, RuleState],
        flight: InFlight,
        left: LayerGroups | None = None,
    ) -> tuple[Any, None]:
        """Moves the weights by what batches that have come down whole have left."""
        weights, rule_state = carry
        numbers, slots = newest_batches(stage, flight, blocks), flight.blocks.y.shape[1]
        lower, last = first = [number * blocks % slots for number in numbers]
        dtype = weights.last.W.dtype
        own = [batch_number(flight, slot, blocks, dtype) for slot in first]
        counts = stage.collectives.samples.total(jnp.stack(own))
        active = [(numbers[k] >= 0) & (counts[k] > 0) for k in range(2)]
        on_groups = partial(spread, weights)
        if left is None:
            left = batch_left(stage, flight, lower, last, blocks)
        batch = _sums_of(left, config)
        number, moving = on_groups(counts[0], counts[1]), on_groups(active[0], active[1])
        moved = apply_rule(stage, weights, rule_state, batch, number, moving, config)
        return moved, None

    def step_and_move(
        stage: Stage, carry: Carry, received: tuple[Array, Array], rows: Array
    ) -> tuple[Carry, BatchMetrics]:
        """Where every block is a batch."""
        weights, rule_state, flight = carry
        assert flight is not None
        flight, step = one_step(stage, flight, weights, None, received, 0, rows)
        moved, _ = move(stage, (weights, rule_state), flight, step.left)
        return (*moved, flight), stage.collectives.vary(step.metrics)

    def one_batch(carry: Carry, rows: Array) -> tuple[Carry, BatchMetrics]:
        weights, rule_state, flight = carry
        assert flight is not None
        if blocks == 1:
            step = partial(step_and_move, received=exchange(stage, flight), rows=rows[0])
            (*moved, new), metrics = on_stage(stage, step, carry)
            return (*moved, _counted(new, flight)), metrics
        older, flight = flight.previous, flight._replace(previous=None)
        flight, metrics = steps(weights, older, flight, rows[:until_moved])
        moved, _ = on_stage(stage, partial(move, flight=flight), (weights, rule_state))
        if blocks > until_moved:
            met = weights if late else moved[0]
            flight, more = steps(met, None, flight, rows[until_moved:])
            metrics = jax.tree.map(jnp.add, metrics, more)
        return (*moved, flight._replace(previous=weights if late else None)), metrics

    return lax.scan(one_batch, carry, batches.rows, unroll=2 if late else 1)


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


def _add(
    stage: Stage,
    totals: LayerGroups,
    moving: LayerGroups,
    left: LayerGroups,
    config: PassConfig,
) -> LayerGroups:
    """Adds what a block has left to the sums of its batch."""

    def on_group(held: Truth, moving: Truth, totals: Any, left: Any) -> Any:
        def add(old: Any) -> Any:
            return jax.tree.map(jnp.add, old, layer_sums(left(), config))

        return when(both(held, moving), add, totals)

    return map_groups(on_group, layers_held(stage, totals), moving, totals, left)


def _sums_of(
    left: LayerGroups, config: PassConfig, totals: LayerGroups | None = None
) -> LayerGroups:
    """The sums over samples that have left p and r, where they are needed, and over others."""

    def of_group(left: Callable[[], Passed], *others: LayerStatistics) -> Any:
        return lambda: jax.tree.map(
            lambda *sums: functools.reduce(operator.add, sums), layer_sums(left(), config), *others
        )

    return map_groups(of_group, left, *([] if totals is None else [totals]))


def _counted(flight: InFlight, before: InFlight) -> InFlight:
    """Buffers after a pipeline step, whose number all stages have alike, also after branches."""
    return flight._replace(steps=before.steps + 1)


def _no_totals(weights: AnyGroups, config: PassConfig) -> AnyGroups:
    """The sums of no samples."""
    function = partial(no_sums, config=config)
    if isinstance(weights, Packed):
        return zeros_of(function, weights)
    return map_groups(function, weights)


def _known(totals: LayerGroups) -> LayerGroups:
    """Sums that are there, in the same form."""
    return map_groups(lambda total: lambda: total, totals)


def _call(weights: LayerGroups, function: Any) -> Any:
    return function(weights)
