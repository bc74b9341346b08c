"""``python -m experiments sizes``: time per iteration while samples, neurons or layers grow."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from rich.table import Table

import pdadmm_jax as pdadmm
from experiments.benchmark.options import SizesConfig
from experiments.benchmark.programs import admm, median, middle_and_ends, timed_in_turn
from experiments.options.sizes import SizeConfig
from experiments.report.measurement import Measurement, table
from experiments.runtime import run_directory as runs
from pdadmm_jax.parallel.plan import plan

FACTORS = (1, 2, 4, 8)


class Point(NamedTuple):
    """One size.

    Attributes:
        value: samples, neurons or layers.
        multiply_adds: of the products of an iteration.
        seconds: per iteration, one number for each dispatch.
    """

    value: int
    multiply_adds: int
    seconds: list[float]


def main(options: SizesConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    measurement = Measurement("sizes", options)
    measurement.show(f"time of an iteration on {runs.environment()['devices']}")
    # What is fixed is in the middle of its range, to keep the smallest problem from being tiny
    # and the largest from taking all day.
    fixed = {
        "samples": 2 * options.samples,
        "neurons": 4 * options.neurons,
        "layers": options.layers,
    }
    found = {}
    for name in fixed:
        values = [factor * getattr(options, name) for factor in FACTORS]
        found[name] = [point(options, fixed | {name: value}, value) for value in values]
        others = ", ".join(f"{value} {other}" for other, value in fixed.items() if other != name)
        measurement.show(_table(name, others, found[name]))
    measurement.draw("benchmark.sizes_figure", found)
    measurement.save({name: [one._asdict() for one in points] for name, points in found.items()})
    return 0


def point(options: SizesConfig, size: dict[str, int], value: int) -> Point:
    """Times one size; inputs are as wide as hidden layers."""
    one = SizeConfig(**size, features=size["neurons"], iterations=options.iterations)
    seconds = timed_in_turn([admm(one, pdadmm.admm.Config())], one.iterations, options.repeats)
    return Point(value, one.samples * sum(plan(one.widths, stages=1).work), *seconds.values())


def exponent(before: Point, after: Point) -> float:
    """Of the growth of time with multiply-adds; 1 is linear in samples and layers."""
    work = math.log(after.multiply_adds / before.multiply_adds)
    return math.log(median(after.seconds) / median(before.seconds)) / work


def _table(name: str, others: str, points: list[Point]) -> Table:
    headings = name, "s per iteration", "fastest", "slowest", "GFLOP/s", "exponent"
    made = table(*headings, title=f"with {others}")
    for before, one in itertools.pairwise([None, *points]):
        assert one is not None
        rate = f"{2 * one.multiply_adds / median(one.seconds) / 1e9:.0f}"
        grown = f"{exponent(before, one):.2f}" if before else ""
        made.add_row(str(one.value), *middle_and_ends(one.seconds), rate, grown)
    return made
