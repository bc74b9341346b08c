"""The figure of ``study settings``: accuracy against the number that tuning would choose."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.report.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, finish, log_axis
from experiments.study.settings import WAYS, Row

COLOURS = BLUE, ORANGE, GREEN, PURPLE, SKY


def figure(rows: list[Row]) -> Figure:
    """Error on held-out samples: a line per network, dots for seeds, one panel per way."""
    drawing = Figure(figsize=(4 * len(WAYS), 4), dpi=110, layout="constrained")
    panels = drawing.subplots(1, len(WAYS), sharey=True)
    for axes, (way, (_, name)) in zip(panels, WAYS.items(), strict=True):
        own = [row for row in rows if row.way == way]
        for row, colour in zip(own, itertools.cycle(COLOURS), strict=False):
            factors = sorted(row.validation)
            wrong = [1 - np.mean(row.validation[factor]) for factor in factors]
            axes.plot(factors, wrong, color=colour, label=f"{row.layers} layers")
            for factor in factors:
                every = 1 - np.asarray(row.validation[factor])
                axes.plot([factor] * len(every), every, "o", color=colour, markersize=3)
        axes.axvline(1.0, color=GREY, linestyle=":", zorder=0)
        log_axis(axes.xaxis)
        if own:
            along = f"{name} / recommended"
            finish(axes, way, "error on held-out samples", log=True, along=along)
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    return drawing
