"""The figure of ``graphs``: accuracy on validation and test nodes while methods train."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.compare.curves import STYLES as COMPARED
from experiments.graphs.methods import METHODS
from experiments.report.plotting import BLUE, ORANGE, count_axis, finish, mean_and_range

if TYPE_CHECKING:
    from experiments.graphs.command import Result

STYLES = COMPARED | {
    "pdadmm_g": (BLUE, "-"),
    "pdadmm_g_q": (BLUE, "--"),
    "adam_grown": (ORANGE, "--"),
}


def figure(results: list[Result]) -> Figure:
    """Means over the seeds as lines; bands reach from the smallest to the largest."""
    drawing = Figure(figsize=(11, 5), dpi=110, layout="constrained")
    panels = drawing.subplots(1, 2, sharey=True)
    for axes, part in zip(panels, ("validation", "test"), strict=True):
        for one in results:
            passes = [point.passes for point in one.histories[0]]
            values = np.array([[getattr(point, part) for point in run] for run in one.histories])
            title = METHODS[one.method].title
            mean_and_range(axes, passes, values, STYLES[one.method], title)
        count_axis(axes, 0, results[0].histories[0][-1].passes)
        finish(axes, f"{part} nodes", "accuracy", log=False, along="passes")
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    return drawing
