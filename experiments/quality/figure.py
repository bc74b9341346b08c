"""Everything that was tried in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from experiments.plots import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, YELLOW, finish

MOST_LINES = 4  # variants that the curves show, beside the first and the methods
COLOURS = (BLUE, GREEN, PURPLE, YELLOW)


class Drawn(NamedTuple):
    """What is drawn of a variant or a method.

    Attributes:
        title: its name.
        beside: whether it is a method that variants are set beside.
        accuracy: on held-out samples, of every seed.
        at: iterations of the losses.
        loss: of the forward pass, mean over the seeds; None if it did not stay finite.
        cosine: of every layer with the true gradient; None for methods without layers' variables.
    """

    title: str
    beside: bool
    accuracy: list[float]
    at: list[int]
    loss: np.ndarray | None
    cosine: np.ndarray | None


def figure(path: Path, drawn: Sequence[Drawn]) -> None:
    """Held-out errors of all; loss and cosines of the best few, of the first and of the methods.

    Args:
        path: file to write.
        drawn: the best first.
    """
    variants = [one for one in drawn if not one.beside and one.loss is not None]
    plain = [one for one in variants if one.title == "as published"]
    best = [one for one in variants if one not in plain][:MOST_LINES]
    styles = {one.title: (colour, "-") for one, colour in zip(best, COLOURS, strict=False)}
    styles |= {one.title: (BLACK, "-") for one in plain}
    beside = [one for one in drawn if one.beside]
    styles |= {one.title: (ORANGE, dash) for one, dash in zip(beside, ("-", "--", ":", "-."))}  # noqa: B905
    drawing = Figure(figsize=(13, max(0.27 * len(drawn) + 1, 6)), layout="constrained")
    panels = drawing.subplot_mosaic([["errors", "loss"], ["errors", "cosine"]])
    _errors(panels["errors"], drawn, styles)
    _losses(panels["loss"], [*beside, *best, *plain], styles)
    _cosines(panels["cosine"], [*best, *plain], styles)
    drawing.savefig(path, dpi=110)


Styles = dict[str, tuple[str, str]]


def _errors(axes: Axes, drawn: Sequence[Drawn], styles: Styles) -> None:
    """A dot for the mean, a line over all seeds."""
    for position, one in enumerate(drawn):
        wrong = 1 - np.asarray(one.accuracy)
        colour = styles.get(one.title, (GREY, ""))[0]
        axes.plot([wrong.min(), wrong.max()], [position] * 2, color=colour, lw=2, alpha=0.5)
        axes.plot(wrong.mean(), position, "o", color=colour)
    axes.set_yticks(range(len(drawn)), [one.title for one in drawn])
    for label, one in zip(axes.get_yticklabels(), drawn, strict=True):
        label.set_color(styles.get(one.title, ("0.3", ""))[0])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="held-out samples answered wrong")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25, axis="x")


def _losses(axes: Axes, drawn: Sequence[Drawn], styles: Styles) -> None:
    for one in drawn:
        if one.loss is not None:
            colour, dash = styles[one.title]
            axes.plot(one.at, one.loss, dash, color=colour, label=one.title)
    finish(axes, "Loss of the forward pass, training samples", "per sample", log=True)


def _cosines(axes: Axes, drawn: Sequence[Drawn], styles: Styles) -> None:
    for one in drawn:
        if one.cosine is not None:
            layers = np.arange(1, len(one.cosine) + 1)
            axes.plot(layers, one.cosine, "o-", color=styles[one.title][0], label=one.title, ms=4)
    axes.axhline(0, color="0.6", lw=0.8)
    axes.set(ylim=(-1.05, 1.05))
    finish(axes, "What a layer sees against the true gradient", "cosine", log=False, along="layer")
