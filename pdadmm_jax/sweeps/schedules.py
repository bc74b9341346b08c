"""Schedules: in which order batches pass through the stages, and which weights they meet.

On a single stage there is nothing to wait for, and all schedules are the synchronous one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array
from pdadmm_jax.parallel.forward import Saved, climb
from pdadmm_jax.parallel.groups import LayerGroups, map_groups
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.parallel.stage import Stage, both, choose, when
from pdadmm_jax.problems.data import Data
from pdadmm_jax.sweeps.layers import BatchMetrics, descend, turn
from pdadmm_jax.sweeps.pipeline import (
    InFlight,
    Step,
    batch_left,
    batch_number,
    nothing_in_flight,
    pipeline_step,
)
from pdadmm_jax.sweeps.rules import LayerStatistics, RuleState
from pdadmm_jax.sweeps.samples import Batches, Block
from pdadmm_jax.sweeps.weight_update import (
    PassConfig,
    Passed,
    apply_rule,
    layer_sums,
    layers_held,
    no_sums,
)

T = TypeVar("T")
Carry = tuple[LayerGroups, RuleState, InFlight | None]

SCHEDULES = ("synchronous", "one_batch_late", "streaming")


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


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Stream:
    """What blocks are in flight between passes is arranged for; part of a state's structure.

    Attributes:
        schedule: its name.
        batch: samples between two updates; 0 for all.
        microbatches: as the configuration has it.
        features: of a sample.
        targets: shape and dtype of a sample's label.
    """

    schedule: str
    batch: int
    microbatches: int | None
    features: int
    targets: tuple[tuple[int, ...], str]


def stream_of(config: ScheduleConfig, data: Data, shards: int = 1) -> Stream:
    """How a configuration streams these data, or their shapes."""
    samples = data.x.shape[0] + -data.x.shape[0] % shards
    batch = 0 if config.batch is None else min(config.batch, samples)
    targets = data.y.shape[1:], jnp.dtype(data.y.dtype).name
    return Stream(config.schedule, batch, config.microbatches, data.x.shape[1], targets)


def microbatches(config: Any, reach: int) -> int:
    """Into how many blocks a batch is split at least.

    Raises:
        ValueError: fewer than the schedule needs on these stages.
    """
    if not reach or config.schedule == "streaming":
        return 1
    fewest = 2 * reach if config.schedule == "one_batch_late" else 1
    if config.microbatches is None:
        return 2 * reach
    if config.microbatches < fewest:
        raise ValueError(
            f"microbatches is {config.microbatches}, but a block needs {fewest} steps through "
            f"{reach + 1} stages and back: give at least {fewest}, or None to have it chosen."
        )
    return config.microbatches


def empty_pipeline(
    stream: Stream, weights: LayerGroups, plan: Plan, shards: int
) -> InFlight | None:
    """What is in flight between passes before the first one; None if nothing ever is.

    Args:
        stream: how batches stream.
        weights: of all stages, in their arrangement.
        plan: the arrangement.
        shards: devices that share the samples of a stage.
    """
    if not plan.reach or stream.schedule == "synchronous":
        return None
    late = stream.schedule == "one_batch_late"
    number = microbatches(stream, plan.reach)
    rows = shards * math.ceil(stream.batch // shards / number)
    slots = 2 * number if late else 2 * plan.reach + 1
    shape, dtype = stream.targets
    first = weights.first.W
    blocks = Block(
        x=jnp.zeros((plan.stages, slots, rows, stream.features), first.dtype),
        y=jnp.zeros((plan.stages, slots, rows, *shape), dtype),
        valid=jnp.zeros((plan.stages, slots, rows), bool),
    )
    return nothing_in_flight(weights, rows, slots, blocks, keep_batch=late, keep_weights=late)


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
    elif config.schedule == "synchronous":
        schedule = _synchronous
    elif config.schedule == "one_batch_late":
        schedule = _one_batch_late
    else:
        schedule = _streaming
    return schedule(stage, carry, batches, config)


def _alone(
    stage: Stage, carry: Carry, batches: Batches, config: ScheduleConfig
) -> tuple[Carry, BatchMetrics]:
    """A single stage: batch by batch, block by block."""

    def pass_block(weights: LayerGroups, block: Block) -> tuple[LayerGroups, BatchMetrics]:
        edge, stacks, top = climb(
            stage, weights, None, block.x, config.activation, config.precision, block.keep
        )
        last = turn(stage, weights.last, top, block, config, here=True)
        down = descend(stage, weights, last.u, edge, stacks, block, config)
        left = LayerGroups(
            Passed(block.x[None], down.first),
            tuple(map(_passed, stacks, down.stacks)),
            None,
            Passed(top[None], last.r),
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
        number = map_groups(lambda _: total, weights)
        counts = True if batches.complete else total > 0
        active = map_groups(lambda _: counts, weights)
        moved = apply_rule(stage, weights, rule_state, batch, number, active, config)
        return moved, metrics

    weights, rule_state, _ = carry
    (weights, rule_state), metrics = lax.scan(one_batch, (weights, rule_state), batches.rows)
    return (weights, rule_state, None), metrics


def _synchronous(
    stage: Stage, carry: Carry, batches: Batches, config: ScheduleConfig
) -> tuple[Carry, BatchMetrics]:
    """All blocks of a batch meet the same weights, which move when nothing is in flight."""
    blocks = batches.rows.shape[1]
    weights, rule_state, _ = carry
    # The products that move the weights take the whole batch at once if it has no more samples
    # than may pass at a time; else block by block, so that memory does not grow with the batch.
    at_once = config.batch is not None and config.batch <= config.block
    slots = max(blocks, 1) if at_once else 2 * stage.reach + 1
    vary = stage.collectives.vary
    flight = _buffers(stage, weights, batches, slots, keep_batch=at_once)

    def one_batch(carry: Any, rows: Array) -> tuple[Any, BatchMetrics]:
        weights, rule_state, flight = carry

        def one_step(carry: Any, rows: Array) -> tuple[Any, BatchMetrics]:
            flight, totals = carry
            meets = partial(_call, weights)
            flight, step = pipeline_step(
                stage, flight, rows, batches, blocks, meets, meets, weights.last, config
            )
            if not at_once:
                totals = _add(stage, totals, step, config)
            return (flight, totals), step.metrics

        nothing = None
        if not at_once:
            nothing = vary(map_groups(partial(no_sums, config=config), weights))
        steps = jnp.concatenate([rows, jnp.full((2 * stage.reach, rows.shape[1]), -1, rows.dtype)])
        flight = flight._replace(steps=jnp.zeros((), jnp.int32))
        (flight, totals), every = lax.scan(one_step, (flight, nothing), steps)
        metrics = jax.tree.map(jnp.sum, every)
        if totals is None:
            batch = _sums_of(batch_left(flight, 0, blocks), config)
        else:
            batch = _known(totals)
        own = batches.valid(rows)
        dtype = weights.last.W.dtype
        count = jnp.asarray(rows.size, dtype) if own is None else jnp.sum(own, dtype=dtype)
        total = stage.collectives.samples.total(count)
        number = map_groups(lambda _: total, weights)
        counts = True if batches.complete else total > 0
        active = map_groups(lambda _: counts, weights)
        moved = apply_rule(stage, weights, rule_state, batch, number, active, config)
        return (*moved, flight), metrics

    (weights, rule_state, _), metrics = lax.scan(
        one_batch, (weights, rule_state, flight), batches.rows
    )
    return (weights, rule_state, None), metrics


def _one_batch_late(
    stage: Stage, carry: Carry, batches: Batches, config: ScheduleConfig
) -> tuple[Carry, BatchMetrics]:
    """Every batch meets the weights before the last update, and no stage waits.

    Of M >= 2 R blocks of a batch the last has come down everywhere 2 R steps after the next batch
    began to enter.  Then the weights of all stages move.  The next batch, some of whose blocks are
    in flight, meets them as they were, on its way up and on its way down; so both are kept.
    """
    blocks, round_trip = batches.rows.shape[1], 2 * stage.reach

    def one_batch(carry: Carry, rows: Array) -> tuple[Carry, BatchMetrics]:
        weights, rule_state, flight = carry
        assert flight is not None
        before = flight.previous
        assert before is not None
        number = flight.steps // blocks - 1  # of the batch whose last blocks are in flight

        def step_before(flight: InFlight, entering: tuple[Array, Array]) -> Any:
            """Blocks of the batch that enters meet the newest weights, others those before."""
            entered, rows = entering

            def meets(steps: Any, function: Callable[[LayerGroups], T]) -> T:
                return lax.cond(
                    entered >= steps, lambda: function(weights), lambda: function(before)
                )

            last = choose(entered >= stage.reach, weights.last, before.last)
            rising = partial(meets, stage.position)
            falling = partial(meets, round_trip - stage.position)
            flight, step = pipeline_step(
                stage, flight, rows, batches, None, rising, falling, last, config
            )
            return flight, step.metrics

        def step_after(flight: InFlight, rows: Array) -> tuple[InFlight, BatchMetrics]:
            meets = partial(_call, weights)  # which are the newest no longer
            flight, step = pipeline_step(
                stage, flight, rows, batches, None, meets, meets, weights.last, config
            )
            return flight, step.metrics

        entering = jnp.arange(round_trip, dtype=jnp.int32), rows[:round_trip]
        flight, metrics = lax.scan(step_before, flight._replace(previous=None), entering)
        slot = number % 2 * blocks
        count = batch_number(flight, slot, blocks, weights.last.W.dtype)
        total = stage.collectives.samples.total(count)
        moved = apply_rule(
            stage,
            weights,
            rule_state,
            _sums_of(batch_left(flight, slot, blocks), config),
            map_groups(lambda _: total, weights),
            map_groups(lambda _: (number >= 0) & (total > 0), weights),
            config,
        )
        metrics = jax.tree.map(jnp.sum, metrics)
        if blocks > round_trip:
            flight, more = lax.scan(step_after, flight, rows[round_trip:])
            metrics = jax.tree.map(lambda old, new: old + jnp.sum(new), metrics, more)
        return (*moved, flight._replace(previous=weights)), metrics

    return lax.scan(one_batch, carry, batches.rows, unroll=2)


def _streaming(
    stage: Stage, carry: Carry, batches: Batches, config: ScheduleConfig
) -> tuple[Carry, BatchMetrics]:
    """Every block is a batch, and a layer's weights move as soon as it has come down to them."""

    def one_step(carry: Carry, rows: Array) -> tuple[Carry, BatchMetrics]:
        weights, rule_state, flight = carry
        assert flight is not None
        meets = partial(_call, weights)
        flight, step = pipeline_step(
            stage, flight, rows, batches, None, meets, meets, weights.last, config
        )
        number = map_groups(stage.collectives.samples.total, step.number)
        active = step.moving
        if not batches.complete:
            active = map_groups(lambda moves, number: moves & (number > 0), active, number)
        batch = _sums_of(step.left, config)
        moved = apply_rule(stage, weights, rule_state, batch, number, active, config)
        return (*moved, flight), step.metrics

    return lax.scan(one_step, carry, batches.rows[:, 0])


