"""Runs trials: each once, saved when it is finished, with a progress bar meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.algorithms.loop import Programs
from experiments.compare import trial_store
from experiments.compare.trial import Point, Task, Trial, history
from experiments.runtime.compilation_cache import enable_compilation_cache
from experiments.runtime.errors import usage_errors
from experiments.runtime.interrupts import INTERRUPTED, Interrupted, stop_requests

C = TypeVar("C")

_LONG = 10.0  # seconds from which a trial has a line of its own


class Runner(NamedTuple):
    """Runs the trials of a study.

    Attributes:
        directory: where finished trials are saved.
        programs: compiled so far.
        log: shows a line.
        progress: shows how far a trial is.
        stop_requests: grows when a stop is asked for.
    """

    directory: Path
    programs: Programs
    log: Callable[[str], None]
    progress: Callable[[Trial, Task, Point | None], None]
    stop_requests: list[int]

    def run(self, trial: Trial, task: Task) -> list[Point]:
        """A trial's history, saved at an earlier time or run now.

        Raises:
            UsageError: what was saved is damaged.
            Interrupted: a stop was asked for.
        """
        with usage_errors():
            saved = trial_store.find(self.directory, trial)
        if saved is not None:
            return saved
        points: list[Point] = []
        self.progress(trial, task, None)
        for point in history(trial, task, self.programs):
            points.append(point)
            self.progress(trial, task, point)
            if self.stop_requests:
                raise Interrupted(
                    f"finished trials are kept in {self.directory}; the same command resumes there"
                )
            if not math.isfinite(point.train_loss):
                break  # no iteration recovers from that
        trial_store.save(self.directory, trial, points)
        last = points[-1]
        if last.seconds > _LONG:
            self.log(
                f"{trial.title}: {last.passes} passes in {last.seconds:.0f} s, "
                f"accuracy {last.accuracy:.2%}"
            )
        return points


def exit_code_of(study: Callable[[C, Console], Any], options: C, console: Console) -> int:
    """Runs a study to its end, or until a stop is asked for; returns the exit code.

    Args:
        study: (options, console) -> results.
        options: its options.
        console: where results are shown.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    enable_compilation_cache()
    try:
        study(options, console)
    except Interrupted as stop:
        console.print(f"interrupted: {stop}")
        return INTERRUPTED
    return 0


@contextmanager
def trial_runner(directory: Path, console: Console) -> Iterator[Runner]:
    """A runner, with a progress bar of the trial under way where there is a terminal."""
    programs = Programs()
    with stop_requests() as asked:
        if not console.is_terminal:
            yield Runner(directory, programs, console.print, lambda *_: None, asked)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("")

            def show(trial: Trial, task: Task, point: Point | None) -> None:
                if point is None:
                    progress.reset(bar, total=task.passes, description=trial.title)
                else:
                    progress.update(bar, completed=point.passes)

            yield Runner(directory, programs, console.print, show, asked)
