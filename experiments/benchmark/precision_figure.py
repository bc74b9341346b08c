"""The figure of ``speed precision``: drift and Lagrangian with products of every precision."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from experiments.benchmark.precision import History
from experiments.report import plotting as plots
from pdadmm_jax.numerics.products import PRECISIONS

COLOURS: dict[str, str] = dict(
    zip(PRECISIONS, (plots.BLACK, plots.BLUE, plots.ORANGE), strict=True)
)


def figure(histories: list[History]) -> Figure:
    """Drift of a and fall of the Lagrangian, logarithmic both ways."""
    drawing = Figure(figsize=(11, 4.8), dpi=120, layout="constrained")
    left, right = drawing.subplots(1, 2)
    # Where histories coincide, the broader lines stay visible under the finer ones.
    for width, one in zip(range(2 * len(histories), 0, -2), histories, strict=True):
        colour, style = COLOURS[one.precision], "-" if one.refreshed else ":"
        label = f"{one.precision}, a {'recomputed' if one.refreshed else 'never refreshed'}"
        left.plot(one.iterations, one.drift, style, color=colour, label=label)
        at = np.unique(np.geomspace(1, len(one.lagrangian), 400).astype(int))
        right.plot(at, one.lagrangian[at - 1], style, color=colour, lw=width / 2)
    left.set(title="Drift of a = p W + b", ylabel="largest error over largest entry")
    right.set(title="Augmented Lagrangian", ylabel="summed over samples")
    for axes in (left, right):
        axes.set_xlabel("iteration")
        plots.log_axis(axes.xaxis)
        plots.log_axis(axes.yaxis)
        axes.grid(alpha=0.25)
    drawing.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return drawing
