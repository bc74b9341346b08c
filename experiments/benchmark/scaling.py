"""``python -m experiments scaling``: measured speedup, and a model of what cannot be measured here.

The model of one iteration: a stage multiplies (``plan.work``, which the tests hold against the
compiled program) at the rate of its device, and sends two messages.  f(z) travels behind the first
of the four products of its layers and q behind the other three; what does not fit there is waited
for.  The slowest stage sets the pace.
"""

from __future__ import annotations

import statistics
from typing import Any

from rich.table import Table

from experiments.benchmark.batch_model import HARDWARE, Hardware
from experiments.benchmark.options import ScalingConfig
from experiments.benchmark.speedup import PAPER, SAMPLES, Curve, Curves, Pair
from experiments.report.measurement import Measurement, table
from experiments.runtime.launch import result_of
from pdadmm_jax.parallel.plan import Plan, plan

FEATURES, CLASSES = 196, 10  # MNIST as the paper has it
NEURONS, LAYERS = tuple(PAPER), (5, 10, 15, 20, 40, 80)


def predict(widths: tuple[int, ...], stages: int, samples: int, on: Hardware) -> Pair:
    """What the model says of a network on one device and on so many stages."""
    alone = sum(plan(widths, 1).work) * samples / on.rate
    return Pair(alone, _pace(plan(widths, stages), samples, on))


def _pace(layout: Plan, samples: int, on: Hardware) -> float:
    message = on.latency + 4 * samples * layout.widths[1] / on.bandwidth if layout.upward else 0.0

    def stage(work: int) -> float:
        products = work * samples / on.rate
        waiting = max(message - products / 4, 0) + max(message - 3 * products / 4, 0)
        return products + waiting

    return max(map(stage, layout.work))


