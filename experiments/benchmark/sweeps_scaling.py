"""``python -m experiments scaling sweeps``: passes in batches, on one process and on several.

Beside every schedule stands its share of the limit: of the speed that as many processes reach at
the same time which have the layers of one stage each and do not know of each other.  What cannot be
measured here is predicted by ``batch_model``, beside whose model of this machine the measurements
stand.
"""

from __future__ import annotations

import math
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.table import Table

from experiments.benchmark.batch_model import (
    HARDWARE,
    BlockRates,
    Hardware,
    Products,
    Way,
    products,
    seconds_per_batch,
)
from experiments.benchmark.options import SweepsScalingConfig
from experiments.benchmark.scaling import timed
from experiments.report.measurement import Measurement, table
from pdadmm_jax.parallel.plan import plan
from pdadmm_jax.sweeps.stream import default_microbatches

WAYS: tuple[Way, ...] = (
    "streaming",
    "one_batch_late",
    "zero_bubble",
    "synchronous",
    "data_parallel",
)
DEVICES = (4, 8, 16, 32, 64)
PREDICTED = (1024, *[1024] * 63, 1024)  # widths of the network of the predictions
REPEATS = 9  # of passes of the limit's processes, whose compilations end at different times


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
        measurement.show(f"\nPREDICTED, not measured: {one.described}")
        predicted[one.name] = _predictions(one, options.predicted_batch)
        measurement.show(_predicted_table(predicted[one.name], options.predicted_batch))
    measurement.save({"measured": found, "predicted": predicted})
    return 0


def _measured(
    options: SweepsScalingConfig, measurement: Measurement
) -> tuple[Hardware, dict[str, Any]]:
    """One process against several, in turn, and the model of this machine."""
    reach = plan(options.widths, options.processes).reach
    blocks = options.microbatches or default_microbatches("zero_bubble", reach)
    rows = -(-options.batch // blocks)
    runs: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("alone", "blocks", "limit", *WAYS)
    }
    for _ in range(options.runs):
        runs["alone"].append(_timed(options, 1))
        runs["blocks"].append(_timed(options, 1, "--block", rows))
        for way in WAYS:
            runs[way].append(_timed(options, options.processes, *_words(way, options)))
        runs["limit"].append(_limit(options))
    seconds = {name: _median(found, "seconds") for name, found in runs.items()}

    message = _median(runs["streaming"], "message_seconds")
    short = _timed(options, options.processes, "--neurons", 8)["message_seconds"]
    latency = min(short, message / 2)
    all_layers = tuple(range(1, len(options.widths)))
    of_sample = products(options.widths, all_layers)
    here = Hardware(
        "one core of this machine",
        rate=of_sample.all * options.samples / seconds["alone"],
        bandwidth=runs["streaming"][0]["message_bytes"] / (message - latency),
        latency=latency,
        source="measured",
    )
    slower = _median(runs["blocks"], "slower_in_blocks")
    rates = _block_rates(
        of_sample, seconds["alone"] / options.samples, seconds["blocks"] / options.samples, slower
    )
    model: dict[Way, float] = {way: _model(options, way, here, rates) for way in WAYS}
    measurement.show(_measured_table(options, seconds, model))
    if not math.isnan(seconds["limit"]):
        measurement.show(
            f"limit: {options.processes} processes at the same time, each with the layers of one "
            "stage as a network of its own, and no messages"
        )
    measurement.show(
        f"one core: {2 * here.rate / 1e9:.1f} GFLOP/s in all; in blocks of {rows} samples "
        f"{2 * rates.passing / 1e9:.1f} in products up and down, {2 * rates.weights / 1e9:.1f} in "
        f"products p^T r and their sums; between processes: {here.bandwidth / 1e9:.2f} GB/s, "
        f"{1e6 * here.latency:.0f} us"
    )
    return here, {"seconds": seconds, "model": model, "hardware": here._asdict()}


