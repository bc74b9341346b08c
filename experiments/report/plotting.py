"""Figures.

Made without pyplot, which would choose how a notebook or a program that imports this shows its own.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from pdadmm_jax.parallel.plan import Plan

# Okabe and Ito's palette: distinguishable with any colour vision.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
PURPLE, YELLOW, GREY, SKY = "#CC79A7", "#E69F00", "#999999", "#56B4E9"


def errors_drawn(axes: Axes, position: float, errors: np.ndarray, colour: str) -> None:
    """A dot for the mean, a line over all seeds."""
    axes.plot([errors.min(), errors.max()], [position] * 2, color=colour, lw=2, alpha=0.5)
    axes.plot(errors.mean(), position, "o", color=colour)


def error_axis(axes: Axes, label: str) -> None:
    """Shares of samples to the right, the first name on top."""
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel=label)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25, axis="x")


def training_figure(path: Path, metrics: list[dict[str, Any]], samples: int, title: str) -> None:
    """Objective, residual and accuracy against iterations.

    The Lagrangian is drawn beside the loss of the forward pass, both per sample: where they part,
    the auxiliary variables explain the labels and the weights do not.

    Args:
        path: file to write.
        metrics: lines of metrics.jsonl.
        samples: number of training samples.
        title: heading of the figure.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    iterations, objective, lagrangian = (
        _column(name, metrics) for name in ("iteration", "objective", "lagrangian")
    )
    evaluated = [line for line in metrics if "train_loss" in line]
    # The two coincide as the residual vanishes: the broad line stays visible under the fine one.
    left.plot(iterations, objective / samples, color=GREEN, lw=4, alpha=0.4, label="objective")
    left.plot(iterations, lagrangian / samples, color=BLUE, label="augmented Lagrangian")
    _evaluations(left, "loss", evaluated, "forward pass, ")
    finish(left, "Objective and loss", "per sample", log=True)

    _residual_panel(middle, iterations, metrics)

    _evaluations(right, "accuracy", evaluated)
    finish(right, "Accuracy of the forward pass", "share of samples", log=False)

    for axes in (left, middle, right):
        _mark_growth(axes, metrics)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def sweeps_figure(path: Path, metrics: list[dict[str, Any]], title: str) -> None:
    """Loss and accuracy against passes over the samples.

    Args:
        path: file to write.
        metrics: lines of metrics.jsonl.
        title: heading of the figure.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    evaluated = [line for line in metrics if "train_loss" in line]
    passes = _column("iteration", metrics)
    left.plot(passes, _column("loss", metrics), color=BLUE, label="as the samples pass")
    _evaluations(left, "loss", evaluated, "forward pass, ")
    finish(left, "Loss", "per sample", log=True, along="pass over the samples")
    _evaluations(right, "accuracy", evaluated)
    finish(right, "Accuracy", "share of samples", log=False, along="pass over the samples")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _column(name: str, lines: list[dict[str, Any]]) -> np.ndarray:
    return np.asarray([line[name] for line in lines], float)  # null becomes NaN


def _evaluations(axes: Axes, name: str, lines: list[dict[str, Any]], prefix: str = "") -> None:
    """Loss or accuracy on training samples, and on held-out ones if there are any."""
    at = _column("iteration", lines)
    for split, colour in (("train", BLACK), ("validation", ORANGE)):
        if f"{split}_{name}" in lines[-1]:
            column = _column(f"{split}_{name}", lines)
            axes.plot(at, column, color=colour, label=f"{prefix}{split}")


def stages_figure(path: Path, plan: Plan) -> None:
    """Which stage holds which layers, and the messages that cross its borders.

    Args:
        path: file to write.
        plan: how the layers are dealt out.
    """
    size = max(1.3 * plan.stages, 4), 0.6 * plan.depth + 0.8
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    stage_of = {layer: stage for stage, held in enumerate(plan.layers) for layer in held}
    for layer, stage in stage_of.items():
        n_in, n_out = plan.widths[layer - 1 : layer + 1]
        colour = GREEN if layer in (1, plan.depth) else "0.75"
        box = Rectangle((stage - 0.42, layer - 0.32), 0.84, 0.64, color=colour, alpha=0.5, lw=0)
        axes.add_patch(box)
        name = f"layer {layer}\n{n_in} to {n_out}"
        axes.text(stage, layer, name, ha="center", va="center", fontsize=8)
    for layer in range(1, plan.depth):
        below, above = stage_of[layer], stage_of[layer + 1]
        if below != above:
            top, bottom = (below, layer + 0.34), (above, layer + 0.66)
            bend = -0.15 if above > below else 0.15  # f(z) above q, wherever they go
            _message(axes, top, bottom, BLUE, bend)
            _message(axes, bottom, top, ORANGE, bend)
    axes.plot([], [], color=BLUE, label="f(z), to the layer above")
    axes.plot([], [], color=ORANGE, label="q, to the layer below")
    axes.set(xlim=(-0.6, plan.stages - 0.4), ylim=(0.4, plan.depth + 0.6), yticks=[])
    axes.set_xticks(range(plan.stages), [f"stage {stage}" for stage in range(plan.stages)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    figure.savefig(path, dpi=120)


def _message(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, bend: float
) -> None:
    """An arrow from layer to layer, bent aside for the one that comes back."""
    style = f"arc3,rad={bend}"
    arrow = {"arrowstyle": "->", "color": colour, "lw": 1.5, "connectionstyle": style}
    axes.annotate("", end, start, arrowprops=arrow | {"shrinkA": 0, "shrinkB": 0})


def _residual_panel(axes: Axes, iterations: np.ndarray, metrics: list[dict[str, Any]]) -> None:
    """Squared primal residual of every boundary, pale near the input, and their sum."""
    deepest = max(len(line["residual_per_boundary"]) for line in metrics)
    shades = matplotlib.colormaps["viridis"](np.linspace(0.85, 0.15, deepest))
    total = np.asarray([line["residual"] for line in metrics], float)
    floor = np.inf
    for boundary in range(deepest):
        lines = [line for line in metrics if len(line["residual_per_boundary"]) > boundary]
        at = np.asarray([line["iteration"] for line in lines])
        norms = np.asarray([line["residual_per_boundary"][boundary] for line in lines], float)
        named = deepest <= 4 or boundary in (0, deepest - 1)
        label = rf"boundary {boundary + 1}" if named else None
        axes.plot(at, norms**2, color=shades[boundary], lw=1, label=label)
        floor = np.fmin.reduce(norms[len(norms) // 2 :] ** 2, initial=floor)
    axes.plot(iterations, total, color=BLACK, label="all boundaries")
    # A forward-pass start has residuals of pure rounding, many decades below the later ones.
    if 0 < floor < np.inf:
        axes.set_ylim(bottom=0.3 * floor)
    finish(axes, "Primal residual", r"$\sum_l\,\|p_{l+1} - q_l\|^2$", log=True)


def _mark_growth(axes: Axes, metrics: list[dict[str, Any]]) -> None:
    """A thin line wherever the network grew."""
    for before, after in itertools.pairwise(metrics):
        if after["layers"] != before["layers"]:
            axes.axvline(before["iteration"], color="0.6", lw=0.8)
            axes.annotate(
                f" {after['layers']} layers",
                (before["iteration"], 1),
                xycoords=("data", "axes fraction"),
                va="top",
                color="0.4",
                fontsize=8,
            )


def finish(axes: Axes, title: str, unit: str, *, log: bool, along: str = "iteration") -> None:
    """Title, labels, grid and legend of a panel; its height may be logarithmic."""
    axes.set_title(title)
    axes.set_xlabel(along)
    axes.set_ylabel(unit)
    if log:
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
