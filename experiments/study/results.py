"""What the methods came to: in numbers, and as a table."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from experiments.measurement import table
from experiments.methods import METHODS
from experiments.study.trial import Point


class Result(NamedTuple):
    """What a method came to.

    Attributes:
        method: its name.
        number: the number that it was given.
        courses: one of each seed, scored on the test samples.
    """

    method: str
    number: float
    courses: list[list[Point]]

    def last(self, name: str) -> list[float]:
        """A field of the last point of every seed."""
        return [getattr(course[-1], name) for course in self.courses]


def summary(result: Result) -> dict[str, Any]:
    """The numbers that are kept, a list with one entry for each seed."""
    ends = {name: result.last(name) for name in Point._fields if name != "readings"}
    return {"method": result.method, "number": result.number, **ends}


def results_table(results: list[Result]) -> Table:
    """Means over the seeds, with the deviation where it matters, the best test accuracy first."""
    made = table("", "tuned", "test %", "test loss", "train %", "s per pass")
    for one in sorted(results, key=lambda one: -float(np.mean(one.last("accuracy")))):
        method = METHODS[one.method]
        seconds = [s / k for s, k in zip(one.last("seconds"), one.last("passes"), strict=True)]
        made.add_row(
            method.title,
            f"{method.number} {one.number:g}",
            plus_minus([100 * share for share in one.last("accuracy")], 2),
            f"{np.mean(one.last('loss')):.3f}",
            f"{100 * np.mean(one.last('train_accuracy')):.2f}",
            f"{np.median(seconds):.4f}",
        )
    return made


def plus_minus(values: list[float], digits: int) -> str:
    """Mean and standard deviation of a sample."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"
