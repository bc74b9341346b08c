"""How batches stream between passes, and the empty buffers for it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from pdadmm_jax.parallel.packing import AnyGroups
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.problems.data import Data
from pdadmm_jax.sweeps.pipeline import InFlight, nothing_in_flight
from pdadmm_jax.sweeps.samples import no_blocks

EMPTIED = ("synchronous", "zero_bubble")  # whose pipeline is empty whenever weights move
SCHEDULES = (*EMPTIED, "one_batch_late", "streaming")


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
    residual_block: int = 0


def stream_of(config: Any, data: Data, shards: int = 1) -> Stream:
    """How a configuration streams these data, or their shapes."""
    samples = data.x.shape[0] + -data.x.shape[0] % shards
    batch = 0 if config.batch is None else min(config.batch, samples)
    targets = data.y.shape[1:], jnp.dtype(data.y.dtype).name
    return Stream(
        config.schedule, batch, config.microbatches, data.x.shape[1], targets, config.residual_block
    )


def default_microbatches(schedule: str, reach: int) -> int:
    """Blocks that a batch is split into if nobody says how many."""
    if schedule == "one_batch_late" and reach == 1:
        return 1  # products of whole batches
    return max(reach if schedule == "streaming" else 2 * reach, 1)


def microbatches(config: Any, reach: int) -> int:
    """Into how many blocks a batch is split at least.

    Raises:
        ValueError: fewer than the schedule needs on these stages.
    """
    if not reach:
        return 1
    fewest = {"one_batch_late": 2 * reach - 1, "zero_bubble": 2 * reach}.get(config.schedule, 1)
    if config.microbatches is None:
        return default_microbatches(config.schedule, reach)
    if config.microbatches < fewest:
        raise ValueError(
            f"microbatches is {config.microbatches}, but {config.schedule!r} needs at least "
            f"{fewest} on these stages: give {fewest} or more, or None to have it chosen."
        )
    return config.microbatches


def empty_pipeline(stream: Stream, weights: AnyGroups, plan: Plan, shards: int) -> InFlight | None:
    """What is in flight between passes before the first one; None if nothing ever is.

    Args:
        stream: how batches stream.
        weights: of all stages, in their arrangement.
        plan: the arrangement.
        shards: devices that share the samples of a stage.
    """
    if not plan.reach or stream.schedule in EMPTIED:
        return None
    late = stream.schedule == "one_batch_late"
    number = microbatches(stream, plan.reach)
    rows = shards * math.ceil(stream.batch // shards / number)
    slots = number * (math.ceil(2 * plan.reach / number) + 1)  # whole batches
    features, targets = stream.features, stream.targets
    dtype = jax.tree.leaves(weights)[0].dtype
    blocks = no_blocks((plan.stages, slots, rows), features, dtype, *targets)
    kept = slots if number > 1 else int(late)
    return nothing_in_flight(
        weights, plan, blocks, stream.residual_block, kept=kept, keep_weights=late
    )
