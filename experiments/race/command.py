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

from experiments.race import courses
from experiments.race.courses import Course
from experiments.race.figure import figure
from experiments.race.options import ON_ONE, RaceConfig
from experiments.report.measurement import Measurement, table
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
        name: for people.
        processes: that it ran on.
        rate: learning rate; None for methods without.
        courses: of all seeds.
        seconds: median until it had the accuracy, infinite if most seeds never had it.
        passes: the same in passes.
        pass_seconds: of one pass, the median.
        best: the highest accuracy in the median seed.
    """

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
    measurement = Measurement("race", options)
    results: list[Result] = []
    for processes, chosen in (
        (1, [name for name in options.methods if name in ON_ONE]),
        (options.processes, [name for name in options.methods if name not in ON_ONE]),
    ):
        if chosen:
            words = _words(dataclasses.replace(options, methods=tuple(chosen)))
            found = result_of(["race", "--courses", *words], processes)
            results += [_result(name, processes, one, options) for name, one in found.items()]
    results.sort(key=lambda one: (one.seconds, -one.best))
    measurement.show(_table(results, options))
    figure(measurement.figure(), results, options.accuracy)
    measurement.save({"results": [one._asdict() for one in results]})
    return 0


def _result(name: str, processes: int, found: dict[str, Any], options: RaceConfig) -> Result:
    trained = [Course(**course) for course in found["courses"]]
    reached = [course.reached(options.accuracy) for course in trained]
    return Result(
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
