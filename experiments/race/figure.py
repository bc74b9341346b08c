"""The figure of ``race``: accuracy against seconds of training, and predictions below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.report.plotting import BLACK, GREY, log_axis

if TYPE_CHECKING:
    from experiments.race.command import Result
    from experiments.race.predictions import Prediction

SHADES = {"back": "Blues", "sweeps": "Oranges"}  # by what a method's name begins with; others grey


def figure(results: Sequence[Result], predictions: Sequence[Prediction], accuracy: float) -> Figure:
    """Draws the errors of every method while it trained, and beside them how long it took.

    Args:
        results: of all methods, the fastest first.
        predictions: drawn below, with dashed lines and hollow marks; may be none.
        accuracy: in percent, that ends the race.
    """
    rows = 2 if predictions else 1
    drawing = Figure(figsize=(11, 5.2 * rows), dpi=110, layout="constrained")
    above, *below = drawing.subfigures(rows, 1, squeeze=False).ravel()
    left, right = above.subplots(1, 2, width_ratios=(3, 2))
    colours = _colours(results)
    for part in below:
        by_method = {one.method: colour for one, colour in zip(results, colours, strict=True)}
        _draw_predictions(part.subplots(1, 2), predictions, by_method, accuracy)
    for number, (one, colour) in enumerate(zip(results, colours, strict=True)):
        in_order = sorted(one.courses, key=lambda course: course.reached(accuracy)[0])
        course = in_order[len(in_order) // 2]
        errors = [100 - found for found in course.accuracy]
        left.plot(course.seconds, errors, color=colour, ls="--" if one.processes == 1 else "-")
        left.plot(course.seconds[-1], errors[-1], "o", color=colour, ms=4)
        reached = math.isfinite(one.seconds)
        right.barh(number, one.seconds if reached else 0, color=colour)
        text = f" {one.seconds:.3g} s" if reached else f" not reached: {one.best:.1f} %"
        right.text(one.seconds if reached else 0, number, text, va="center", fontsize=8)
    left.axhline(100 - accuracy, color=GREY, lw=1)
    left.set(xlabel="seconds of training (dashed: one process)", ylabel="test samples wrong, %")
    log_axis(left.xaxis)
    log_axis(left.yaxis)
    left.grid(alpha=0.25)
    names = [f"{one.name} ({one.processes})" for one in results]
    right.set_yticks(range(len(results)), names, fontsize=8)
    right.invert_yaxis()
    right.margins(x=0.3)
    right.set(xlabel=f"seconds to {accuracy:g} %, median of seeds (processes)")
    return drawing


def _draw_predictions(
    axes: Any, predictions: Sequence[Prediction], colours: dict[str, Any], accuracy: float
) -> None:
    """Seconds against the number of devices, a panel for each kind of them."""
    for axis, hardware in zip(axes, sorted({one.hardware for one in predictions}), strict=True):
        for method, colour in colours.items():
            mine = [p for p in predictions if (p.method, p.hardware) == (method, hardware)]
            if mine:
                devices, seconds = zip(*((p.devices, p.seconds) for p in mine), strict=True)
                axis.plot(devices, seconds, "o--", color=colour, mfc="white", ms=5, lw=1)
        axis.set_xscale("log", base=2)
        log_axis(axis.yaxis)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.25)
        axis.set(
            title=f"PREDICTED, not measured: {hardware}",
            xlabel="devices (colours as above)",
            ylabel=f"seconds to {accuracy:g} %",
        )


def _colours(results: Sequence[Result]) -> list[Any]:
    """A shade for every method, dark for the fastest of its family."""
    families = [next((name for name in SHADES if one.name.startswith(name)), "") for one in results]
    found = []
    for number, family in enumerate(families):
        if not family:
            found.append((BLACK, GREY)[families[:number].count("") % 2])
            continue
        levels = np.linspace(0.95, 0.4, families.count(family))
        shades = matplotlib.colormaps[SHADES[family]]
        found.append(shades(levels[families[:number].count(family)]))
    return found