def _passed(saved: Saved, r: Array) -> Passed:
    assert saved.p is not None  # hidden layers save it
    return Passed(saved.p, r)


def _add(stage: Stage, totals: LayerGroups, step: Step, config: PassConfig) -> LayerGroups:
    """Adds what a block has left to the sums of its batch."""

    def on_group(held: Any, moving: Array, totals: Any, left: Any) -> Any:
        def add(old: Any) -> Any:
            return jax.tree.map(jnp.add, old, layer_sums(left(), config))

        return when(both(held, moving), add, totals)

    return map_groups(on_group, layers_held(stage, totals), step.moving, totals, step.left)


def _buffers(
    stage: Stage, weights: LayerGroups, batches: Batches, slots: int, *, keep_batch: bool
) -> InFlight:
    """A stage's empty buffers, for a pass that ends with nothing in flight."""
    data, rows = batches.data, batches.rows.shape[-1]
    blocks = Block(
        x=jnp.zeros((1, slots, rows, data.x.shape[1]), data.x.dtype),
        y=jnp.zeros((1, slots, rows, *data.y.shape[1:]), data.y.dtype),
        valid=None if batches.complete else jnp.zeros((1, slots, rows), bool),
    )
    flight = nothing_in_flight(
        weights, rows, slots, blocks, keep_batch=keep_batch, keep_weights=False
    )
    return stage.collectives.vary(flight)._replace(steps=flight.steps)


def _sums_of(left: LayerGroups, config: PassConfig) -> LayerGroups:
    """The sums over samples that have left p and r, where they are needed."""

    def of_group(left: Callable[[], Passed]) -> Callable[[], LayerStatistics]:
        return lambda: layer_sums(left(), config)

    return map_groups(of_group, left)


def _known(totals: LayerGroups) -> LayerGroups:
    """Sums that are there, in the same form."""
    return map_groups(lambda total: lambda: total, totals)


def _call(weights: LayerGroups, function: Any) -> Any:
    return function(weights)
