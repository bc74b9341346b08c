"""The figure of ``speed sizes``: time against samples, neurons and layers."""

from __future__ import annotations

from matplotlib.figure import Figure

from experiments.benchmark.programs import median
from experiments.benchmark.sizes import Point
from experiments.report import plotting as plots


def figure(found: dict[str, list[Point]]) -> Figure:
    """Time against each size, both logarithmic, with what the multiply-adds alone would give."""
    drawing = Figure(figsize=(13, 4), dpi=120, layout="constrained")
    panels = drawing.subplots(1, len(found), squeeze=False)[0]
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
        plots.log_axis(axes.yaxis)
        axes.set_xticks(values, [str(value) for value in values])
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, frameon=False)
    return drawing
