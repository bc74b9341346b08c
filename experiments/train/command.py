"""``python -m experiments train``: one network, one data set, one run directory."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import build
from experiments.algorithms.loop import Score, TrainState
from experiments.data import Dataset, load
from experiments.options.network import network_title
from experiments.report.measurement import table
from experiments.report.saved_output import SavedOutput
from experiments.runtime import cluster, screen
from experiments.runtime import run_directory as runs
from experiments.runtime.compilation_cache import enable_compilation_cache
from experiments.runtime.errors import usage_errors
from experiments.train.admm import ADMMTrainer
from experiments.train.checkpoint_manager import CheckpointManager, OpenRun, opened
from experiments.train.divergence import Monitor
from experiments.train.loop import Ended, train_to_end
from experiments.train.metric import Metric
from experiments.train.options import TrainConfig
from experiments.train.sweeps import SweepsTrainer
from experiments.train.trainer import Trainer
from pdadmm_jax.admm.growth import check_growable
from pdadmm_jax.parallel.mesh import stages
from pdadmm_jax.parallel.plan import plan
from pdadmm_jax.problems.problem import check_representable
from pdadmm_jax.sweeps.samples import batches_of
from pdadmm_jax.sweeps.stream import microbatches

LARGE = 100.0  # input that first weights are not made for
FEW = 4  # samples of a class


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
    console = screen.console(quiet=not cluster.is_main_process())
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
    options = dataclasses.replace(options, method=build.with_loss(options.method, dataset))
    widths = build.widths(dataset, options.network, options.method)
    dtype = np.float64 if options.double else np.float32
    samples = len(dataset.y_train)
    if options.algorithm == "sweeps":
        options = build.settled(options, widths, samples, mesh)
        config = build.sweeps(options, widths, samples)
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
        f"{_learnt(dataset)}"
    )
    for remark in remarks(dataset, own=trainer.options.data.file is not None):
        console.print(remark)
    widths = network_title(trainer.layer_widths(start))
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
    network = network_title(trainer.layer_widths(last), "-")
    title = f"{dataset.name}, {network}: {trainer.title(last.config)}"
    with runs.writing_to(run):
        runs.write_weights(run, dataset.network(params, last.config))
        write(SavedOutput(console, run), run, ended, trainer, scores, title, dataset)


def write(
    output: SavedOutput,
    run: Path,
    ended: Ended,
    trainer: Trainer,
    scores: dict[str, Score],
    title: str,
    dataset: Dataset,
) -> None:
    """Tables, figure and numbers; summary.json comes last, and says that all is there.

    Raises:
        OSError: there is no room for it.
    """
    last, metrics = ended.last, runs.read_metrics(run)
    summary = summary_of(last, trainer, scores, metrics, dataset)

    output.show(_table(title, scores, trainer.metric, dataset))
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
    if any("train_loss" in line for line in metrics):
        output.draw("training.png", lambda: trainer.figure(metrics, title))
    output.save()
    runs.write_json(run / runs.SUMMARY, summary)
    files = "config.json", runs.METRICS, *output.figures, runs.SUMMARY, "weights.npz"
    output.console.print(f"saved to {run}: {', '.join(files)}")


def summary_of(
    last: TrainState,
    trainer: Trainer,
    scores: dict[str, Score],
    metrics: list[dict[str, Any]],
    dataset: Dataset,
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
        **{f"{name}_{trainer.metric.name}": score for name, (_, score) in scores.items()},
        **{
            f"{name}_rmse": error
            for name, (loss, _) in scores.items()
            if (error := _root_mean_square(loss, dataset)) is not None
        },
        "data": {
            "task": "regression" if dataset.regression else "classification",
            "levels": dataset.levels,
            "columns": dataset.columns,
        },
    }


def _learnt(dataset: Dataset) -> str:
    """What the targets are, where they are no classes, and whether the data are standardised."""
    words = [f"regression on {dataset.outputs} target(s)"] if dataset.regression else []
    words += ["standardised"] if dataset.x_scaling is not None else []
    return "".join(f"; {word}" for word in words)


def remarks(dataset: Dataset, *, own: bool) -> list[str]:
    """What a user may not have meant."""
    found, samples = [], len(dataset.y_train)
    rows = [dataset.x_train, dataset.y_train] if dataset.regression else [dataset.x_train]
    largest = max(float(np.abs(one).max()) for one in rows)
    if dataset.x_scaling is None and largest > LARGE:
        found.append(
            f"note: values reach {largest:g}, from which training starts badly or not at all "
            "(--data.standardise scales them)"
        )
    labels = dataset.labels
    if own and labels is not None and labels.dtype.kind in "iu" and len(labels) > samples / FEW:
        found.append(
            f"note: {len(labels)} classes among {samples} samples (--data.task regression "
            "takes the targets for numbers)"
        )
    return found


def _root_mean_square(loss: float, dataset: Dataset) -> float | None:
    """The error of a single number in the units it was given in; None for classes and several.

    The loss is half the mean square of the standardised one.
    """
    if not dataset.regression or dataset.outputs > 1:
        return None
    unit = 1.0 if dataset.y_scaling is None else float(dataset.y_scaling.scale[0])
    return unit * math.sqrt(2 * loss)


def _table(title: str, scores: dict[str, Score], metric: Metric, dataset: Dataset) -> Table:
    rows = []
    for name, (loss, score) in scores.items():
        error = _root_mean_square(loss, dataset)
        last = [] if error is None else [f"{error:.4g}"]
        rows.append([name, f"{loss:{metric.loss}}", f"{score:{metric.long}}", *last])
    made = table(*("", "loss", metric.heading, "error (RMS)")[: len(rows[0])], title=title)
    for row in rows:
        made.add_row(*row)
    return made
