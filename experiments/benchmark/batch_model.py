"""A model of the seconds that a batch takes on stages and data shards, by every schedule.

Each layer has three products, up (F), down (B) and p^T r (W).  With M blocks, R boundaries, and the
sums over the layers of the busiest stage,

    GPipe, 1F1B     (M + R) (F + B + W) of a block,
    synchronous     R F + M (F + B) + R B of a block, and W of the batch,
    zero bubble     M (F + B) + R (max(F, W) + max(B, W)) of a block, and W of the other blocks,
    one batch late  M (F + B) of a block, and W of the batch,
    streaming       the same, with fewer blocks,
    data-parallel   F + B + W of all layers, of a share of the batch.

Between two pipeline steps there is one exchange of messages, and where data shards share the
samples of a stage they add up its gradients in a ring, once a batch; nothing hides either.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from pdadmm_jax.parallel.plan import plan
from pdadmm_jax.sweeps.stream import default_microbatches

Way = Literal[
    "streaming", "one_batch_late", "zero_bubble", "synchronous", "1f1b", "gpipe", "data_parallel"
]
REACHED = 0.6  # assumed share of the peak that products reach on accelerators


class Hardware(NamedTuple):
    """Devices of one kind and the links between neighbours.

    Attributes:
        name: what it is.
        rate: multiply-adds per second in float32 matrix products.
        bandwidth: bytes per second, one way.
        latency: seconds until a message arrives.
        source: where the numbers are from.
        overhead: seconds of a product beyond its multiply-adds.
    """

    name: str
    rate: float
    bandwidth: float
    latency: float
    source: str
    overhead: float = 0.0

    @property
    def described(self) -> str:
        """Name, source and what is assumed."""
        return f"{self.name} ({self.source}; {1e6 * self.overhead:g} us per product assumed)"


HARDWARE = (
    Hardware(
        "NVIDIA H100 SXM, NVLink",
        REACHED * 67e12 / 2,
        450e9,
        10e-6,
        "data sheet: 67 TFLOP/s float32, 900 GB/s both ways together; "
        f"{REACHED:.0%} of the peak and 10 us assumed",
        overhead=5e-6,
    ),
    Hardware(
        "TPU v5e, one ICI link",
        REACHED * 197e12 / 6 / 2,
        50e9,
        10e-6,
        "data sheet: 197 TFLOP/s bfloat16, six passes of it for float32; 1,600 Gbit/s over four "
        f"links; {REACHED:.0%} of the peak and 10 us assumed",
        overhead=5e-6,
    ),
)


class BlockRates(NamedTuple):
    """Multiply-adds per second in products of a block's rows.

    Attributes:
        passing: in products up and down.
        weights: in products p^T r, which are added to those of other blocks.
    """

    passing: float
    weights: float


class Products(NamedTuple):
    """Products of some layers, and their multiply-adds for one sample.

    Attributes:
        up: multiply-adds of p W.
        down: of r W^T, which the first layer has not.
        weights: of p^T r, as many as there are weights.
        layers: how many.
    """

    up: int
    down: int
    weights: int
    layers: int

    @property
    def all(self) -> int:
        """Multiply-adds of all three."""
        return self.up + self.down + self.weights


class Layout(NamedTuple):
    """Devices in use, and what the model says of them.

    Attributes:
        stages: that the layers are laid out over.
        shards: that share the samples of every stage.
        seconds: per batch.
    """

    stages: int
    shards: int
    seconds: float


def products(widths: tuple[int, ...], layers: tuple[int, ...]) -> Products:
    """Those of these layers, which count from 1."""
    sizes = {layer: pair[0] * pair[1] for layer, pair in enumerate(itertools.pairwise(widths), 1)}
    up = sum(sizes[layer] for layer in layers)
    return Products(up, up - (sizes[1] if 1 in layers else 0), up, len(layers))


def seconds_per_batch(
    widths: tuple[int, ...],
    stages: int,
    batch: int,
    way: Way,
    on: Hardware,
    *,
    shards: int = 1,
    microbatches: int | None = None,
    block_rates: BlockRates | None = None,
) -> float:
    """What the model says.

    Args:
        widths: (features, hidden, ..., outputs).
        stages: over which the layers are laid out.
        batch: samples.
        way: the schedule, which does not matter on one stage.
        on: kind of the devices.
        shards: devices that share the samples of a stage.
        microbatches: M; by default what the schedule takes by itself.
        block_rates: of products of a block's rows; by default the same as of a batch's.
    """
    rows = batch / shards

    def reduction(weights: int) -> float:
        return 2 * (shards - 1) * (on.latency + 4 * weights / shards / on.bandwidth)

    if stages == 1:
        whole = products(widths, tuple(range(1, len(widths))))
        made = whole.all * rows / on.rate + 3 * whole.layers * on.overhead
        return made + reduction(whole.weights)
    layout = plan(widths, stages)
    held = [products(widths, layers) for layers in layout.layers if layers]
    reach = layout.reach
    blocks = microbatches or default_microbatches(way, reach)
    per_block = rows / blocks
    same = BlockRates(on.rate, on.rate)
    rates = same if blocks == 1 else block_rates or same
    message = on.latency + 4 * per_block * widths[1] / on.bandwidth
    summed = max(reduction(one.weights) for one in held)

    def busiest(of: Callable[[Products], float]) -> float:
        return max(of(one) for one in held)

    def up(one: Products) -> float:
        return one.up * per_block / rates.passing + one.layers * on.overhead

    def down(one: Products) -> float:
        return one.down * per_block / rates.passing + one.layers * on.overhead

    def weights(one: Products) -> float:
        return one.weights * per_block / rates.weights + one.layers * on.overhead

    def at_once(one: Products, blocks: int) -> float:
        return one.weights * blocks * per_block / on.rate + one.layers * on.overhead

    if way in ("gpipe", "1f1b"):
        steps = blocks + reach
        of_block = busiest(lambda one: up(one) + down(one) + weights(one))
        return steps * of_block + summed + (blocks + 2 * reach) * message
    early = reach if way == "zero_bubble" else 0
    passing = busiest(lambda one: blocks * (up(one) + down(one)) + at_once(one, blocks - early))
    if way in ("streaming", "one_batch_late"):
        return passing + summed + blocks * message
    if early:
        waiting = busiest(lambda one: max(up(one), weights(one)) + max(down(one), weights(one)))
    else:
        waiting = busiest(up) + busiest(down)
    return passing + reach * waiting + summed + (blocks + 2 * reach) * message


def best_layout(
    widths: tuple[int, ...], devices: int, batch: int, way: Way, on: Hardware
) -> Layout:
    """The division of the devices into stages and data shards that the model finds fastest."""
    found = []
    for stages in range(1, min(devices, len(widths) - 1) + 1):
        shards, left = divmod(devices, stages)
        if left or (stages == 1) != (way == "data_parallel"):
            continue
        blocks = default_microbatches(way, plan(widths, stages).reach)
        if shards * blocks > batch:  # not a sample for each
            continue
        seconds = seconds_per_batch(widths, stages, batch, way, on, shards=shards)
        found.append(Layout(stages, shards, seconds))
    return min(found, key=lambda one: one.seconds, default=Layout(0, 0, math.inf))
