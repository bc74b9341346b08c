"""``python -m experiments study ablations``: ADMM with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import build
from experiments.algorithms.admm import ADMM
from experiments.algorithms.loop import Programs, Schedule, TrainState, train
from experiments.compare.results import plus_minus
from experiments.data import load
from experiments.options.network import (
    InitializerName,
    MethodConfig,
    NetworkConfig,
    network_title,
)
from experiments.report.measurement import Measurement, table
from experiments.runtime.compilation_cache import enable_compilation_cache
from experiments.runtime.errors import usage_errors
from experiments.runtime.interrupts import INTERRUPTED, stop_requests
from experiments.study.history import REFRESH_EVERY
from experiments.study.options import AblationsConfig


@dataclass(frozen=True)
class Variant:
    """The defaults of ``train`` with changes.

    Attributes:
        name: what is changed.
        method: settings of the method.
        initializer: of the first weights; None for the default.
        shorter: hidden layers with which it begins, to be grown to all of them half-way; 0 for all
            at once, -1 for one less than all.
    """

    name: str
    method: Mapping[str, Any] = field(default_factory=dict)
    initializer: InitializerName | None = None
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
        Variant("per sample and neuron", _solvers("unit")),
        replace(DEFAULT, name="exact W, steps of p *"),
        Variant("exact p and W", _solvers("exact")),
    ),
    "damping of exact W": tuple(
        Variant(f"{damping:g}{' *' if damping == 0.3 else ''}", {"damping": damping})
        for damping in (1e-4, 0.03, 0.1, 0.3, 1.0, 3.0)
    ),
    "proximal term of z": (
        Variant("none", {"proximal": 0.0}),
        replace(DEFAULT, name="0.1 *"),
        Variant("1, the paper's", {"proximal": 1.0}),
        Variant("4", {"proximal": 4.0}),
    ),
    "nu = rho": tuple(
        Variant(f"{nu:g}{' *' if nu == 0.1 else ''}", {"nu": nu, "rho": nu})
        for nu in (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
    ),
    "rho, with nu = 0.1": (
        *(
            Variant(f"{rho:g}{' *' if rho == 0.1 else ''}", {"rho": rho})
            for rho in (0.02, 0.1, 0.5, 2.0, 10.0)
        ),
        Variant("0.5, proximal term 1, certified", {"rho": 0.5, "proximal": 1.0}),
    ),
    "first weights": (
        Variant("He", initializer="he"),
        Variant("Glorot", initializer="glorot"),
        Variant("orthogonal", initializer="orthogonal"),
        Variant("looks linear", initializer="looks_linear"),
        replace(DEFAULT, name="half of looks linear *"),
        Variant("normal(0.1), the paper's", initializer="paper"),
    ),
    "depth, grown half-way": (
        replace(DEFAULT, name="from the start *"),
        Variant("1 hidden layer at first", shorter=1),
        Variant("1 less at first", shorter=-1),
    ),
}


class Result(NamedTuple):
    """Results of a variant from every seed.

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


def main(options: AblationsConfig) -> int:
    """Trains all variants and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    enable_compilation_cache()
    with usage_errors():
        dataset = load(options.data)
        widths = (dataset.x_train.shape[1], *options.hidden, dataset.classes)
        build.check_fits(widths, len(dataset.y_train))
        splits = build.splits(dataset, np.float32, None)
        build.held_out(splits, options.data)  # on which variants are scored
    measurement = Measurement("ablations", options)
    measurement.show(
        f"{dataset.name}: {splits.samples} training samples, {len(dataset.y_validation)} held out; "
        f"hidden layers {network_title(options.hidden)}, {options.iterations} iterations, "
        f"{options.seeds} seed(s); * marks the defaults"
    )
    found: dict[str, dict[str, Result]] = {}
    known: dict[tuple[Any, ...], Result] = {}  # the defaults are part of every axis
    programs = Programs()
    with stop_requests() as asked:
        for axis, variants in AXES.items():
            found[axis] = {}
            for variant in variants:
                key = variant.settings, variant.initializer, variant.shorter
                if key not in known:
                    known[key] = trained(variant, options, splits, dataset.classes, programs)
                found[axis][variant.name] = known[key]
                if asked:
                    measurement.show("interrupted: results so far are saved")
                    break
            measurement.show(_table(axis, found[axis]))
            if asked:
                break
    measurement.draw("study.ablations_figure", found)
    measurement.save(
        {axis: {name: o._asdict() for name, o in rows.items()} for axis, rows in found.items()}
    )
    return INTERRUPTED if asked else 0


def trained(
    variant: Variant,
    options: AblationsConfig,
    splits: build.Splits,
    classes: int,
    programs: Programs,
) -> Result:
    """Trains one variant from every seed."""
    config = build.admm(NetworkConfig(), variant.settings)
    hidden = options.hidden[: variant.shorter] if variant.shorter else options.hidden
    missing = len(options.hidden) - len(hidden)
    iterations = options.iterations
    growth = ((iterations // 2, missing),) if missing else ()
    schedule = Schedule(iterations, iterations, REFRESH_EVERY, growth)
    data, rows = splits.solved, []
    for seed in range(options.seeds):
        key = jax.random.key(seed)
        widths = (splits.train.x.shape[1], *hidden, classes)
        initializer = build.INITIALIZERS[variant.initializer]
        start = TrainState(
            pdadmm.admm.init(key, data, widths, config, initializer=initializer), config
        )
        evaluated = splits.of("train", "validation")
        *_, last = train(ADMM, start, data, key, schedule, evaluated, programs)
        rows.append(
            (
                last.scores["validation"][1],
                last.scores["train"][0],
                float(last.info.lagrangian[-1]) / splits.samples,
                float(np.sum(np.square(last.info.primal_residual[-1], dtype=np.float64))),
                1000 * last.end.seconds / last.iteration,
            )
        )
    return Result(*map(list, zip(*rows, strict=True)))


def _table(axis: str, rows: dict[str, Result]) -> Table:
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
