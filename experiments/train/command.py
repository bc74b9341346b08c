"""``python -m experiments train``: one network, one data set, one run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import build
from experiments.algorithms.loop import Score, TrainState
from experiments.data import Dataset, load
from experiments.report.saved_output import SavedOutput
from experiments.runtime import cluster
from experiments.runtime import run_directory as runs
from experiments.runtime.compilation_cache import enable_compilation_cache
from experiments.runtime.errors import usage_errors
from experiments.train.admm import ADMMTrainer
from experiments.train.checkpoint_manager import CheckpointManager, OpenRun, opened
from experiments.train.divergence import Monitor
from experiments.train.loop import Ended, train_to_end
from experiments.train.options import TrainConfig
from experiments.train.sweeps import SweepsTrainer
from experiments.train.trainer import Trainer
from pdadmm_jax.admm.growth import check_growable
from pdadmm_jax.parallel.mesh import stages
from pdadmm_jax.parallel.plan import plan
from pdadmm_jax.problems.problem import check_representable
from pdadmm_jax.sweeps.samples import batches_of
from pdadmm_jax.sweeps.stream import microbatches


def main(options: TrainConfig) -> int:
    """Trains and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    with cluster.exit_on_error():
        return run(options)


def run(options: TrainConfig) -> int:
    """``main`` in this process, which may be one of several."""
    jax.config.update("jax_enable_x64", options.double)
    with usage_errors():
        if options.distributed:
            cluster.initialize(options.cluster)
        else:
            enable_compilation_cache()
        dataset = cluster.main_process_first(lambda: load(options.data))
        trainer = trainer_of(options, dataset)
        options = trainer.options
    console = Console(highlight=False, soft_wrap=True, quiet=not cluster.is_main_process())
    with opened(options, f"train-{dataset.name}", build.digest(dataset)) as directory:
        if directory.finished:
            console.print(
                f"nothing is left to do: {directory.run} has all its {options.iterations} "
                "iterations; give a larger --iterations to continue"
            )
            return 0
        with usage_errors():
            start, monitor = started(trainer, directory)
        announce(console, dataset, trainer, start, directory)
        manager = CheckpointManager(directory, trainer, options)
        ended = train_to_end(trainer, start, monitor, manager, console)
        try:
            report(console, directory.run, ended, trainer, dataset)
        finally:
            manager.finish()
        return ended.code


def trainer_of(options: TrainConfig, dataset: Dataset) -> Trainer:
    """The algorithm that was asked for, on its data and devices.

    Raises:
        ValueError: data, network, method or mesh do not fit each other.
    """
    mesh = build.mesh(options.mesh)
    devices = 1 if mesh is None else mesh.size
    widths = build.widths(dataset, options.network, options.method)
    dtype = np.float64 if options.double else np.float32
    samples = len(dataset.y_train)
    if options.algorithm == "sweeps":
        options = build.settled(options, widths, mesh)
        config = build.sweeps(options, widths)
        check_representable(config, dtype)
        build.check_fits(widths, min(samples, config.batch or config.block), devices)
        batches_of(samples, config.batch, config.block, options.mesh.data)  # or is refused
        microbatches(config, plan(widths, 1 if mesh is None else stages(mesh)).reach)  # likewise
        return SweepsTrainer(options, build.splits(dataset, dtype, mesh), widths, config, mesh)
    config = build.admm(options.network, options.method)
    check_representable(config, dtype)
    if options.growth.at:
        check_growable(config)
    build.check_fits(build.grown(widths, options.growth), samples, devices)
    return ADMMTrainer(options, build.splits(dataset, dtype, mesh), widths, config, mesh)


def started(trainer: Trainer, directory: OpenRun) -> tuple[TrainState, Monitor]:
    """Where the run starts or resumes, and what is known there of the number monitored."""
    if directory.found is None:
        return trainer.init(), Monitor()
    return trainer.restore(directory.found), Monitor(**directory.found.facts["monitor"])


def announce(
    console: Console, dataset: Dataset, trainer: Trainer, start: TrainState, directory: OpenRun
) -> None:
    """Says what is about to be trained."""
    console.print(
        f"{dataset.name} ({dataset.source}): {len(dataset.y_train)} train, "
        f"{len(dataset.y_validation)} validation, {len(dataset.y_test)} test samples"
    )
    widths = " - ".join(map(str, trainer.layer_widths(start)))
    console.print(f"network {widths} on {directory.facts['environment']['devices']}")
    if directory.found:
        console.print(f"resuming after iteration {start.iteration}: {directory.found.path}")
    if start.state.placement is not None:
        held = "  ".join(", ".join(map(str, layers)) for layers in start.state.plan.layers)
        console.print(f"layers of each stage: {held}")
    for remark in trainer.remarks(start):
        console.print(remark)


def report(console: Console, run: Path, ended: Ended, trainer: Trainer, dataset: Dataset) -> None:
    """Writes weights, figure and summary into the run directory, and shows the results."""
    last = ended.last
    params = trainer.algorithm.params(last.state)
    scores = trainer.evaluate(last)
    if not cluster.is_main_process():  # another process writes
        return
    network = "-".join(map(str, trainer.layer_widths(last)))
    title = f"{dataset.name}, {network}: {trainer.title(last.config)}"
    with runs.writing_to(run):
        runs.write_weights(run, params)
        write(SavedOutput(console, run), run, ended, trainer, scores, title)


def write(
    output: SavedOutput,
    run: Path,
    ended: Ended,
    trainer: Trainer,
    scores: dict[str, Score],
    title: str,
) -> None:
    """Tables, figure and numbers; summary.json comes last, and says that all is there.

    Raises:
        OSError: there is no room for it.
    """
    last, metrics, files = ended.last, runs.read_metrics(run), ["config.json", runs.METRICS]
    if any("train_loss" in line for line in metrics):
        trainer.draw(run / "training.png", metrics, title)
        files.append("training.png")
    summary = summary_of(last, trainer, scores, metrics)

    output.show(_table(title, scores))
    output.show(
        f"{last.iteration} iterations in {last.seconds:.2f} s "
        f"({1000 * summary['seconds_per_iteration']:.1f} ms each, {last.compile_seconds:.1f} s "
        f"compiling apart)"
        + (f"; {trainer.describe(metrics[-1])}" if metrics and not ended.reason else "")
    )
    if unconverged := summary["unconverged_iterations"]:
        output.show(f"warning: inner solves hit the iteration limit in {unconverged} iteration(s)")
    if ended.reason:
        output.show(ended.reason)
    output.save(*(name for name in files if name.endswith(".png")))
    runs.write_json(run / runs.SUMMARY, summary)
    output.console.print(f"saved to {run}: {', '.join([*files, runs.SUMMARY, 'weights.npz'])}")


def summary_of(
    last: TrainState, trainer: Trainer, scores: dict[str, Score], metrics: list[dict[str, Any]]
) -> dict[str, Any]:
    """The numbers that summary.json keeps."""
    after = next((line for line in metrics if line["iteration"] == last.iteration), {})
    return {
        "iterations": last.iteration,
        "layers": len(trainer.layer_widths(last)) - 1,
        "seconds": last.seconds,
        "seconds_per_iteration": last.seconds / max(last.iteration, 1),
        "compile_seconds": last.compile_seconds,
        **trainer.summary(after),
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
