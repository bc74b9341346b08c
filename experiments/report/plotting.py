"""The look of all figures: palette, axes, legends.

Made without pyplot, which would choose how a notebook or a program that imports this shows its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

# Okabe and Ito's palette: distinguishable with any colour vision.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
PURPLE, YELLOW, GREY, SKY = "#CC79A7", "#E69F00", "#999999", "#56B4E9"


def curve(axes: Axes, x: Any, y: Any, *style: str, **look: Any) -> None:
    """A line; where it has a single finite point, a marker, for a line of that would be empty."""
    if np.count_nonzero(np.isfinite(np.asarray(y, float))) == 1:
        look.setdefault("marker", "o")
    axes.plot(x, y, *style, **look)


def mean_and_range(
    axes: Axes, x: Any, runs: np.ndarray, look: tuple[str, str], label: str, **more: Any
) -> None:
    """The mean of several runs as a line, and a band from the smallest to the largest.

    Args:
        axes: where to.
        x: positions of the values.
        runs: (runs, values).
        look: colour and dash.
        label: in the legend.
        **more: of the line.
    """
    colour, dash = look
    curve(axes, x, runs.mean(0), dash, color=colour, label=label, **more)
    axes.fill_between(x, runs.min(0), runs.max(0), color=colour, alpha=0.15, lw=0)


def count_axis(axes: Axes, first: float, last: float) -> None:
    """Ticks at whole numbers, from the first to the last of a count such as iterations.

    A single value gets half a unit of room on each side.
    """
    room = 0.02 * (last - first) if last > first else 0.5
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


class _FewTicks(LogLocator):
    """Ticks at 1, 2 and 5 over a few decades, at powers of ten over many."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        few = vmin > 0 and vmax < 1e4 * vmin
        self.set_params(subs=(1, 2, 5) if few else (1,), numticks=6)
        return super().tick_values(vmin, vmax)


def log_axis(axis: Axis) -> None:
    """A logarithmic axis whose labels are plain numbers, few enough not to touch."""
    axis._set_axes_scale("log")  # pyright: ignore[reportAttributeAccessIssue]
    axis.set_major_locator(_FewTicks())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def errors_drawn(axes: Axes, position: float, errors: np.ndarray, colour: str) -> None:
    """A dot for the mean, a line over all seeds."""
    axes.plot([errors.min(), errors.max()], [position] * 2, color=colour, lw=2, alpha=0.5)
    axes.plot(errors.mean(), position, "o", color=colour)


def error_axis(axes: Axes, label: str) -> None:
    """Shares of samples to the right, the first name on top."""
    axes.invert_yaxis()
    log_axis(axes.xaxis)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(label)
    axes.grid(alpha=0.25, axis="x")


def finish(axes: Axes, title: str, unit: str, *, log: bool, along: str = "iteration") -> None:
    """Title, labels, grid and legend of a panel; its height may be logarithmic."""
    axes.set_title(title)
    axes.set_xlabel(along)
    axes.set_ylabel(unit)
    if log:
        log_axis(axes.yaxis)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
