"""``python -m experiments train``: one network, one data set, one run directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import build, cluster, plots, runs
from experiments.config import TrainConfig
from experiments.data import Dataset, load
from experiments.errors import usage_errors
from experiments.interrupts import INTERRUPTED, stop_requests
from experiments.kept import keep_programs
from experiments.progress import progress_of, progress_shown
from experiments.shown import Shown
from experiments.training import Chunk, Score, score_of, train

DIVERGED = 1


def main(config: TrainConfig) -> int:
    """Trains and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    with cluster.leaving_together():
        return run(config)


def run(config: TrainConfig) -> int:
    """``main`` in this process, which may be one of several."""
    jax.config.update("jax_enable_x64", config.double)
    with usage_errors():
        if config.distributed:
            cluster.join(config.cluster)
        else:
            keep_programs()
        hyper = build.hyperparameters(config.network, config.method)
        mesh = build.mesh(config.mesh)
        dataset = cluster.first_alone(lambda: load(config.data))
        widths = build.widths(dataset, config.network, config.method)
        devices = 1 if mesh is None else mesh.size
        build.check_fits(build.grown(widths, config.growth), len(dataset.y_train), devices)
        splits = build.splits(dataset, np.float64 if config.double else np.float32, mesh)
        state = pdadmm.init(
            jax.random.key(config.seed),
            splits.solved,
            widths,
            hyper,
            build.INITIALIZERS[config.network.initializer],
            mesh=mesh,
            wire=config.mesh.wire,
        )
        if config.growth.at:
            pdadmm.check_growable(hyper)
        speaks = cluster.speaks()
        directory = runs.create(config.out, f"train-{dataset.name}", config) if speaks else None
    console = Console(highlight=False, soft_wrap=True, quiet=not speaks)
    announce(console, dataset, widths, hyper, state)

    chunks = train(
        state,
        splits,
        hyper,
        iterations=config.iterations,
        evaluate_every=config.evaluate_every,
        refresh_every=config.refresh_every,
        grow_at=config.growth.at,
        grow_by=config.growth.layers,
    )
    last, code = follow(chunks, directory, config.iterations, console)
    title = title_of(dataset, pdadmm.widths(last.state), hyper)
    report(console, directory, last, splits, hyper, title, code)
    return code


def follow(
    chunks: Iterator[Chunk], run: Path | None, iterations: int, console: Console
) -> tuple[Chunk, int]:
    """Runs to the end, or to where the run has to stop; returns the last chunk and exit code.

    Of several processes, one has the run directory and the screen; they stop together.
    """
    chunk = None
    # The iteration in flight has been given the old state's memory: nothing can be saved before.
    with stop_requests() as asked, progress_shown(iterations, console) as show:
        for chunk in chunks:
            if run is not None:
                runs.append_metrics(run, chunk)
            show(chunk)
            if not chunk.info.finite.all():
                return chunk, DIVERGED
            if cluster.agreed(bool(asked)):
                return chunk, INTERRUPTED
    assert chunk is not None  # there is at least one iteration
    return chunk, 0


def announce(
    console: Console,
    dataset: Dataset,
    widths: tuple[int, ...],
    hyper: pdadmm.Hyperparameters,
    state: pdadmm.State,
) -> None:
    """Says what is about to be trained, and warns where the theory does not reach."""
    console.print(
        f"{dataset.name} ({dataset.source}): {len(dataset.y_train)} train, "
        f"{len(dataset.y_validation)} validation, {len(dataset.y_test)} test samples"
    )
    console.print(f"network {' - '.join(map(str, widths))} on {runs.environment()['devices']}")
    if state.placement is not None:
        held = "  ".join(", ".join(map(str, layers)) for layers in state.placement.plan.layers)
        console.print(f"layers of each stage: {held}")
    found = pdadmm.certificate_of(hyper)
    if not found.holds:
        console.print(
            f"note: rho = {float(hyper.rho):g} is not above {float(found.least_rho):g}, so that "
            "the Lagrangian is not certain to fall (--method.certified raises rho)"
        )


def report(
    console: Console,
    run: Path | None,
    last: Chunk,
    splits: build.Splits,
    hyper: pdadmm.Hyperparameters,
    title: str,
    code: int,
) -> None:
    """Writes weights, summary and figure into the run directory, and tells what came out."""
    params = pdadmm.params(last.state)
    scores = {"train": last.train}
    if last.validation:
        scores["validation"] = last.validation
    scores["test"] = score_of(params, splits.test, hyper.replace(precision="float32"))
    broken = _where(last.state) if code == DIVERGED else ""
    if run is None:  # another process writes
        return
    metrics = runs.read_metrics(run)
    summary = summary_of(last, scores, metrics)
    runs.write_weights(run, params)
    runs.write_json(run / "summary.json", summary)
    plots.training_figure(run / "training.png", metrics, splits.samples, title)

    shown = Shown(console, run)
    shown.show(_table(title, scores))
    shown.show(
        f"{last.iteration} iterations in {last.seconds:.2f} s "
        f"({1000 * last.seconds / last.iteration:.1f} ms each, {last.compile_seconds:.1f} s "
        f"compiling apart); {progress_of(last)}"
    )
    if unconverged := summary["unconverged_iterations"]:
        shown.show(f"warning: inner solves met their bound in {unconverged} iteration(s)")
    if code == DIVERGED:
        first = next(line["iteration"] for line in metrics if not line["finite"])
        shown.show(
            f"error: values ceased to be finite at iteration {first}, now {broken}; "
            "other penalties or --double may help"
        )
    if code == INTERRUPTED:
        shown.show(f"interrupted after iteration {last.iteration}: what was done is saved")
    shown.save("training.png")
    console.print(
        f"saved to {run}: config.json, metrics.jsonl, summary.json, weights.npz, training.png"
    )


def summary_of(
    last: Chunk, scores: dict[str, Score], metrics: list[dict[str, Any]]
) -> dict[str, Any]:
    """The numbers that summary.json keeps."""
    return {
        "iterations": last.iteration,
        "layers": last.layers,
        "seconds": last.seconds,
        "seconds_per_iteration": last.seconds / last.iteration,
        "compile_seconds": last.compile_seconds,
        "lagrangian": metrics[-1]["lagrangian"],
        "residual": metrics[-1]["residual"],
        "unconverged_iterations": sum(not line["converged"] for line in metrics),
        **{f"{name}_loss": loss for name, (loss, _) in scores.items()},
        **{f"{name}_accuracy": accuracy for name, (_, accuracy) in scores.items()},
    }


def title_of(dataset: Dataset, widths: tuple[int, ...], hyper: pdadmm.Hyperparameters) -> str:
    """Heading of the summary and of the figure."""
    network = "-".join(map(str, widths))
    return (
        f"pdADMM on {dataset.name}, {network}, nu = {float(hyper.nu):g}, rho = {float(hyper.rho):g}"
    )


def _table(title: str, scores: dict[str, Score]) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for name in ("", "loss", "accuracy"):
        table.add_column(name, justify="right" if name else "left")
    for name, (loss, accuracy) in scores.items():
        table.add_row(name, f"{loss:.4f}", f"{accuracy:.2%}")
    return table


def _where(state: pdadmm.State) -> str:
    """The first variables that are not finite."""
    names = pdadmm.nonfinite(state)
    if not names:
        return "the Lagrangian alone, which overflowed"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
