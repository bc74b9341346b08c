"""``python -m experiments train``: one network, one data set, one run directory."""

from __future__ import annotations

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
from experiments.divergence import Watch
from experiments.errors import usage_errors
from experiments.following import Ended, follow
from experiments.full_batch import FullBatch
from experiments.keeper import Keeper, Opened, opened
from experiments.kept import keep_programs
from experiments.progress import progress_of
from experiments.shown import Shown
from experiments.training import Score, Start, score_of


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
        dataset = cluster.first_alone(lambda: load(config.data))
        mode = mode_of(config, dataset)
    console = Console(highlight=False, soft_wrap=True, quiet=not cluster.speaks())
    with opened(config, f"train-{dataset.name}", build.digest(dataset)) as directory:
        if directory.finished:
            console.print(
                f"nothing is left to do: {directory.run} has all its {config.iterations} "
                "iterations; --iterations with more of them goes on"
            )
            return 0
        with usage_errors():
            start, watch = begun(mode, directory)
        announce(console, dataset, start, directory)
        keeper = Keeper(directory, mode, config)
        ended = follow(mode, start, watch, keeper, config, console)
        report(console, directory.run, ended, mode, dataset)
        keeper.finish()
        return ended.code


def mode_of(config: TrainConfig, dataset: Dataset) -> FullBatch:
    """The way of training that was asked for.

    Raises:
        ValueError: data, network, method or mesh do not fit each other.
    """
    hyper = build.hyperparameters(config.network, config.method)
    if config.growth.at:
        pdadmm.check_growable(hyper)
    mesh = build.mesh(config.mesh)
    widths = build.widths(dataset, config.network, config.method)
    devices = 1 if mesh is None else mesh.size
    build.check_fits(build.grown(widths, config.growth), len(dataset.y_train), devices)
    return FullBatch(
        config=config,
        splits=build.splits(dataset, np.float64 if config.double else np.float32, mesh),
        widths=widths,
        hyper=hyper,
        mesh=mesh,
    )


def begun(mode: FullBatch, directory: Opened) -> tuple[Start, Watch]:
    """Where the run starts or goes on, and what it knows of the Lagrangian there."""
    if directory.found is None:
        return mode.first(), Watch()
    return mode.restored(directory.found), Watch(**directory.found.facts["watch"])


def announce(console: Console, dataset: Dataset, start: Start, directory: Opened) -> None:
    """Says what is about to be trained, and warns where the theory does not reach."""
    console.print(
        f"{dataset.name} ({dataset.source}): {len(dataset.y_train)} train, "
        f"{len(dataset.y_validation)} validation, {len(dataset.y_test)} test samples"
    )
    widths = " - ".join(map(str, pdadmm.widths(start.state)))
    console.print(f"network {widths} on {directory.facts['environment']['devices']}")
    if directory.found:
        console.print(f"going on after iteration {start.iteration}: {directory.found.path}")
    if start.state.placement is not None:
        held = "  ".join(", ".join(map(str, k)) for k in start.state.placement.plan.layers)
        console.print(f"layers of each stage: {held}")
    found = pdadmm.certificate_of(start.hyper)
    if not found.holds:
        console.print(
            f"note: rho = {float(start.hyper.rho):g} is not above {float(found.least_rho):g}, so "
            "that the Lagrangian is not certain to fall (--method.certified raises rho)"
        )


def report(console: Console, run: Path, ended: Ended, mode: FullBatch, dataset: Dataset) -> None:
    """Writes weights, figure and summary into the run directory, and tells what came out."""
    last, splits = ended.last, mode.splits
    params = pdadmm.params(last.state)
    exact = last.hyper.replace(precision="float32")
    scores = {
        name: score_of(params, data, exact)
        for name, data in (
            ("train", splits.train),
            ("validation", splits.validation),
            ("test", splits.test),
        )
        if data is not None
    }
    if not cluster.speaks():  # another process writes
        return
    title = title_of(dataset, pdadmm.widths(last.state), last.hyper)
    with runs.writing_to(run):
        runs.write_weights(run, params)
        write(Shown(console, run), run, ended, scores, splits.samples, title)


def write(
    shown: Shown, run: Path, ended: Ended, scores: dict[str, Score], samples: int, title: str
) -> None:
    """Tables, figure and numbers; summary.json comes last, and says that all is there.

    Raises:
        OSError: there is no room for it.
    """
    last, metrics, files = ended.last, runs.read_metrics(run), ["config.json", runs.METRICS]
    if any("train_loss" in line for line in metrics):
        plots.training_figure(run / "training.png", metrics, samples, title)
        files.append("training.png")
    summary = summary_of(last, scores, metrics)

    shown.show(_table(title, scores))
    shown.show(
        f"{last.iteration} iterations in {last.seconds:.2f} s "
        f"({1000 * summary['seconds_per_iteration']:.1f} ms each, {last.compile_seconds:.1f} s "
        f"compiling apart)"
        + (f"; {progress_of(metrics[-1])}" if metrics and not ended.reason else "")
    )
    if unconverged := summary["unconverged_iterations"]:
        shown.show(f"warning: inner solves met their bound in {unconverged} iteration(s)")
    if ended.reason:
        shown.show(ended.reason)
    shown.save(*(name for name in files if name.endswith(".png")))
    runs.write_json(run / "summary.json", summary)
    shown.console.print(f"saved to {run}: {', '.join([*files, 'summary.json', 'weights.npz'])}")


def summary_of(
    last: Start, scores: dict[str, Score], metrics: list[dict[str, Any]]
) -> dict[str, Any]:
    """The numbers that summary.json keeps."""
    after = next((line for line in metrics if line["iteration"] == last.iteration), {})
    return {
        "iterations": last.iteration,
        "layers": len(pdadmm.widths(last.state)) - 1,
        "seconds": last.seconds,
        "seconds_per_iteration": last.seconds / max(last.iteration, 1),
        "compile_seconds": last.compile_seconds,
        "lagrangian": after.get("lagrangian"),
        "residual": after.get("residual"),
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
