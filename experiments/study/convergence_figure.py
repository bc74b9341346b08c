"""The figure of ``study convergence``: Lagrangian, residual and steps of all runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report import plotting as plots
from experiments.study.convergence import Setting, exponent, shortest
from experiments.study.history import History, finite_ones


def figure(settings: list[Setting], samples: int, title: str) -> Figure:
    """Lagrangian with the loss of the forward pass, residual, and k c_k, logarithmic both ways.

    Args:
        settings: with their histories.
        samples: number of training samples.
        title: heading of the figure.
    """
    drawing = Figure(figsize=(13, 4.4), dpi=120, layout="constrained")
    panels = drawing.subplots(1, 3)
    # Where settings coincide, the broad pale lines stay visible under the fine ones.
    styles = zip(settings, ((plots.ORANGE, 3.0, 0.45), (plots.BLUE, 1.2, 1.0)), strict=True)
    for setting, (colour, width, alpha) in styles:
        look = {"color": colour, "lw": width, "alpha": alpha}
        for one in finite_ones(setting.histories):
            _draw(panels, one, samples, look)
        named = f"{setting.name}, rho = {float(setting.config.rho):g}"
        for axes, label in zip(panels, (named, named, named + _exponents(setting)), strict=True):
            axes.plot([], [], label=label, **look)
    left, middle, right = panels
    for style, label in (
        ("-", "augmented Lagrangian"),
        (":", "objective"),
        ("--", "loss of the forward pass"),
    ):
        left.plot([], [], style, color=plots.BLACK, label=label)
    plots.finish(left, "Lagrangian, objective and loss", "per training sample", log=True)
    plots.finish(middle, "Primal residual", r"$\sum_l\,\|p_{l+1} - q_l\|^2$", log=True)
    plots.finish(right, r"$c_k$: smallest squared step so far", r"$k\,c_k$", log=True)
    for axes in panels:
        plots.log_axis(axes.xaxis)
    drawing.suptitle(title)
    return drawing


def _draw(panels: Sequence[Axes], one: History, samples: int, look: dict[str, Any]) -> None:
    left, middle, right = panels
    report = one.report
    k = np.arange(1, len(report.lagrangian) + 1)
    left.plot(k, report.lagrangian / samples, **look)
    left.plot(k, report.objective / samples, ls=":", **look)
    left.plot(one.at, [loss for loss, _ in one.train], ls="--", **look)
    # The first iteration leaves but rounding of the residual: the start is a forward pass.
    middle.plot(k[1:], report.residual[1:], **look)
    right.plot(k, k * shortest(report.squared_step), **look)


def _exponents(setting: Setting) -> str:
    """How c_k falls in the runs of a setting, for the legend."""
    found = [exponent(one.report.squared_step) for one in finite_ones(setting.histories)]
    if not found:
        return ""
    ends = dict.fromkeys(f"{one:.2f}" for one in (min(found), max(found)))  # one if they are alike
    return f", exponent {' to '.join(ends)}"
