"""``python -m experiments ablations``: pdADMM with one thing changed at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import build
from experiments.compare.results import plus_minus
from experiments.data import load
from experiments.options.network import MethodConfig, NetworkConfig
from experiments.report.measurement import Measurement, table
from experiments.report.plotting import BLACK, BLUE, error_axis, errors_drawn
from experiments.runtime.compilation_cache import keep_programs
from experiments.runtime.errors import usage_errors
from experiments.runtime.interrupts import INTERRUPTED, stop_requests
from experiments.study.course import REFRESH_EVERY
from experiments.study.options import AblationsConfig
from experiments.train.admm import train
from experiments.train.algorithm import Start


@dataclass(frozen=True)
class Variant:
    """The defaults of ``train`` with changes.

    Attributes:
        name: what is changed.
        method: settings of the method.
        initializer: of the first weights.
        shorter: hidden layers with which it begins, to be grown to all of them half-way; 0 for all
            at once, -1 for one less than all.
    """

    name: str
    method: Mapping[str, Any] = field(default_factory=dict)
    initializer: str = "he"
    shorter: int = 0

    @property
    def settings(self) -> MethodConfig:
        """All settings of the method."""
        return replace(MethodConfig(), **self.method)


def _solvers(name: str) -> dict[str, str]:
    return {"p_solver": name, "w_solver": name}


DEFAULT = Variant("defaults")
AXES: dict[str, tuple[Variant, ...]] = {
    "step of p and W": (
        Variant("the paper's search", _solvers("search")),
        Variant("per layer", _solvers("layer")),
        replace(DEFAULT, name="per sample and neuron *"),
        Variant("exact W, steps of p", {"w_solver": "exact"}),
        Variant("exact p and W", _solvers("exact")),
    ),
    "proximal term of z": (
        Variant("none", {"proximal": 0.0}),
        replace(DEFAULT, name="1, the paper's *"),
        Variant("4", {"proximal": 4.0}),
    ),
    "nu, with rho = 5 nu": tuple(
        Variant(f"{nu:g}{' *' if nu == 0.1 else ''}", {"nu": nu, "rho": 5 * nu})
        for nu in (1e-3, 1e-2, 0.1, 1.0, 10.0)
    ),
    "rho, with nu = 0.1": tuple(
        Variant(f"{rho:g}{' *' if rho == 0.5 else ''}", {"rho": rho})
        for rho in (0.02, 0.1, 0.5, 2.0, 10.0)
    ),
    "first weights": (
        replace(DEFAULT, name="He *"),
        Variant("Glorot", initializer="glorot"),
        Variant("orthogonal", initializer="orthogonal"),
        Variant("normal(0.1), the paper's", initializer="paper"),
    ),
    "depth, grown half-way": (
        replace(DEFAULT, name="from the start *"),
        Variant("1 hidden layer at first", shorter=1),
        Variant("1 less at first", shorter=-1),
    ),
}


class Outcome(NamedTuple):
    """What a variant came to from every seed.

    Attributes:
        validation: accuracy on held-out samples, never on test samples.
        train_loss: mean loss of the forward pass.
        lagrangian: the augmented Lagrangian per sample.
        residual: sum of the squared primal residuals.
        milliseconds: per iteration.
    """

    validation: list[float]
    train_loss: list[float]
    lagrangian: list[float]
    residual: list[float]
    milliseconds: list[float]


def main(config: AblationsConfig) -> int:
    """Trains all variants and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    keep_programs()
    with usage_errors():
        dataset = load(config.data)
        widths = (dataset.x_train.shape[1], *config.hidden, dataset.classes)
        build.check_fits(widths, len(dataset.y_train))
        splits = build.splits(dataset, np.float32, None)
        build.held_out(splits, config.data)  # on which variants are scored
    measurement = Measurement("ablations", config)
    measurement.show(
        f"{dataset.name}: {splits.samples} training samples, {len(dataset.y_validation)} held out; "
        f"hidden layers {' - '.join(map(str, config.hidden))}, {config.iterations} iterations, "
        f"{config.seeds} seed(s); * marks the defaults"
    )
    found: dict[str, dict[str, Outcome]] = {}
    known: dict[tuple[Any, ...], Outcome] = {}  # the defaults are part of every axis
    with stop_requests() as asked:
        for axis, variants in AXES.items():
            found[axis] = {}
            for variant in variants:
                key = variant.settings, variant.initializer, variant.shorter
                if key not in known:
                    known[key] = outcome(variant, config, splits, dataset.classes)
                found[axis][variant.name] = known[key]
                if asked:
                    measurement.show("interrupted: what was done is saved")
                    break
            measurement.show(_table(axis, found[axis]))
            if asked:
                break
    figure(measurement.figure(), found)
    measurement.save(
        {axis: {name: o._asdict() for name, o in rows.items()} for axis, rows in found.items()}
    )
    return INTERRUPTED if asked else 0


def outcome(
    variant: Variant, config: AblationsConfig, splits: build.Splits, classes: int
) -> Outcome:
    """Trains one variant from every seed."""
    hyper = build.hyperparameters(NetworkConfig(), variant.settings)
    hidden = config.hidden[: variant.shorter] if variant.shorter else config.hidden
    added = len(config.hidden) - len(hidden)
    rows = []
    for seed in range(config.seeds):
        state = pdadmm.init(
            jax.random.key(seed),
            splits.solved,
            (splits.train.x.shape[1], *hidden, classes),
            hyper,
            build.INITIALIZERS[variant.initializer],
        )
        *_, last = train(
            Start(state, hyper),
            splits,
            iterations=config.iterations,
            evaluate_every=config.iterations,
            refresh_every=REFRESH_EVERY,
            grow_at=(config.iterations // 2,) if added else (),
            grow_by=added,
        )
        line = last.lines[-1]
        rows.append(
            (
                line["validation_accuracy"],
                line["train_loss"],
                line["lagrangian"] / splits.samples,
                line["residual"],
                1000 * last.end.seconds / last.iteration,
            )
        )
    return Outcome(*map(list, zip(*rows, strict=True)))


def _table(axis: str, rows: dict[str, Outcome]) -> Table:
    made = table(
        "", "validation %", "train loss", "Lagrangian", "residual", "ms", title=f"\n{axis}"
    )
    for name, one in rows.items():
        made.add_row(
            name,
            plus_minus([100 * share for share in one.validation], 2),
            _short(one.train_loss),
            _short(one.lagrangian),
            f"{np.mean(one.residual):.1e}",
            f"{np.median(one.milliseconds):.1f}",
        )
    return made


def _short(values: list[float]) -> str:
    return f"{np.mean(values):.3g}"


def figure(path: Path, found: dict[str, dict[str, Outcome]]) -> None:
    """Share of held-out samples answered wrong: a dot for the mean, a line over all seeds."""
    lines = sum(map(len, found.values())) + 2 * len(found)
    drawing = Figure(figsize=(8, 0.28 * lines))
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
    error_axis(axes, "held-out samples answered wrong (black: the defaults)")
    drawing.savefig(path, dpi=110, bbox_inches="tight")
