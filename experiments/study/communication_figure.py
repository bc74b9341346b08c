"""The figure of ``study communication``: accuracy and Lagrangian against bytes sent."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.options.devices import MessageDtype
from experiments.report import plotting as plots
from experiments.study.communication import Traffic
from experiments.study.history import Problem, finite_ones

# Colour and marker, which shades of grey leave apart.
LOOKS: dict[MessageDtype, tuple[str, str]] = {
    "full": (plots.BLACK, "o"),
    "float32": (plots.PURPLE, "v"),
    "bfloat16": (plots.BLUE, "s"),
    "int8": (plots.GREEN, "^"),
    "int4": (plots.ORANGE, "D"),
}


def figure(found: list[Traffic], given: Problem) -> Figure:
    """Held-out accuracy and Lagrangian against bytes, a line for the mean, a band for all seeds.

    Args:
        found: with their histories.
        given: what was trained.
    """
    drawing = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    left, right = drawing.subplots(1, 2, sharex=True)
    for one in found:
        ended = finite_ones(one.histories)
        if not ended:
            continue
        at = ended[0].at
        accuracy = np.asarray([[score for _, score in each.validation] for each in ended])
        _draw(left, one, at, accuracy)
        every = np.asarray([each.report.lagrangian / given.splits.samples for each in ended])
        _draw(right, one, np.arange(1, every.shape[1] + 1), every)
    along = "megabytes sent so far, over all boundaries"
    plots.finish(
        left, "Accuracy of the forward pass", "share of held-out samples", log=False, along=along
    )
    plots.finish(right, "Augmented Lagrangian", "per training sample", log=True, along=along)
    for axes in (left, right):
        plots.log_axis(axes.xaxis)
    drawing.suptitle(f"pdADMM on {given.name}, {given.network}, {found[0].boundaries + 1} stages")
    return drawing


def _draw(axes: Axes, one: Traffic, at: Any, values: np.ndarray) -> None:
    """A line for the mean over seeds, marked where it ends, and a band for all of them."""
    colour, marker = LOOKS[one.dtype]
    ends = {"marker": marker, "markevery": [-1]}
    plots.mean_and_range(axes, one.sent(at), values, (colour, "-"), one.dtype, **ends)
