"""The figure of a plan: which stage holds which layers, and the messages between stages."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.report.plotting import BLUE, GREEN, ORANGE
from pdadmm_jax.parallel.plan import Plan


def stages_figure(path: Path, plan: Plan) -> None:
    """Draws the layers of every stage, and the messages that cross its boundaries.

    Args:
        path: file to write.
        plan: which layers every stage holds.
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
