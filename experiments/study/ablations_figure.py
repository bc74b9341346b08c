"""The figure of ``study ablations``: the error of every variant."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from experiments.report.plotting import BLACK, BLUE, error_axis, errors_drawn
from experiments.study.ablations import Result


def figure(found: dict[str, dict[str, Result]]) -> Figure:
    """Error on held-out samples: a dot for the mean, a line over all seeds."""
    lines = sum(map(len, found.values())) + 2 * len(found)
    drawing = Figure(figsize=(8, 0.28 * lines), dpi=110, layout="constrained")
    axes = drawing.subplots()
    position, ticks, labels = 0.0, [], []
    for axis, names in found.items():
        axes.text(0.01, position, axis, transform=axes.get_yaxis_transform(), weight="bold")
        for name, one in names.items():
            position += 1
            wrong = 1 - np.asarray(one.validation)
            colour = BLACK if name.endswith("*") else BLUE
            if math.isfinite(wrong.mean()):
                errors_drawn(axes, position, wrong, colour)
            ticks.append(position)
            labels.append(name)
        position += 1.6
    axes.set_yticks(ticks, labels)
    error_axis(axes, "error on held-out samples (black: the defaults)")
    return drawing
