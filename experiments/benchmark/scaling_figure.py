"""The figure of ``scaling``: seconds and speedup, against neurons and against layers."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.benchmark.speedup import Curve, Curves
from experiments.report.plotting import BLACK, BLUE, GREY, log_axis

TITLES = ("20 layers, wider and wider", "1,500 neurons, deeper and deeper")
ALONG = ("neurons per hidden layer", "layers")


def figure(
    *,
    paper: Curves,
    measured: Curves | None,
    named: str,
    several: str,
    predicted: Curves,
    hardware: str,
) -> Figure:
    """Draws all of them; what is measured has markers and solid lines, what is predicted has none.

    Args:
        paper: what the paper measured, in seconds per 1,000 samples, like all others.
        measured: what was measured here, if anything was.
        named: what to call it.
        several: what it was measured on, beside a single one.
        predicted: what the model says with a device for every layer.
        hardware: the kind of these devices.
    """
    drawing = Figure(figsize=(11, 8.6), dpi=110, layout="constrained")
    panels = drawing.subplots(2, 2, sharex="col")
    for column, (above, below) in enumerate(panels.T):
        for curves, name, look, together in (
            (measured, named, {"color": BLACK, "marker": "o"}, several),
            (paper, "measured by the paper", {"color": GREY, "marker": "s"}, "20 nodes"),
        ):
            if curves is not None:
                _seconds(above, curves[column], name, together, look)
                _speedup(below, curves[column], look)
        look = {"color": BLUE, "ls": "--", "lw": 2}
        _seconds(above, predicted[column], f"PREDICTED: {hardware}", "one per layer", look)
        _speedup(below, predicted[column], look)
        log_axis(above.yaxis)
        above.set_title(TITLES[column])
        below.set(xlabel=ALONG[column], ylim=(0, None))
        for axes in (above, below):
            axes.grid(alpha=0.25)
    panels[0][0].set_ylabel("seconds per iteration and 1,000 samples")
    panels[1][0].set_ylabel("speedup: times faster than alone")
    handles, labels = panels[0][0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return drawing


def _seconds(axes: Axes, curve: Curve, name: str, together: str, look: dict[str, Any]) -> None:
    """Two lines: alone, pale and with open markers, and together."""
    pale = look | {"mfc": "white", "alpha": 0.5}
    at, pairs = list(curve), curve.values()
    axes.plot(at, [one.alone for one in pairs], label=f"{name}, alone", **pale)
    axes.plot(at, [one.together for one in pairs], label=f"{name}, {together}", **look)


def _speedup(axes: Axes, curve: Curve, look: dict[str, Any]) -> None:
    axes.plot(list(curve), [one.speedup for one in curve.values()], **look)
