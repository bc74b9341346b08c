"""Histories of several methods in one figure; a method has the same colour everywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.compare.methods import METHODS
from experiments.compare.trial import Point
from experiments.report.plotting import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    YELLOW,
    count_axis,
    log_axis,
    mean_and_range,
)

# A dash for the second of a kind, dots for the third.
STYLES = {
    "pdadmm_exact": (BLUE, "-"),
    "pdadmm": (BLUE, "--"),
    "pdadmm_search": (BLUE, ":"),
    "sweeps": (SKY, "-"),
    "sweeps_batches": (SKY, "--"),
    "dladmm": (GREEN, "-"),
    "gd": (GREY, "-"),
    "adadelta": (PURPLE, "-"),
    "adagrad": (YELLOW, "-"),
    "adam": (ORANGE, "-"),
    "adam_batches": (ORANGE, "--"),
    "sgd_batches": (GREY, "--"),
}


Value = Callable[[Point], float]

ROWS: tuple[tuple[str, Value], ...] = (
    ("error on the\ntest samples", lambda point: 1 - point.accuracy),
    ("mean loss on the\ntest samples", lambda point: point.loss),
    ("error on the\ntraining samples", lambda point: 1 - point.train_accuracy),
    ("mean loss on the\ntraining samples", lambda point: point.train_loss),
)
COLUMNS: tuple[tuple[str, Value, str], ...] = (
    ("passes over the training samples", lambda point: point.passes, "linear"),
    ("seconds of training", lambda point: point.seconds, "log"),
)


def curves(histories: dict[str, list[list[Point]]], title: str) -> Figure:
    """Error and loss on the test and the training samples, against passes and against seconds.

    Lines are means over the seeds, bands reach from the smallest to the largest.  A line leaves its
    panel below where the error is zero.

    Args:
        histories: of every method, one of each seed; what has a name of its own, such as one method
            after another, is drawn in black.
        title: heading of the figure.
    """
    figure = Figure(figsize=(12, 14), dpi=110, layout="constrained")
    panels = figure.subplots(len(ROWS), len(COLUMNS), sharex="col", sharey="row")
    longest = max(run[-1].passes for runs in histories.values() for run in runs)
    for row, (label, value) in zip(panels, ROWS, strict=True):
        for axes, (_, time, scale) in zip(row, COLUMNS, strict=True):
            for name, runs in histories.items():
                _curve(axes, name, runs, time, value)
            if scale == "log":
                log_axis(axes.xaxis)
            else:
                count_axis(axes, 0, longest)
            log_axis(axes.yaxis)
            axes.tick_params(labelbottom=True)
            axes.grid(alpha=0.25, which="both")
        row[0].set_ylabel(label)
    for axes, (unit, _, _) in zip(panels[-1], COLUMNS, strict=True):
        axes.set_xlabel(unit)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle(title)
    return figure


def _curve(
    axes: Axes,
    name: str,
    runs: list[list[Point]],
    time: Value,
    value: Value,
) -> None:
    length = min(map(len, runs))  # a history that ceased to be finite is shorter
    at = np.mean([[time(point) for point in run[:length]] for run in runs], 0)
    values = np.asarray([[value(point) for point in run[:length]] for run in runs])
    label = METHODS[name].title if name in METHODS else name
    mean_and_range(axes, at, values, STYLES.get(name, (BLACK, "-")), label, lw=1.5)
