"""What a race would come to on devices that are not here.

Seconds to the accuracy are passes times seconds per pass.  Passes are measured: they depend on
which weights a batch meets, and on nothing else of the devices.  Synchronous schedules need as
many as one device; one batch late is the same on any number of stages; streaming, in which weights
are at most two batches late, is trained anew on virtual devices.  Seconds per pass are those of
``batch_model``, of the fastest division into stages and data shards.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from rich.table import Table

from experiments.benchmark.batch_model import HARDWARE, Hardware, Layout, Way, best_layout
from experiments.report.measurement import table

DEVICES = (1, 4, 8, 16, 32, 64)
VIRTUAL_STAGES = 8  # on which streaming is trained, or as many as there are layers
WAYS: dict[str, Way] = {
    "adam": "data_parallel",
    "sweeps": "data_parallel",
    "data_parallel": "data_parallel",
    "gpipe": "gpipe",
    "1f1b": "1f1b",
    "zb_h1": "zero_bubble",
    "pipedream_2bw": "one_batch_late",
    "sweeps_synchronous": "synchronous",
    "sweeps_zero_bubble": "zero_bubble",
    "sweeps_one_batch_late": "one_batch_late",
    "sweeps_streaming": "streaming",
}
# Whose passes are as good as measured by another method, without which their own count.
SAME_PASSES = {
    "data_parallel": "adam",
    "gpipe": "adam",
    "1f1b": "adam",
    "zb_h1": "adam",
    "sweeps_synchronous": "sweeps",
    "sweeps_zero_bubble": "sweeps",
}


class Prediction(NamedTuple):
    """Seconds until a method has the accuracy on some devices.

    Attributes:
        method: its name.
        hardware: name of the kind of the devices.
        devices: how many.
        layout: stages and shards.
        seconds: until it has the accuracy.
    """

    method: str
    hardware: str
    devices: int
    layout: Layout
    seconds: float


def predicted(
    passes: dict[str, float],
    widths: tuple[int, ...],
    samples: int,
    batch: int,
    hardware: tuple[Hardware, ...] = HARDWARE,
) -> list[Prediction]:
    """All methods on all kinds and numbers of devices.

    Args:
        passes: until a method has the accuracy, by its name; infinite for never.
        widths: (features, hidden, ..., outputs).
        samples: of a pass.
        batch: samples between two updates.
        hardware: kinds of devices.
    """
    found = []
    for name in passes.keys() & WAYS.keys():
        needed = passes.get(SAME_PASSES.get(name, name), passes[name])
        for on in hardware:
            for devices in DEVICES:
                if math.isinf(needed) or (devices == 1) != (name in ("adam", "sweeps")):
                    continue
                layout = best_layout(widths, devices, batch, WAYS[name], on)
                seconds = needed * math.ceil(samples / batch) * layout.seconds
                if math.isfinite(seconds):
                    found.append(Prediction(name, on.name, devices, layout, seconds))
    return sorted(found, key=lambda one: (one.hardware, one.method, one.devices))


def predicted_table(found: list[Prediction], names: dict[str, str], on: Hardware) -> Table:
    """Milliseconds to the accuracy on one kind of devices, the soonest method first."""
    made = table("", *map(str, DEVICES), title="ms to the accuracy, by number of devices")
    seconds = {
        name: {p.devices: p.seconds for p in found if (p.hardware, p.method) == (on.name, name)}
        for name in names
    }
    for name in sorted(filter(seconds.get, names), key=lambda name: min(seconds[name].values())):
        cells = (f"{1000 * s:.3g}" if (s := seconds[name].get(n)) else "" for n in DEVICES)
        made.add_row(names[name], *cells)
    return made
