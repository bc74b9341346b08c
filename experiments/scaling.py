"""``python -m experiments scaling``: measured speedup, and a model of what cannot be measured here.

The model of one iteration: a stage multiplies (``plan.work``, which the tests hold against the
compiled program) at the rate of its device, and sends two messages.  f(z) travels behind the first
of the four products of its layers and q behind the other three; what does not fit there is waited
for.  The slowest stage sets the pace.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import NamedTuple

from rich.table import Table

from experiments.config import ProblemConfig, ScalingConfig
from experiments.errors import UsageError
from experiments.measurement import Measurement, table
from pdadmm_jax.plan import Plan, plan

SAMPLES, FEATURES, CLASSES = 55_000, 196, 10  # MNIST as the paper has it
NEURONS = tuple(range(1500, 2500, 100))
LAYERS = (5, 10, 15, 20, 40, 80)

# Figure 4 of the paper: neurons -> speedup of 20 layers on 20 nodes over its own serial code.
PAPER = dict(
    zip(
        NEURONS,
        (8.87, 10.97, 10.91, 11.50, 10.15, 11.26, 10.38, 10.68, 10.10, 12.27),
        strict=True,
    )
)


class Hardware(NamedTuple):
    """Devices of one kind and the links between neighbours.

    Attributes:
        name: what it is.
        rate: multiply-adds per second in float32 matrix products.
        bandwidth: bytes per second, one way.
        latency: seconds until a message arrives.
        source: where the numbers are from.
    """

    name: str
    rate: float
    bandwidth: float
    latency: float
    source: str


REACHED = 0.6  # assumed share of the peak that products reach on accelerators

HARDWARE = (
    Hardware(
        "NVIDIA H100 SXM, NVLink",
        REACHED * 67e12 / 2,
        450e9,
        10e-6,
        "data sheet: 67 TFLOP/s float32, 900 GB/s both ways together; "
        f"{REACHED:.0%} of the peak and 10 us assumed",
    ),
    Hardware(
        "TPU v5e, one ICI link",
        REACHED * 197e12 / 6 / 2,
        50e9,
        10e-6,
        "data sheet: 197 TFLOP/s bfloat16, six passes of it for float32; 1,600 Gbit/s over four "
        f"links; {REACHED:.0%} of the peak and 10 us assumed",
    ),
)


class Prediction(NamedTuple):
    """Seconds per iteration on one device and on one per stage."""

    alone: float
    together: float

    @property
    def speedup(self) -> float:
        """How much faster the stages are."""
        return self.alone / self.together


def predict(widths: tuple[int, ...], stages: int, samples: int, on: Hardware) -> Prediction:
    """What the model says of a network on so many stages."""
    alone = sum(plan(widths, 1).work) * samples / on.rate
    return Prediction(alone, _pace(plan(widths, stages), samples, on))


def _pace(dealt: Plan, samples: int, on: Hardware) -> float:
    message = on.latency + 4 * samples * dealt.widths[1] / on.bandwidth if dealt.upward else 0.0

    def stage(work: int) -> float:
        products = work * samples / on.rate
        waiting = max(message - products / 4, 0) + max(message - 3 * products / 4, 0)
        return products + waiting

    return max(map(stage, dealt.work))


def main(config: ScalingConfig) -> int:
    """Measures, predicts and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    measurement = Measurement("scaling", config)
    hardware, found = HARDWARE, {}
    if not config.predict_only:
        here, found = _measured(config, measurement)
        hardware = (here, *HARDWARE)
    predictions = {}
    for one in hardware:
        measurement.show(f"\nPREDICTED, not measured: {one.name} ({one.source})")
        by_neurons = {h: predict(_network(20, h), 20, SAMPLES, one) for h in NEURONS}
        by_layers = {n: predict(_network(n, 1500), n, SAMPLES, one) for n in LAYERS}
        measurement.show(_by_neurons(by_neurons))
        measurement.show(_by_layers(by_layers))
        predictions[one.name] = {
            "by_neurons": {h: made._asdict() for h, made in by_neurons.items()},
            "by_layers": {n: made._asdict() for n, made in by_layers.items()},
        }
    measurement.save({"measured": found, "predicted": predictions})
    return 0


def _network(layers: int, neurons: int) -> tuple[int, ...]:
    return (FEATURES, *[neurons] * (layers - 1), CLASSES)


def _measured(config: ScalingConfig, measurement: Measurement) -> tuple[Hardware, dict[str, float]]:
    """One process against several, in turn; and this machine as the model needs it."""
    sizes = ["--layers", config.layers, "--neurons", config.neurons, "--samples", config.samples]
    alone, together = [], []
    for _ in range(config.runs):
        alone.append(_timed(1, sizes))
        together.append(_timed(config.processes, sizes))
        one, several = alone[-1]["seconds"], together[-1]["seconds"]
        measurement.show(
            f"measured: 1 process {one:.3f} s, {config.processes} processes {several:.3f} s per "
            f"iteration, {one / several:.3f} times"
        )
    small = _timed(config.processes, ["--layers", config.layers, "--neurons", 8, "--samples", 8])

    one = statistics.median(run["seconds"] for run in alone)
    several = statistics.median(run["seconds"] for run in together)
    message = statistics.median(run["message_seconds"] for run in together)
    latency = small["message_seconds"]
    done = alone[0]["always"] + sum(alone[0]["branches"])
    here = Hardware(
        "one core of this machine",
        rate=done / one,
        bandwidth=together[0]["message_bytes"] / max(message - latency, 1e-9),
        latency=latency,
        source="measured",
    )
    widths = ProblemConfig(config.layers, config.neurons).widths  # as ``time`` has them
    made = predict(widths, config.processes, config.samples, here)
    measurement.show(
        f"{config.layers} layers x {config.neurons}, {config.samples} samples, every process "
        f"pinned to one core, median of {config.runs} runs each: {one:.3f} s alone, {several:.3f} "
        f"s on {config.processes}, {one / several:.3f} times; the model says {made.together:.3f} s "
        f"({made.together / several - 1:+.1%})"
    )
    measurement.show(
        f"one core: {2 * here.rate / 1e9:.1f} GFLOP/s in all; between processes: "
        f"{here.bandwidth / 1e9:.2f} GB/s, {1e6 * here.latency:.0f} us"
    )
    rates = {"rate": here.rate, "bandwidth": here.bandwidth, "latency": here.latency}
    seconds = {"alone": one, "together": several, "model": made.together}
    return here, {**seconds, "speedup": one / several, **rates}


def _timed(processes: int, sizes: list[object]) -> dict[str, float]:
    """One ``time`` in processes of its own."""
    words = ["launch", "--pin", "--processes", processes, "time", "--json", *sizes]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UsageError(f"the measurement failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _by_neurons(predictions: dict[int, Prediction]) -> Table:
    title = "20 layers on 20 stages, 55,000 samples"
    made = table("neurons", "1 device", "20 stages", "speedup", "paper's, measured", title=title)
    for neurons, one in predictions.items():
        made.add_row(str(neurons), *_cells(one), f"{PAPER[neurons]:.2f}")
    return made


def _by_layers(predictions: dict[int, Prediction]) -> Table:
    title = "1,500 neurons, a stage per layer"
    made = table("layers", "1 device", "a stage each", "speedup", title=title)
    for layers, one in predictions.items():
        made.add_row(str(layers), *_cells(one))
    return made


def _cells(made: Prediction) -> tuple[str, str, str]:
    return f"{made.alone:.4g} s", f"{made.together:.4g} s", f"{made.speedup:.2f}"