def main(options: ScalingConfig) -> int:
    """Measures, predicts and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    measurement = Measurement("scaling", options)
    hardware, found, measured = HARDWARE, {}, None
    if not options.predict_only:
        here, found = _measured(options, measurement)
        hardware = (here, *HARDWARE)
        measured = _measured_curves(options, Pair(found["alone"], found["together"]))
        for name, curve in measured._asdict().items():
            measurement.show(_measured_table(name.removeprefix("by_"), curve, options))
        found |= measured.plain()
    predicted = {one.name: _predicted_curves(one) for one in hardware}
    for one in hardware:
        measurement.show(f"\nPREDICTED, not measured: {one.name} ({one.source})")
        measurement.show(_by_neurons(predicted[one.name].by_neurons))
        measurement.show(_by_layers(predicted[one.name].by_layers))
    measurement.draw(
        "benchmark.scaling_figure",
        paper=Curves(PAPER, {20: PAPER[1500]}).per_thousand(SAMPLES),
        measured=measured and measured.per_thousand(options.samples),
        named=_named(options),
        several=f"{options.processes} processes",
        # Of others the speedup is nearly the same, and the seconds are decades away.
        predicted=predicted[hardware[0].name].per_thousand(SAMPLES),
        hardware=hardware[0].name,
    )
    plain = {name: made.plain() for name, made in predicted.items()}
    measurement.save({"measured": found, "predicted": plain})
    return 0


def _named(options: ScalingConfig) -> str:
    """What was measured, for the legend; the figure is about 20 layers and 1,500 neurons."""
    around = f" around {options.layers} layers x {options.neurons}"
    return f"measured here{'' if (options.layers, options.neurons) == (20, 1500) else around}"


def _predicted_curves(on: Hardware) -> Curves:
    return Curves(
        {h: predict(_network(20, h), 20, SAMPLES, on) for h in NEURONS},
        {n: predict(_network(n, 1500), n, SAMPLES, on) for n in LAYERS},
    )


def _network(layers: int, neurons: int) -> tuple[int, ...]:
    return (FEATURES, *[neurons] * (layers - 1), CLASSES)


def _measured(options: ScalingConfig, measurement: Measurement) -> tuple[Hardware, dict[str, Any]]:
    """One process against several, in turn; and this machine as the model needs it."""
    sizes = _sizes(options.layers, options.neurons, options.samples)
    alone, together = [], []
    for _ in range(options.runs):
        alone.append(timed(1, sizes))
        together.append(timed(options.processes, sizes))
        one, several = alone[-1]["seconds"], together[-1]["seconds"]
        measurement.show(
            f"measured: 1 process {one:.3f} s, {options.processes} processes {several:.3f} s per "
            f"iteration, {one / several:.3f} times"
        )
    small = timed(options.processes, _sizes(options.layers, 8, 8))

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
    made = predict(
        _network(options.layers, options.neurons), options.processes, options.samples, here
    )
    measurement.show(
        f"{options.layers} layers x {options.neurons}, {options.samples} samples, every process "
        f"pinned to one core, median of {options.runs} runs each: {one:.3f} s alone, {several:.3f} "
        f"s on {options.processes}, {one / several:.3f} times; the model says "
        f"{made.together:.3f} s ({made.together / several - 1:+.1%})"
    )
    measurement.show(
        f"one core: {2 * here.rate / 1e9:.1f} GFLOP/s in all; between processes: "
        f"{here.bandwidth / 1e9:.2f} GB/s, {1e6 * here.latency:.0f} us"
    )
    rates = {"rate": here.rate, "bandwidth": here.bandwidth, "latency": here.latency}
    seconds = {"alone": one, "together": several, "model": made.together}
    return here, {**seconds, "speedup": one / several, **rates}


def _measured_curves(options: ScalingConfig, middle: Pair) -> Curves:
    """Other widths and depths, once each, around the size that was measured thoroughly."""

    def pair(layers: int, neurons: int) -> Pair:
        if (layers, neurons) == (options.layers, options.neurons):
            return middle
        sizes = [*_sizes(layers, neurons, options.samples), "--repeats", 1]
        return Pair(*(timed(count, sizes)["seconds"] for count in (1, options.processes)))

    widths, depths = (
        {options.neurons, *options.more_neurons},
        {options.layers, *options.more_layers},
    )
    return Curves(
        {neurons: pair(options.layers, neurons) for neurons in sorted(widths)},
        {layers: pair(layers, options.neurons) for layers in sorted(depths)},
    )


def _sizes(layers: int, neurons: int, samples: int) -> list[object]:
    """Of the network that is predicted too."""
    sizes = {"layers": layers, "neurons": neurons, "samples": samples}
    return [
        word
        for name, value in (sizes | {"features": FEATURES, "classes": CLASSES}).items()
        for word in (f"--{name}", value)
    ]


def timed(processes: int, sizes: list[object]) -> dict[str, float]:
    """One ``time`` in processes of its own."""
    return result_of(["time", "--json", *sizes], processes)


def _measured_table(name: str, curve: Curve, options: ScalingConfig) -> Table:
    fixed = {"neurons": f"{options.layers} layers", "layers": f"{options.neurons} neurons"}[name]
    thoroughly = f"{getattr(options, name)} {name}: median of {options.runs}"
    title = f"measured once: {fixed}, {options.samples} samples\n({thoroughly})"
    made = table(name, "1 process", f"{options.processes} processes", "speedup", title=title)
    for at, one in curve.items():
        made.add_row(str(at), *_cells(one))
    return made


def _by_neurons(predictions: Curve) -> Table:
    title = "20 layers on 20 stages, 55,000 samples"
    made = table("neurons", "1 device", "20 stages", "speedup", "paper's, measured", title=title)
    for neurons, one in predictions.items():
        made.add_row(str(neurons), *_cells(one), f"{PAPER[neurons].speedup:.2f}")
    return made


def _by_layers(predictions: Curve) -> Table:
    title = "1,500 neurons, a stage per layer"
    made = table("layers", "1 device", "a stage each", "speedup", title=title)
    for layers, one in predictions.items():
        made.add_row(str(layers), *_cells(one))
    return made


def _cells(made: Pair) -> tuple[str, str, str]:
    return f"{made.alone:.4g} s", f"{made.together:.4g} s", f"{made.speedup:.2f}"
