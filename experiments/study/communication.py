"""``python -m experiments study communication``: what messages of fewer bytes cost in accuracy.

The same network from the same starts on several stages, once for every dtype of messages.  Bytes
are not computed from the dtypes but counted in the compiled programs that are run: what one device
sends to its neighbours in every iteration of their loops, and after the last one once more.  Not
among them are the forward pass that a run starts from, which crosses every boundary once,
unrounded, and what is gathered for metrics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sized
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.progress import track
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import build
from experiments.algorithms.admm import ADMM
from experiments.algorithms.loop import Programs, Schedule
from experiments.benchmark.compiled_program import messages
from experiments.options.devices import MessageDtype
from experiments.report.measurement import Measurement, table
from experiments.runtime.compilation_cache import enable_compilation_cache
from experiments.runtime.errors import usage_errors
from experiments.runtime.interrupts import INTERRUPTED, Interrupted, stop_requests
from experiments.study.history import (
    INTERRUPTION,
    REFRESH_EVERY,
    History,
    Problem,
    Report,
    error,
    finite_ones,
    history,
    problem,
    report_of,
    rises,
)
from experiments.study.options import CommunicationConfig

FAILED = 1


class Traffic(NamedTuple):
    """Messages of one dtype, and the runs with them.

    Attributes:
        dtype: of the messages.
        bytes: that cross a boundary of stages per iteration, both ways together.
        boundaries: between stages.
        histories: one of every seed.
    """

    dtype: MessageDtype
    bytes: int
    boundaries: int
    histories: list[History]

    def sent(self, iterations: Any) -> np.ndarray:
        """Megabytes over all boundaries in so many iterations."""
        return np.asarray(iterations) * (self.bytes * self.boundaries / 1e6)


class Summary(NamedTuple):
    """How all runs with one dtype ended: mean and deviation over seeds.

    Attributes:
        lagrangian: augmented Lagrangian.
        residual: squared primal residual.
        loss: of the forward pass on held-out samples.
        accuracy: on the same.
        rises: iterations in which the Lagrangian rose, in all runs together.
        largest_rise: as a share of its first value.
    """

    lagrangian: tuple[float, float]
    residual: tuple[float, float]
    loss: tuple[float, float]
    accuracy: tuple[float, float]
    rises: int
    largest_rise: float


def main(options: CommunicationConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    enable_compilation_cache()
    with usage_errors():
        config = build.admm(options.network, options.method)
        given = problem(options, options.method, mesh=build.line(options.stages))
        build.held_out(given.splits, options.data)  # on which accuracy is measured
        given.start(0, config)
    measurement = Measurement("communication", options)
    measurement.show(given.described(options.iterations))
    found = []
    message_dtypes = track(
        options.message_dtypes,
        "message dtypes",
        console=measurement.console,
        disable=not measurement.console.is_terminal,
    )
    with stop_requests() as asked:
        for dtype in message_dtypes:
            found.append(traffic(options, given, config, dtype, asked))
            if asked:
                break
    found = [one for one in found if one.histories]
    if found:
        measurement.show(_table(found))
    broken = [
        f"{one.dtype}, seed {each.seed}: values ceased to be finite at iteration {each.nonfinite}"
        for one in found
        for each in one.histories
        if each.nonfinite
    ]
    if broken:
        measurement.show(error(broken))
    if asked:
        measurement.show(INTERRUPTION)
    if any(finite_ones(one.histories) for one in found):
        measurement.draw("study.communication_figure", found, given)
    measurement.save({one.dtype: _plain(one) for one in found})
    if asked:
        return INTERRUPTED
    return FAILED if broken else 0


def traffic(
    options: CommunicationConfig,
    given: Problem,
    config: pdadmm.admm.Config,
    dtype: MessageDtype,
    stop_requests: Sized,
) -> Traffic:
    """Trains with messages of one dtype from every seed, or until a stop; counts their bytes."""
    schedule = Schedule(options.iterations, options.evaluate_every, REFRESH_EVERY)
    programs, key = Programs(), jax.random.key(0)
    start = given.start(0, config, dtype)
    run = programs.compiled(
        RECORDED.run, start.state, given.splits.solved, config, key, steps=options.evaluate_every
    )
    histories = []
    with contextlib.suppress(Interrupted):
        for seed in range(options.seeds):
            start = given.start(seed, config, dtype)
            histories.append(
                history(RECORDED, given, seed, start, schedule, programs, stop_requests)
            )
    sent = bytes_per_iteration(run.as_text() or "")
    return Traffic(dtype, sent, options.stages - 1, histories)


def recorded(state: Any, data: Any, config: Any, key: Any, steps: int) -> tuple[Any, Report]:
    """Some iterations in one loop."""
    state, info = ADMM.run(state, data, config, key, steps)
    return state, report_of(info)


RECORDED = ADMM._replace(run=recorded)


def bytes_per_iteration(text: str) -> int:
    """What a device that has two neighbours sends in every iteration of a program's loop."""
    return sum(message.bytes for message in messages(text) if message.in_loop)


def summary(one: Traffic) -> Summary:
    """Of the runs that stayed finite, at least one."""
    ended = finite_ones(one.histories)
    risen = [rises(each.lagrangian) for each in ended]
    return Summary(
        lagrangian=mean_and_deviation([each.report.lagrangian[-1] for each in ended]),
        residual=mean_and_deviation([each.report.residual[-1] for each in ended]),
        loss=mean_and_deviation([each.validation[-1][0] for each in ended]),
        accuracy=mean_and_deviation([each.validation[-1][1] for each in ended]),
        rises=sum(each.number for each in risen),
        largest_rise=max(each.largest for each in risen),
    )


def mean_and_deviation(numbers: list[float]) -> tuple[float, float]:
    """Mean and standard deviation; that of a single number is 0."""
    return float(np.mean(numbers)), float(np.std(numbers, ddof=min(1, len(numbers) - 1)))


def _plain(one: Traffic) -> dict[str, Any]:
    end = summary(one)._asdict() if finite_ones(one.histories) else {}
    return {
        "bytes_per_boundary_and_iteration": one.bytes,
        "boundaries": one.boundaries,
        "end": end,
        "histories": [each.to_json() for each in one.histories],
    }


def _table(found: list[Traffic]) -> Table:
    full = next((one.bytes for one in found if one.dtype == "full"), None)  # None if interrupted
    seeds = " to ".join(map(str, sorted({len(finite_ones(one.histories)) for one in found})))
    headings = "bytes", "of full", "L", "residual", "loss", "accuracy", "+-", "rises"
    made = table(
        "",
        *headings,
        title="bytes: per boundary and iteration; L, residual: Lagrangian and squared primal\n"
        f"residual; loss, accuracy: of held-out samples; all of them means of {seeds} seed(s)",
    )
    for one in found:
        share = f"{one.bytes / full:.3f}" if full else ""
        made.add_row(one.dtype, f"{one.bytes:,}", share, *_cells(one))
    return made


def _cells(one: Traffic) -> list[str]:
    if not finite_ones(one.histories):
        return ["not finite"]
    end = summary(one)
    mean, deviation = end.accuracy
    return [
        f"{end.lagrangian[0]:.4g}",
        f"{end.residual[0]:.1e}",
        f"{end.loss[0]:.4f}",
        f"{mean:.1%}",
        f"{deviation:.1%}",
        f"{end.rises} ({end.largest_rise:.0e})" if end.rises else "0",
    ]
