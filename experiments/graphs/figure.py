"""The figure of ``graphs``: accuracy on validation and test nodes while methods train."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.graphs.methods import METHODS
from experiments.report.plotting import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    YELLOW,
    count_axis,
    curve,
    finish,
)

if TYPE_CHECKING:
    from experiments.graphs.command import Result

STYLES = {  # a dash for the second of a kind
    "pdadmm_g": (BLUE, "-"),
    "pdadmm_g_q": (BLUE, "--"),
    "sweeps": (SKY, "-"),
    "gd": (GREY, "-"),
    "adadelta": (PURPLE, "-"),
    "adagrad": (YELLOW, "-"),
    "adam": (ORANGE, "-"),
    "adam_grown": (ORANGE, "--"),
}


def figure(results: list[Result]) -> Figure:
    """Means over the seeds as lines; bands reach from the smallest to the largest."""
    drawing = Figure(figsize=(11, 5), dpi=110, layout="constrained")
    panels = drawing.subplots(1, 2, sharey=True)
    for axes, part in zip(panels, ("validation", "test"), strict=True):
        for one in results:
            colour, dash = STYLES[one.method]
            passes = [point.passes for point in one.histories[0]]
            values = np.array([[getattr(point, part) for point in run] for run in one.histories])
            title = METHODS[one.method].title
            curve(axes, passes, values.mean(0), dash, color=colour, label=title)
            axes.fill_between(passes, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
        count_axis(axes, 0, results[0].histories[0][-1].passes)
        finish(axes, f"{part} nodes", "accuracy", log=False, along="passes")
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    return drawing
