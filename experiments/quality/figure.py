"""Everything that was tried in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.plotting import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    YELLOW,
    error_axis,
    errors_drawn,
)

MOST_LINES = 4  # variants that the curves show, beside the first and the methods
COLOURS = (BLUE, GREEN, PURPLE, YELLOW)


Style = tuple[str, str]  # colour and dash


class Drawn(NamedTuple):
    """What is drawn of a variant or a method.

    Attributes:
        title: its name.
        style: how a method is drawn that variants are set beside; None for a variant.
        accuracy: on held-out samples, of every seed.
        at: iterations of the losses.
        loss: of the forward pass, mean over the seeds; None if it did not stay finite.
        cosine: of every layer with the true gradient; None for methods without layers' variables.
        hops: that have to wait for one another in an iteration, if known.
    """

    title: str
    style: Style | None
    accuracy: list[float]
    at: list[int]
    loss: np.ndarray | None
    cosine: np.ndarray | None
    hops: float | None


def figure(path: Path, drawn: Sequence[Drawn], first: str) -> None:
    """Held-out errors of all; loss and cosines of the best few, of the first and of the methods.

    Args:
        path: file to write.
        drawn: the best first.
        first: title of the variant that the others are variants of, drawn in black.
    """
    variants = [one for one in drawn if one.style is None and one.loss is not None]
    best = [one for one in variants if one.title != first][:MOST_LINES]
    styles = {one.title: (colour, "-") for one, colour in zip(best, COLOURS, strict=False)}
    styles |= {first: (BLACK, "-")} | {one.title: one.style for one in drawn if one.style}
    named = [one for one in drawn if one.title in styles]
    drawing = Figure(figsize=(13, max(0.27 * len(drawn) + 1, 9)), layout="constrained")
    panels = drawing.subplot_mosaic([["errors", k] for k in ("loss", "hops", "cosine")])
    _errors(panels["errors"], drawn, styles)
    for name in ("loss", "hops"):
        _losses(panels[name], named, styles, against=name)
    _cosines(panels["cosine"], named, styles)
    handles, labels = panels["loss"].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    drawing.savefig(path, dpi=110)


Styles = dict[str, Style]


def _errors(axes: Axes, drawn: Sequence[Drawn], styles: Styles) -> None:
    for position, one in enumerate(drawn):
        colour = styles.get(one.title, (GREY, ""))[0]
        errors_drawn(axes, position, 1 - np.asarray(one.accuracy), colour)
    axes.set_yticks(range(len(drawn)), [one.title for one in drawn])
    for label, one in zip(axes.get_yticklabels(), drawn, strict=True):
        label.set_color(styles.get(one.title, ("0.3", ""))[0])
    error_axis(axes, "held-out samples answered wrong")


def _losses(axes: Axes, drawn: Sequence[Drawn], styles: Styles, *, against: str) -> None:
    for one in drawn:
        per_iteration = 1 if against == "loss" else one.hops
        if one.loss is not None and per_iteration:
            colour, dash = styles[one.title]
            at = per_iteration * np.asarray(one.at)
            axes.plot(at, one.loss, dash, color=colour, label=one.title)
    axes.set(ylabel="per sample", yscale="log")
    axes.grid(alpha=0.25)
    if against == "loss":
        axes.set(title="Loss of the forward pass, training samples", xlabel="iteration")
    else:
        axes.set(xscale="log", xlabel="hops between neighbours that had to wait for one another")


def _cosines(axes: Axes, drawn: Sequence[Drawn], styles: Styles) -> None:
    for one in drawn:
        if one.cosine is not None:
            layers = np.arange(1, len(one.cosine) + 1)
            axes.plot(layers, one.cosine, "o-", color=styles[one.title][0], ms=4)
    axes.axhline(0, color="0.6", lw=0.8)
    axes.set(ylim=(-1.05, 1.05), xlabel="layer", ylabel="cosine")
    axes.set_title("Local directions against the true gradient")
    axes.grid(alpha=0.25)