def _limit(options: SweepsScalingConfig) -> dict[str, Any]:
    """The slowest of processes with the layers of a stage each, at the same time and by themselves.

    A stage's part of the network is timed as a network of its own, of two layers at least.
    """
    held = [layers for layers in plan(options.widths, options.processes).layers if layers]
    if min(map(len, held)) < 2:
        return {"seconds": math.nan}
    cores = sorted(os.sched_getaffinity(0))

    def timed_on(number: int) -> dict[str, Any]:
        os.sched_setaffinity(0, {cores[number]})  # of this thread, and of what it starts
        layers = held[number]
        sizes = {
            "layers": len(layers),
            "features": options.widths[layers[0] - 1],
            "classes": options.widths[layers[-1]],
        }
        last = number == len(held) - 1
        words = () if last else ("--loss", "squared_error")  # of classes as many as neurons
        return _timed(options, 1, "--repeats", REPEATS, *words, **sizes)

    with ThreadPoolExecutor(len(held)) as pool:
        found = list(pool.map(timed_on, range(len(held))))
    return max(found, key=lambda one: one["seconds"])


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def _block_rates(of_sample: Products, alone: float, in_blocks: float, slower: float) -> BlockRates:
    """Rates of products of blocks, of which those up and down are slower by themselves.

    Args:
        of_sample: products of all layers.
        alone: seconds per sample in whole batches.
        in_blocks: seconds per sample in blocks.
        slower: times that the products up and down take longer in blocks.
    """
    rate = of_sample.all / alone
    more = (slower - 1) * (of_sample.up + of_sample.down) / rate
    sums = of_sample.weights / rate + max(in_blocks - alone - more, 0)
    return BlockRates(rate / slower, of_sample.weights / sums)


def _model(options: SweepsScalingConfig, way: Way, on: Hardware, rates: BlockRates) -> float:
    """Seconds per pass."""
    batches = -(-options.samples // options.batch)
    numbers = {"microbatches": options.microbatches, "block_rates": rates}
    return batches * _by_stages_or_shards(
        options.widths, options.processes, options.batch, way, on, **numbers
    )


def _by_stages_or_shards(
    widths: tuple[int, ...], devices: int, batch: int, way: Way, on: Hardware, **numbers: Any
) -> float:
    """Seconds per batch with as many stages as devices, or data shards for data-parallel."""
    stages, shards = (1, devices) if way == "data_parallel" else (devices, 1)
    return seconds_per_batch(widths, stages, batch, way, on, shards=shards, **numbers)


def _measured_table(
    options: SweepsScalingConfig, seconds: dict[str, float], model: dict[Way, float]
) -> Table:
    heads = ("s per pass", "speedup", "of the limit", "model, s", "model is off")
    made = table(f"{options.processes} processes", *heads, title=_title(options))
    alone, limit = seconds["alone"], seconds["limit"]
    made.add_row("1 process", f"{alone:.3f}", *[""] * 4)
    if not math.isnan(limit):
        made.add_row("limit", f"{limit:.3f}", f"{alone / limit:.2f}", "", "", "")
    for way in WAYS:
        made.add_row(
            _name(way),
            f"{seconds[way]:.3f}",
            f"{alone / seconds[way]:.2f}",
            "" if math.isnan(limit) else f"{limit / seconds[way]:.0%}",
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
    if options.microbatches is None:
        return ("--schedule", way)
    return ("--schedule", way, "--microbatches", options.microbatches)


def _timed(
    options: SweepsScalingConfig, processes: int, *more: object, **others: int
) -> dict[str, Any]:
    """One ``time`` of this network, but for other sizes."""
    names = ("layers", "neurons", "samples", "features", "batch")
    sizes = {name: getattr(options, name) for name in names} | others
    words = [word for name, value in sizes.items() for word in (f"--{name}", value)]
    return timed(processes, [*words, *more])


def _predictions(on: Hardware, batch: int) -> dict[int, dict[str, float]]:
    """Speedup over one device, by number of devices and way."""
    alone = seconds_per_batch(PREDICTED, 1, batch, "synchronous", on)
    return {
        devices: {
            way: alone / _by_stages_or_shards(PREDICTED, devices, batch, way, on) for way in WAYS
        }
        for devices in DEVICES
    }


def _predicted_table(found: dict[int, dict[str, float]], batch: int) -> Table:
    title = f"speedup, {len(PREDICTED) - 1} layers x {PREDICTED[1]}, batches of {batch}"
    made = table("devices", *map(_name, WAYS), title=title)
    for devices, ways in found.items():
        made.add_row(str(devices), *(f"{ways[way]:.1f}" for way in WAYS))
    return made
