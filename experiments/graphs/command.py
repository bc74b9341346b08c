"""``python -m experiments graphs``: methods that classify the nodes of a graph, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import build
from experiments.algorithms.loop import Programs
from experiments.compare.results import plus_minus
from experiments.compare.tuning import TUNING
from experiments.graphs.inputs import Inputs, in_span, inputs_of
from experiments.graphs.loading import load
from experiments.graphs.methods import GRID, METHODS, Method, Setting
from experiments.graphs.options import GraphsConfig
from experiments.graphs.trial import Plan, Point, best, history, least_loss
from experiments.options.devices import MessageDtype
from experiments.report.measurement import Measurement, table
from experiments.runtime.compilation_cache import enable_compilation_cache
from experiments.runtime.errors import usage_errors
from experiments.runtime.interrupts import INTERRUPTED, Interrupted, stop_requests
from pdadmm_jax.admm import Grid
from pdadmm_jax.parallel.compression import encode

# Test accuracies in %, ten layers, of arXiv:2105.09837: by set and neurons, and by method.
PUBLISHED: Mapping[tuple[str, int], Mapping[str, float]] = {
    ("cora", 100): {"pdadmm_g": 78.4, "pdadmm_g_q": 78.8, "adam": 72.5},
    ("cora", 500): {"pdadmm_g": 78.6, "pdadmm_g_q": 78.6, "adam": 77.1},
    ("citeseer", 100): {"pdadmm_g": 70.9, "pdadmm_g_q": 71.2, "adam": 63.1},
    ("citeseer", 500): {"pdadmm_g": 71.3, "pdadmm_g_q": 71.2, "adam": 66.2},
    ("pubmed", 100): {"pdadmm_g": 78.4, "pdadmm_g_q": 78.2, "adam": 74.2},
    ("pubmed", 500): {"pdadmm_g": 78.6, "pdadmm_g_q": 78.8, "adam": 77.8},
}


class Result(NamedTuple):
    """A method's tuning, and what came of it.

    Attributes:
        method: its name.
        tuning: histories of every setting, scored on the validation nodes alone.
        chosen: the best of them.
        histories: with it, from other seeds, scored on the test nodes too.
        on_stages: the same on several stages, for each dtype of messages.
    """

    method: str
    tuning: dict[Setting, list[list[Point]]]
    chosen: Setting
    histories: list[list[Point]]
    on_stages: dict[MessageDtype, list[list[Point]]]


def main(options: GraphsConfig) -> int:
    """Tunes every method, trains with what was chosen, and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    enable_compilation_cache()
    with usage_errors():
        graph = load(options.data, options.name, options.split_seed)
        assert graph.split is not None  # loading draws one
        mesh = build.line(options.stages) if options.stages > 1 else None
        inputs = inputs_of(graph, graph.split, options.hops)
        plan = Plan(
            options.neurons,
            graph.classes,
            options.layers,
            options.growth,
            options.passes,
            options.evaluate_every,
            options.penalties_from,
        )
        samples, features = inputs.train.x.shape
        build.check_fits(plan.widths(features, plan.layers), samples)
    measurement = Measurement("graphs", options)
    measurement.show(
        f"{graph.source}: {len(graph.labels)} nodes, {graph.adjacency.nnz // 2} edges, "
        f"{graph.features.shape[1]} features, {graph.classes} classes; {samples} nodes to train "
        f"on, {len(inputs.validation.y)} for validation, {len(inputs.test.y)} for the test\n"
        f"{options.layers} layers of {options.neurons}, {features} inputs, {options.passes} passes"
    )
    results: list[Result] = []
    spanned = in_span(inputs)
    with stop_requests() as asked:
        try:
            for name in options.methods:
                own = spanned if METHODS[name].in_span else inputs
                results.append(compared(name, own, plan, options, mesh, asked))
                measurement.show(_line(results[-1], options.tuning_seeds))
        except Interrupted as stop:
            measurement.show(f"interrupted: {stop}")
    if results:
        planetoid = (options.data / f"ind.{options.name}.graph").exists()
        published = PUBLISHED.get((options.name, options.neurons), {})
        measurement.show(_table(results, published if planetoid and plan.layers == 10 else {}))
        if any(one.on_stages for one in results):
            measurement.show(_stages_table(results, options.stages, samples, options.neurons))
        measurement.show(_messages(samples, options.neurons))
        measurement.draw("graphs.figure", results)
    measurement.save({"results": list(map(_plain, results))})
    return INTERRUPTED if len(results) < len(options.methods) else 0


