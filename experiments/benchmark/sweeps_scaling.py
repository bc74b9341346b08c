"""``python -m experiments scaling sweeps``: passes in batches, on one process and on several.

The model of a batch: each layer has three products, up (F), down (B) and p^T r (W), and the rule
costs what it adds to them on one device.  With M blocks, R boundaries, and the sums over the layers
of the busiest stage,

    synchronous     R F + M (F + B) + R B of a block each, and W of the batch,
    zero bubble     the same less R W of a block,
    one batch late  M (F + B) of a block each, and W of the batch,
    streaming       F + B + W of the batch,
    data-parallel   all layers' F + B + W of a share of the batch, and their gradients summed up.

Between two pipeline steps there is one exchange of messages, which nothing hides.
"""

from __future__ import annotations

import itertools
import statistics
from typing import Any, Literal, NamedTuple

from rich.table import Table

from experiments.benchmark.options import SweepsScalingConfig
from experiments.benchmark.scaling import HARDWARE, Hardware, timed
from experiments.report.measurement import Measurement, table
from pdadmm_jax.parallel.plan import plan

Way = Literal["synchronous", "zero_bubble", "one_batch_late", "streaming", "data_parallel"]
WAYS: tuple[Way, ...] = (
    "streaming",
    "one_batch_late",
    "zero_bubble",
    "synchronous",
    "data_parallel",
)
DEVICES = (4, 8, 16, 32, 64)
PREDICTED = (1024, *[1024] * 63, 1024)  # widths of the network of the predictions


class Products(NamedTuple):
    """Multiply-adds of some layers for one sample.

    Attributes:
        up: of p W.
        down: of r W^T, which the first layer has not.
        weights: of p^T r, as many as there are weights.
    """

    up: int
    down: int
    weights: int

    @property
    def all(self) -> int:
        """Of all three."""
        return sum(self)


def products(widths: tuple[int, ...], layers: tuple[int, ...]) -> Products:
    """Those of these layers, which count from 1."""
    sizes = {layer: pair[0] * pair[1] for layer, pair in enumerate(itertools.pairwise(widths), 1)}
    up = sum(sizes[layer] for layer in layers)
    return Products(up, up - (sizes[1] if 1 in layers else 0), up)


def seconds_per_batch(
    widths: tuple[int, ...],
    devices: int,
    batch: int,
    way: Way,
    on: Hardware,
    microbatches: int | None = None,
    block_rate: float | None = None,
) -> float:
    """What the model says.

    Args:
        widths: (features, hidden, ..., outputs).
        devices: stages, or shares of the samples; 1 for a batch on one device.
        batch: samples.
        way: how the devices share the work.
        on: their kind.
        microbatches: M; by default 2 R.
        block_rate: multiply-adds per second in products of a block's rows; by default the same as
            of a batch's.
    """
    whole = products(widths, tuple(range(1, len(widths))))
    if devices == 1:
        return whole.all * batch / on.rate
    if way == "data_parallel":
        shares = 2 * (devices - 1)  # of the gradient that a ring passes on
        message = on.latency + 4 * whole.weights / devices / on.bandwidth
        return whole.all * batch / devices / on.rate + shares * message
    layout = plan(widths, devices)
    held = [products(widths, layers) for layers in layout.layers if layers]
    up, down, weights = (max(getattr(one, name) for one in held) for name in Products._fields)
    busiest = max(one.all for one in held)
    reach = layout.reach
    blocks = 1 if way == "streaming" else microbatches or 2 * reach
    rows = batch / blocks
    message = on.latency + 4 * rows * widths[1] / on.bandwidth
    if way == "streaming":
        return busiest * batch / on.rate + message
    rate = block_rate or on.rate
    passing = max(one.up + one.down for one in held) * batch / rate
    if way == "one_batch_late":
        return passing + weights * batch / on.rate + blocks * message
    waiting = reach * (up + down) * rows / rate
    made_meanwhile = reach * weights * rows / on.rate if way == "zero_bubble" else 0.0
    exchanges = (blocks + 2 * reach) * message
    return passing + waiting + weights * batch / on.rate - made_meanwhile + exchanges


