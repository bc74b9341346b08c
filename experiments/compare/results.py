"""Results of methods: in numbers, and as a table."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from experiments.compare.methods import METHODS
from experiments.compare.trial import Point
from experiments.report.measurement import table


class Result(NamedTuple):
    """Results of a method.

    Attributes:
        method: its name.
        number: the number that it was given.
        histories: one of each seed, scored on the test samples.
    """

    method: str
    number: float
    histories: list[list[Point]]

    def last(self, name: str) -> list[float]:
        """A field of the last point of every seed."""
        return [getattr(history[-1], name) for history in self.histories]

    def accuracy(self, digits: int) -> str:
        """Accuracy in per cent; or how many seeds ended with values that are not finite."""
        broken = sum(not math.isfinite(loss) for loss in self.last("train_loss"))
        if broken:
            return f"{broken} of {len(self.histories)} not finite"
        return plus_minus([100 * share for share in self.last("accuracy")], digits)

    def seconds_per_pass(self) -> float:
        """Median over the second half of all histories, from one evaluation to the next.

        By then all layers are there, and whatever a first call costs is over.
        """
        paces: list[float] = []
        for history in self.histories:
            ends = [(0, 0.0), *((point.passes, point.seconds) for point in history)]
            stretches = list(itertools.pairwise(ends))
            for (done, then), (passes, now) in stretches[len(stretches) // 2 :]:
                paces.append((now - then) / (passes - done))
        return float(np.median(paces))


def summary(result: Result) -> dict[str, Any]:
    """The numbers that are saved, a list with one entry for each seed."""
    ends = {name: result.last(name) for name in Point._fields}
    pace = result.seconds_per_pass()
    return {"method": result.method, "number": result.number, "seconds_per_pass": pace, **ends}


def results_table(results: list[Result]) -> Table:
    """Means over the seeds, with the deviation where it matters, the best test accuracy first."""
    made = table("", "number", "test %", "test loss", "train %", "s per pass")
    for one in sorted(results, key=lambda one: -float(np.mean(one.last("accuracy")))):
        method = METHODS[one.method]
        made.add_row(
            method.title,
            f"{method.number} {one.number:g}",
            one.accuracy(2),
            f"{np.mean(one.last('loss')):.3f}",
            f"{100 * np.mean(one.last('train_accuracy')):.2f}",
            f"{one.seconds_per_pass():.4f}",
        )
    return made


def plus_minus(values: list[float], digits: int) -> str:
    """Mean and standard deviation of a sample."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"