def compared(
    name: str,
    inputs: Inputs,
    plan: Plan,
    options: GraphsConfig,
    mesh: Mesh | None,
    asked: list[int],
) -> Result:
    """One method, tuned on the validation nodes; then, and only then, the test nodes are scored.

    Raises:
        Interrupted: a stop was asked for.
    """
    method: Method = METHODS[name]
    scaled, own = inputs.times(method.scale), Programs()

    def histories(
        setting: Setting,
        seeds: range,
        scored: Mapping[str, pdadmm.Data],
        method: Method = method,
        train: pdadmm.Data = scaled.train,
        programs: Programs = own,
    ) -> list[list[Point]]:
        found = []
        for seed in seeds:
            found.append(history(method, setting, seed, train, scored, plan, programs))
            if asked:
                raise Interrupted("the results of methods that were finished are saved")
        return found

    others = range(TUNING, TUNING + options.tuning_seeds)
    tuning = {
        setting: histories(setting, others, {"validation": scaled.validation})
        for setting in method.settings()
    }
    chosen, seeds = best(tuning), range(options.seeds)
    splits = {"validation": scaled.validation, "test": scaled.test}
    last, on_stages = histories(chosen, seeds, splits), {}
    if mesh is not None and method.in_stages:
        train = pdadmm.shard_data(scaled.train, mesh)
        for dtype in options.message_dtypes:
            there = method.on(mesh, dtype)
            on_stages[dtype] = histories(chosen, seeds, splits, there, train, Programs())
    return Result(name, tuning, chosen, last, on_stages)


def _line(result: Result, seeds: int) -> str:
    method, (number, mu) = METHODS[result.method], result.chosen
    accuracy = np.mean([points[-1].validation for points in result.tuning[result.chosen]])
    return (
        f"{method.title}: {method.number} {number:g}, mu {mu:g}, of {len(result.tuning)} settings "
        f"the best on the validation nodes, {accuracy:.1%} from {seeds} seed(s)"
    )


def _table(results: list[Result], published: Mapping[str, float]) -> Table:
    """Means over the seeds, with deviations."""
    title = "\naccuracy in %: of the last weights, and of those of least validation loss"
    columns = ["", "number", "mu", "validation", "test", "least loss: test", "after", "s"]
    made = table(*columns, *(["published"] if published else []), title=title)
    for one in results:
        method, last = METHODS[one.method], [points[-1] for points in one.histories]
        least = list(map(least_loss, one.histories))
        cells = [
            method.title,
            f"{method.number} {one.chosen.number:g}",
            f"{one.chosen.mu:g}",
            _percent(last, lambda point: point.validation),
            _percent(last, lambda point: point.test),
            _percent(least, lambda point: point.test),
            f"{np.mean([point.passes for point in least]):.0f}",
            f"{np.mean([point.seconds for point in last]):.2f}",
        ]
        if published:
            cells.append(f"{published[one.method]}" if one.method in published else "")
        made.add_row(*cells)
    return made


def _percent(points: list[Point], value: Callable[[Point], float | None]) -> str:
    broken = sum(not math.isfinite(point.loss) for point in points)
    if broken:
        return f"{broken} of {len(points)} not finite"
    return plus_minus([100 * float(value(point) or 0) for point in points], 1)


def _stages_table(results: list[Result], stages: int, samples: int, width: int) -> Table:
    """What messages of fewer bytes cost."""
    title = f"\non {stages} stages, with what was chosen on one device; accuracy in %"
    columns = "", "messages", "bytes of one", "of float32", "validation", "test"
    made = table(*columns, title=title)
    whole = bytes_of(samples, width, "float32", None)
    for one in results:
        method = METHODS[one.method]
        for dtype, histories in one.on_stages.items():
            last = [points[-1] for points in histories]
            size = bytes_of(samples, width, dtype, method.grid)
            made.add_row(
                method.title,
                dtype,
                f"{size:,}",
                f"{size / whole:.1%}",
                _percent(last, lambda point: point.validation),
                _percent(last, lambda point: point.test),
            )
    return made


def bytes_of(samples: int, width: int, dtype: MessageDtype, grid: Grid | None) -> int:
    """Bytes of a message, as the library encodes it."""
    change = jax.ShapeDtypeStruct((samples, width), jnp.float32)
    scale = None if grid is None else grid.spacing
    dtype = "float32" if dtype == "full" else dtype
    message = jax.eval_shape(partial(encode, message_dtype=dtype, scale=scale), change)
    return math.prod(message.shape) * message.dtype.itemsize


def _messages(samples: int, width: int) -> str:
    """Bytes of messages of each dtype."""
    whole = bytes_of(samples, width, "float32", None)

    def sizes(grid: Grid | None) -> str:
        found = {dtype: bytes_of(samples, width, dtype, grid) for dtype in ("int8", "int4")}
        return ", ".join(f"{n:,} as {t} ({n / whole - 1:+.1%})" for t, n in found.items())

    return (
        "On several devices, one message of Algorithm 1 or sweeps goes each way across every "
        f"boundary in a pass; its bytes: {whole:,} as float32, {sizes(None)}; of pdADMM-G-Q, whose "
        f"codes need no scale, {sizes(GRID)}"
    )


def _plain(result: Result) -> dict[str, Any]:
    """What is saved."""
    return {
        "method": result.method,
        **result.chosen._asdict(),
        "tuning": [
            {**setting._asdict(), "histories": _fields(histories)}
            for setting, histories in result.tuning.items()
        ],
        "histories": _fields(result.histories),
        "on_stages": {dtype: _fields(found) for dtype, found in result.on_stages.items()},
    }


def _fields(histories: list[list[Point]]) -> list[list[dict[str, Any]]]:
    return [[point._asdict() for point in points] for points in histories]
