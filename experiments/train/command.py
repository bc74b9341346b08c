"""``python -m experiments train``: one network, one data set, one run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import build
from experiments.data import Dataset, load
from experiments.report.saved_output import Shown
from experiments.runtime import cluster
from experiments.runtime import run_directory as runs
from experiments.runtime.compilation_cache import keep_programs
from experiments.runtime.errors import usage_errors
from experiments.train.admm import FullBatch
from experiments.train.algorithm import Mode, Score, Start, scores
from experiments.train.checkpoint_manager import Keeper, Opened, opened
from experiments.train.divergence import Watch
from experiments.train.loop import Ended, follow
from experiments.train.options import TrainConfig
from experiments.train.sweeps import Sweeping
from pdadmm_jax.admm.config import check_representable
from pdadmm_jax.sweeps.passes import batches_of


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
        announce(console, dataset, mode, start, directory)
        keeper = Keeper(directory, mode, config)
        ended = follow(mode, start, watch, keeper, config, console)
        report(console, directory.run, ended, mode, dataset)
        keeper.finish()
        return ended.code


def mode_of(config: TrainConfig, dataset: Dataset) -> Mode:
    """The way of training that was asked for.

    Raises:
        ValueError: data, network, method or mesh do not fit each other.
    """
    mesh = build.mesh(config.mesh)
    devices = 1 if mesh is None else mesh.size
    widths = build.widths(dataset, config.network, config.method)
    dtype = np.float64 if config.double else np.float32
    samples = len(dataset.y_train)
    if config.recipe == "sweeps":
        hyper = build.sweeps(config)
        check_representable(hyper, dtype)
        build.check_fits(widths, min(samples, hyper.batch or hyper.block), devices)
        batches_of(samples, hyper.batch, hyper.block, config.mesh.data)  # or is refused
        return Sweeping(config, build.splits(dataset, dtype, mesh), widths, hyper, mesh)
    hyper = build.hyperparameters(config.network, config.method)
    check_representable(hyper, dtype)
    if config.growth.at:
        pdadmm.check_growable(hyper)
    build.check_fits(build.grown(widths, config.growth), samples, devices)
    return FullBatch(config, build.splits(dataset, dtype, mesh), widths, hyper, mesh)


def begun(mode: Mode, directory: Opened) -> tuple[Start, Watch]:
    """Where the run starts or goes on, and what it knows of the number watched there."""
    if directory.found is None:
        return mode.first(), Watch()
    return mode.restored(directory.found), Watch(**directory.found.facts["watch"])


def announce(
    console: Console, dataset: Dataset, mode: Mode, start: Start, directory: Opened
) -> None:
    """Says what is about to be trained."""
    console.print(
        f"{dataset.name} ({dataset.source}): {len(dataset.y_train)} train, "
        f"{len(dataset.y_validation)} validation, {len(dataset.y_test)} test samples"
    )
    widths = " - ".join(map(str, pdadmm.widths(start.weights)))
    console.print(f"network {widths} on {directory.facts['environment']['devices']}")
    if directory.found:
        console.print(f"going on after iteration {start.iteration}: {directory.found.path}")
    if start.weights.placement is not None:
        held = "  ".join(", ".join(map(str, k)) for k in start.weights.placement.plan.layers)
        console.print(f"layers of each stage: {held}")
    for remark in mode.remarks(start):
        console.print(remark)


def report(console: Console, run: Path, ended: Ended, mode: Mode, dataset: Dataset) -> None:
    """Writes weights, figure and summary into the run directory, and tells what came out."""
    last = ended.last
    params = pdadmm.params(last.weights)
    found = scores(last, mode.splits, ("train", "validation", "test"))
    if not cluster.speaks():  # another process writes
        return
    network = "-".join(map(str, pdadmm.widths(last.weights)))
    title = f"{dataset.name}, {network}: {mode.title(last.hyper)}"
    with runs.writing_to(run):
        runs.write_weights(run, params)
        write(Shown(console, run), run, ended, mode, found, title)


def write(
    shown: Shown, run: Path, ended: Ended, mode: Mode, scores: dict[str, Score], title: str
) -> None:
    """Tables, figure and numbers; summary.json comes last, and says that all is there.

    Raises:
        OSError: there is no room for it.
    """
    last, metrics, files = ended.last, runs.read_metrics(run), ["config.json", runs.METRICS]
    if any("train_loss" in line for line in metrics):
        mode.draw(run / "training.png", metrics, title)
        files.append("training.png")
    summary = summary_of(last, mode, scores, metrics)

    shown.show(_table(title, scores))
    shown.show(
        f"{last.iteration} iterations in {last.seconds:.2f} s "
        f"({1000 * summary['seconds_per_iteration']:.1f} ms each, {last.compile_seconds:.1f} s "
        f"compiling apart)"
        + (f"; {mode.described(metrics[-1])}" if metrics and not ended.reason else "")
    )
    if unconverged := summary["unconverged_iterations"]:
        shown.show(f"warning: inner solves met their bound in {unconverged} iteration(s)")
    if ended.reason:
        shown.show(ended.reason)
    shown.save(*(name for name in files if name.endswith(".png")))
    runs.write_json(run / runs.SUMMARY, summary)
    shown.console.print(f"saved to {run}: {', '.join([*files, runs.SUMMARY, 'weights.npz'])}")


def summary_of(
    last: Start, mode: Mode, scores: dict[str, Score], metrics: list[dict[str, Any]]
) -> dict[str, Any]:
    """The numbers that summary.json keeps."""
    after = next((line for line in metrics if line["iteration"] == last.iteration), {})
    return {
        "iterations": last.iteration,
        "layers": len(pdadmm.widths(last.weights)) - 1,
        "seconds": last.seconds,
        "seconds_per_iteration": last.seconds / max(last.iteration, 1),
        "compile_seconds": last.compile_seconds,
        **mode.summary(after),
        "unconverged_iterations": sum(not line["converged"] for line in metrics),
        **{f"{name}_loss": loss for name, (loss, _) in scores.items()},
        **{f"{name}_accuracy": accuracy for name, (_, accuracy) in scores.items()},
    }


def _table(title: str, scores: dict[str, Score]) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for name in ("", "loss", "accuracy"):
        table.add_column(name, justify="right" if name else "left")
    for name, (loss, accuracy) in scores.items():
        table.add_row(name, f"{loss:.4f}", f"{accuracy:.2%}")
    return table
