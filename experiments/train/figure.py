"""Figures of a run of ``train``."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.plotting import BLACK, BLUE, GREEN, ORANGE, count_axis, curve, finish
from experiments.train.metric import ACCURACY, Metric
from experiments.train.trainer import Record


def admm_figure(
    records: list[Record], samples: int, title: str, metric: Metric = ACCURACY
) -> Figure:
    """Objective, residual, and accuracy or R^2, against iterations.

    The Lagrangian is drawn beside the loss of the forward pass, both per sample: where they part,
    the auxiliary variables explain the labels and the weights do not.

    Args:
        records: lines of metrics.jsonl.
        samples: number of training samples.
        title: heading of the figure.
        metric: what is drawn beside the loss.
    """
    figure = Figure(figsize=(13, 4), dpi=120, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    iterations, objective, lagrangian = (
        _column(name, records) for name in ("iteration", "objective", "lagrangian")
    )
    evaluated = [line for line in records if "train_loss" in line]
    # The two coincide as the residual vanishes: the broad line stays visible under the fine one.
    curve(left, iterations, objective / samples, color=GREEN, lw=4, alpha=0.4, label="objective")
    curve(left, iterations, lagrangian / samples, color=BLUE, label="augmented Lagrangian")
    _evaluations(left, "loss", evaluated, "forward pass, ")
    finish(left, "Objective and loss", "per sample", log=True)

    _residual_panel(middle, iterations, records)

    _evaluations(right, metric.name, evaluated)
    _cut_below(right)
    finish(right, f"{metric.title} of the forward pass", metric.unit, log=False)

    for axes in (left, middle, right):
        count_axis(axes, iterations[0], iterations[-1])
        _mark_growth(axes, records)
    figure.suptitle(title, wrap=True)
    return figure


def sweeps_figure(records: list[Record], title: str, metric: Metric = ACCURACY) -> Figure:
    """Loss, and accuracy or R^2, against passes over the samples.

    Args:
        records: lines of metrics.jsonl.
        title: heading of the figure.
        metric: what is drawn beside the loss.
    """
    figure = Figure(figsize=(9, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    evaluated = [line for line in records if "train_loss" in line]
    passes = _column("iteration", records)
    curve(left, passes, _column("loss", records), color=BLUE, label="while updating")
    _evaluations(left, "loss", evaluated, "forward pass, ")
    finish(left, "Loss", "per sample", log=True, along="pass over the samples")
    _evaluations(right, metric.name, evaluated)
    _cut_below(right)
    finish(right, metric.title, metric.unit, log=False, along="pass over the samples")
    for axes in (left, right):
        count_axis(axes, passes[0], passes[-1])
    figure.suptitle(title, wrap=True)
    return figure


def _column(name: str, records: list[Record]) -> np.ndarray:
    return np.asarray([line[name] for line in records], float)  # null becomes NaN


def _evaluations(axes: Axes, name: str, records: list[Record], prefix: str = "") -> None:
    """Loss, accuracy or R^2 on training samples, and on held-out ones if there are any."""
    at = _column("iteration", records)
    for split, colour in (("train", BLACK), ("validation", ORANGE)):
        if f"{split}_{name}" in records[-1]:
            column = _column(f"{split}_{name}", records)
            curve(axes, at, column, color=colour, label=f"{prefix}{split}")


def _cut_below(axes: Axes) -> None:
    """Leaves out what is below -1 where curves rise above 0: R^2 may start at minus thousands."""
    low, high = axes.get_ylim()
    if low < -1 and high > 0:
        axes.set_ylim(bottom=-1)


def _residual_panel(axes: Axes, iterations: np.ndarray, records: list[Record]) -> None:
    """Squared primal residual of every boundary, pale near the input, and their sum."""
    deepest = max(len(line["residual_per_boundary"]) for line in records)
    shades = matplotlib.colormaps["viridis"](np.linspace(0.85, 0.15, deepest))
    total = np.asarray([line["residual"] for line in records], float)
    floor = np.inf
    for boundary in range(deepest):
        lines = [line for line in records if len(line["residual_per_boundary"]) > boundary]
        at = np.asarray([line["iteration"] for line in lines])
        norms = np.asarray([line["residual_per_boundary"][boundary] for line in lines], float)
        named = deepest <= 4 or boundary in (0, deepest - 1)
        label = rf"boundary {boundary + 1}" if named else None
        curve(axes, at, norms**2, color=shades[boundary], lw=1, label=label)
        floor = np.fmin.reduce(norms[len(norms) // 2 :] ** 2, initial=floor)
    curve(axes, iterations, total, color=BLACK, label="all boundaries")
    # A forward-pass start has residuals of pure rounding, many decades below the later ones.
    if 0 < floor < np.inf:
        axes.set_ylim(bottom=0.3 * floor)
    finish(axes, "Primal residual", r"$\sum_l\,\|p_{l+1} - q_l\|^2$", log=True)


def _mark_growth(axes: Axes, records: list[Record]) -> None:
    """A thin line wherever the network grew."""
    for before, after in itertools.pairwise(records):
        if after["layers"] != before["layers"]:
            axes.axvline(before["iteration"], color="0.6", lw=0.8)
            axes.annotate(
                f" {after['layers']} layers",
                (before["iteration"], 0.97),
                xycoords=("data", "axes fraction"),
                va="top",
                color="0.4",
                fontsize=8,
            )
