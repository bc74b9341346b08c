"""``python -m experiments sizes``: time per iteration while samples, neurons or layers grow."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import plots, runs
from experiments.config import SizeConfig
from experiments.errors import usage_errors
from experiments.speed.config import SizesConfig
from experiments.speed.programs import admm, median, timed_in_turn
from pdadmm_jax.plan import plan

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


def main(config: SizesConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    console = Console(highlight=False, soft_wrap=True)
    with usage_errors():
        directory = runs.create(config.out, "sizes", config)
    console.print(f"time of an iteration on {runs.environment()['devices']}")
    # What stands still is in the middle of its range, to keep the smallest problem from being tiny
    # and the largest from taking all day.
    still = {"samples": 2 * config.samples, "neurons": 4 * config.neurons, "layers": config.layers}
    found = {}
    for name in still:
        values = [factor * getattr(config, name) for factor in FACTORS]
        found[name] = [point(config, still | {name: value}, value) for value in values]
        others = ", ".join(f"{value} {other}" for other, value in still.items() if other != name)
        console.print(_table(name, others, found[name]))
    runs.write_json(
        directory / "sizes.json",
        {name: [one._asdict() for one in points] for name, points in found.items()},
    )
    figure(directory / "sizes.png", found)
    console.print(f"saved to {directory}: config.json, sizes.json, sizes.png")
    return 0


def point(config: SizesConfig, size: dict[str, int], value: int) -> Point:
    """Times one size; inputs are as wide as hidden layers."""
    one = SizeConfig(**size, features=size["neurons"], iterations=config.iterations)
    seconds = timed_in_turn([admm(one, pdadmm.Hyperparameters())], one.iterations, config.repeats)
    return Point(value, one.samples * sum(plan(one.widths, stages=1).work), *seconds.values())


def exponent(before: Point, after: Point) -> float:
    """Of the growth of time with multiply-adds; 1 is linear in samples and layers."""
    work = math.log(after.multiply_adds / before.multiply_adds)
    return math.log(median(after.seconds) / median(before.seconds)) / work


def _table(name: str, others: str, points: list[Point]) -> Table:
    table = Table(box=None, title=f"with {others}", title_justify="left")
    for heading in (name, "s per iteration", "fastest", "slowest", "GFLOP/s", "exponent"):
        table.add_column(heading, justify="right")
    for before, one in itertools.pairwise([None, *points]):
        assert one is not None
        rate = f"{2 * one.multiply_adds / median(one.seconds) / 1e9:.0f}"
        times = (f"{t:.4f}" for t in (median(one.seconds), min(one.seconds), max(one.seconds)))
        grown = f"{exponent(before, one):.2f}" if before else ""
        table.add_row(str(one.value), *times, rate, grown)
    return table


def figure(path: Path, found: dict[str, list[Point]]) -> None:
    """Time against each size, both logarithmic, with what the multiply-adds alone would give."""
    drawing, panels = plt.subplots(1, len(found), figsize=(13, 4), layout="constrained")
    for axes, (name, points) in zip(panels, found.items(), strict=True):
        last = points[-1]
        rate = median(last.seconds) / last.multiply_adds
        values = [one.value for one in points]
        expected = [rate * one.multiply_adds for one in points]
        axes.plot(values, expected, color="0.6", ls="--", label="as the multiply-adds grow")
        middles = [median(one.seconds) for one in points]
        axes.plot(values, middles, "o-", color=plots.BLUE, label="measured")
        axes.set(title=f"Time against {name}", xlabel=name, ylabel="seconds per iteration")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(values, [str(value) for value in values])
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, frameon=False)
    drawing.savefig(path, dpi=120)
    plt.close(drawing)