def main(options: SweepsScalingConfig) -> int:
    """Measures, predicts and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    measurement = Measurement("scaling", options)
    hardware, found = HARDWARE, {}
    if not options.predict_only:
        here, found = _measured(options, measurement)
        hardware = (here, *HARDWARE)
    predicted: dict[str, Any] = {}
    for one in hardware:
        measurement.show(f"\nPREDICTED, not measured: {one.name} ({one.source})")
        predicted[one.name] = _predictions(one, options.predicted_batch)
        measurement.show(_predicted_table(predicted[one.name], options.predicted_batch))
    measurement.save({"measured": found, "predicted": predicted})
    return 0


def _measured(
    options: SweepsScalingConfig, measurement: Measurement
) -> tuple[Hardware, dict[str, Any]]:
    """One process against several, in turn, and the model of this machine."""
    blocks = options.microbatches or 2 * plan(options.widths, options.processes).reach
    rows = -(-options.batch // blocks)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("alone", "blocks", *WAYS)}
    for _ in range(options.runs):
        runs["alone"].append(_timed(options, 1))
        runs["blocks"].append(_timed(options, 1, "--block", rows))
        for way in WAYS:
            runs[way].append(_timed(options, options.processes, *_words(way, options)))
    seconds = {name: _median(found, "seconds") for name, found in runs.items()}

    message = _median(runs["streaming"], "message_seconds")
    short = _timed(options, options.processes, "--neurons", 8)["message_seconds"]
    latency = min(short, message / 2)
    all_layers = tuple(range(1, len(options.widths)))
    work = products(options.widths, all_layers).all * options.samples
    here = Hardware(
        "one core of this machine",
        rate=work / seconds["alone"],
        bandwidth=runs["streaming"][0]["message_bytes"] / (message - latency),
        latency=latency,
        source="measured",
    )
    block_rate = work / seconds["blocks"]
    model: dict[Way, float] = {way: _model(options, way, here, block_rate) for way in WAYS}
    measurement.show(_measured_table(options, seconds, model))
    measurement.show(
        f"one core: {2 * here.rate / 1e9:.1f} GFLOP/s in all, {2 * block_rate / 1e9:.1f} in blocks "
        f"of {rows} samples; between processes: {here.bandwidth / 1e9:.2f} GB/s, "
        f"{1e6 * here.latency:.0f} us"
    )
    return here, {"seconds": seconds, "model": model, "hardware": here._asdict()}


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def _model(options: SweepsScalingConfig, way: Way, on: Hardware, block_rate: float) -> float:
    """Seconds per pass."""
    batches = -(-options.samples // options.batch)
    return batches * seconds_per_batch(
        options.widths,
        options.processes,
        options.batch,
        way,
        on,
        options.microbatches,
        block_rate,
    )


def _measured_table(
    options: SweepsScalingConfig, seconds: dict[str, float], model: dict[Way, float]
) -> Table:
    made = table("", "s per pass", "speedup", "model, s", "model is off", title=_title(options))
    alone = seconds["alone"]
    made.add_row("1 process", f"{alone:.3f}", "", "", "")
    for way in WAYS:
        made.add_row(
            f"{options.processes} processes, {_name(way)}",
            f"{seconds[way]:.3f}",
            f"{alone / seconds[way]:.2f}",
            f"{model[way]:.3f}",
            f"{model[way] / seconds[way] - 1:+.0%}",
        )
    return made


def _title(options: SweepsScalingConfig) -> str:
    return (
        f"{options.layers} layers x {options.neurons}, batches of {options.batch}, "
        f"{options.samples} samples,\nevery process pinned to one core, median of {options.runs}"
    )


def _name(way: Way) -> str:
    return way.replace("_", " ").replace("data parallel", "data-parallel")


def _words(way: Way, options: SweepsScalingConfig) -> tuple[object, ...]:
    if way == "data_parallel":
        return ("--mesh.layer", 1, "--mesh.data", options.processes)
    if options.microbatches is None or way == "streaming":
        return ("--schedule", way)
    return ("--schedule", way, "--microbatches", options.microbatches)


def _timed(options: SweepsScalingConfig, processes: int, *more: object) -> dict[str, Any]:
    sizes = {
        "layers": options.layers,
        "neurons": options.neurons,
        "samples": options.samples,
        "features": options.features,
        "batch": options.batch,
    }
    words = [word for name, value in sizes.items() for word in (f"--{name}", value)]
    return timed(processes, [*words, *more])


def _predictions(on: Hardware, batch: int) -> dict[int, dict[str, float]]:
    """Speedup over one device, by number of devices and way."""
    alone = seconds_per_batch(PREDICTED, 1, batch, "synchronous", on)
    return {
        devices: {
            way: alone / seconds_per_batch(PREDICTED, devices, batch, way, on) for way in WAYS
        }
        for devices in DEVICES
    }


def _predicted_table(found: dict[int, dict[str, float]], batch: int) -> Table:
    title = f"speedup, {len(PREDICTED) - 1} layers x {PREDICTED[1]}, batches of {batch}"
    made = table("devices", *map(_name, WAYS), title=title)
    for devices, ways in found.items():
        made.add_row(str(devices), *(f"{ways[way]:.1f}" for way in WAYS))
    return made
