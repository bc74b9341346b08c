"""``python -m experiments race``: seconds to a test accuracy, by every method.

The question is when layers in parallel are the better choice: the same network, batches and rule,
trained by back-propagation on one process, by back-propagation on several, data-parallel and in
pipelines, and by sweeps.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from experiments.benchmark.batch_model import HARDWARE
from experiments.data import load
from experiments.race import courses
from experiments.race.courses import Course
from experiments.race.options import ON_ONE, RaceConfig
from experiments.race.predictions import (
    VIRTUAL_STAGES,
    Prediction,
    predicted,
    predicted_table,
)
from experiments.report.measurement import Measurement, table
from experiments.runtime.errors import usage_errors
from experiments.runtime.launch import result_of

NAMES = {
    "adam": "back-propagation",
    "sweeps": "sweeps",
    "admm": "Algorithm 1",
    "data_parallel": "back-prop., data-parallel",
    "gpipe": "back-prop., GPipe",
    "1f1b": "back-prop., 1F1B",
    "zb_h1": "back-prop., ZB-H1",
    "pipedream_2bw": "back-prop., PipeDream-2BW",
    "sweeps_synchronous": "sweeps, synchronous",
    "sweeps_zero_bubble": "sweeps, zero bubble",
    "sweeps_one_batch_late": "sweeps, one batch late",
    "sweeps_streaming": "sweeps, streaming",
    "admm_on_stages": "Algorithm 1",
}


class Result(NamedTuple):
    """What a method came to, over its seeds.

    Attributes:
        method: as the options name it.
        name: for people.
        processes: that it ran on.
        rate: learning rate; None for methods without.
        courses: of all seeds.
        seconds: median until it had the accuracy, infinite if most seeds never had it.
        passes: the same in passes.
        pass_seconds: of one pass, the median.
        best: the highest accuracy in the median seed.
    """

    method: str
    name: str
    processes: int
    rate: float | None
    courses: list[Course]
    seconds: float
    passes: float
    pass_seconds: float
    best: float


def main(options: RaceConfig) -> int:
    """Races, or is one of the racing processes; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    if options.courses:
        return courses.main(options)
    with usage_errors():
        load(options.data).check_classes()  # before there is a directory
    measurement = Measurement("race", options)
    results: list[Result] = []
    raced: dict[str, Any] = {}
    for processes, chosen in (
        (1, [name for name in options.methods if name in ON_ONE]),
        (options.processes, [name for name in options.methods if name not in ON_ONE]),
    ):
        if chosen:
            words = _words(dataclasses.replace(options, methods=tuple(chosen)))
            raced |= result_of(["race", "--courses", *words], processes)
            results += [_result(name, processes, raced[name], options) for name in chosen]
    results.sort(key=lambda one: (one.seconds, -one.best))
    measurement.show(_table(results, options))
    predictions = _predictions(results, raced, options) if options.predict else []
    for on in HARDWARE if predictions else ():
        measurement.show(f"\nPREDICTED, not measured: {on.described}")
        measurement.show(predicted_table(predictions, NAMES, on))
    measurement.draw("race.figure", results, predictions, options.accuracy)
    measurement.save(
        {
            "results": [one._asdict() for one in results],
            "predicted": [one._asdict() | {"layout": one.layout._asdict()} for one in predictions],
        }
    )
    return 0


def _predictions(
    results: list[Result], raced: dict[str, Any], options: RaceConfig
) -> list[Prediction]:
    """On devices that are not here, of passes as measured and of streaming on more stages."""
    passes = {one.method: one.passes for one in results}
    widths, samples = next((one["widths"], one["samples"]) for one in raced.values())
    if "sweeps_streaming" in passes:
        stages = min(VIRTUAL_STAGES, len(widths) - 1)
        # Devices that share cores, so that seconds say nothing; the limit is one of patience.
        virtual = dataclasses.replace(
            options,
            methods=("sweeps_streaming",),
            processes=stages,
            microbatches=None,
            rates=(raced["sweeps_streaming"]["rate"],),
            seconds=2 * stages * options.seconds,
        )
        found = result_of(["race", "--courses", *_words(virtual)], 1, devices=stages)
        course = _result("sweeps_streaming", stages, found["sweeps_streaming"], options)
        passes["sweeps_streaming"] = course.passes
    return predicted(passes, tuple(widths), samples, options.batch)


def _result(name: str, processes: int, found: dict[str, Any], options: RaceConfig) -> Result:
    trained = [Course(**course) for course in found["courses"]]
    reached = [course.reached(options.accuracy) for course in trained]
    return Result(
        name,
        NAMES[name],
        processes,
        found["rate"],
        trained,
        seconds=statistics.median(seconds for seconds, _ in reached),
        passes=statistics.median(passes for _, passes in reached),
        pass_seconds=statistics.median(c.seconds[-1] / c.passes[-1] for c in trained),
        best=statistics.median(max(course.accuracy) for course in trained),
    )


def _table(results: list[Result], options: RaceConfig) -> Table:
    title = (
        f"until {options.accuracy:g} % of the test samples of {options.data.title} are right, "
        f"median of {options.seeds}"
    )
    headings = "", "proc.", "rate", "s", "passes", "ms/pass", "best, %"
    made = table(*headings, title=title)
    for one in results:
        reached = math.isfinite(one.seconds)
        made.add_row(
            one.name,
            str(one.processes),
            "" if one.rate is None else f"{one.rate:g}",
            f"{one.seconds:.3g}" if reached else "not reached",
            f"{one.passes:g}" if reached else "",
            f"{1000 * one.pass_seconds:.3g}",
            f"{one.best:.1f}",
        )
    return made


def _words(options: Any, prefix: str = "--") -> list[str]:
    """The command line that has these options."""
    words: list[str] = []
    for field in dataclasses.fields(options):
        name, value = f"{prefix}{field.name.replace('_', '-')}", getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            words += _words(value, f"{name}.")
        elif isinstance(value, bool):
            stem = name.removeprefix(prefix)
            words += (
                []
                if field.name in ("courses", "distributed")
                else ([name if value else f"{prefix}no-{stem}"])
            )
        elif isinstance(value, tuple):
            words += [name, *map(str, value)]
        elif value is not None:
            words += [name, str(value.absolute() if isinstance(value, Path) else value)]
    return words
