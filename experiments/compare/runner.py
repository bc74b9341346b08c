"""Where trials are run: each once, kept when it is finished, and shown while it goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.compare import trial_store as records
from experiments.compare.trial import Point, Programs, Task, Trial, course, titled
from experiments.runtime.compilation_cache import keep_programs
from experiments.runtime.errors import usage_errors
from experiments.runtime.interrupts import INTERRUPTED, Interrupted, stop_requests

C = TypeVar("C")

_LONG = 10.0  # seconds from which a trial has a line of its own


class Bench(NamedTuple):
    """A study's directory at work.

    Attributes:
        directory: where finished trials are kept.
        programs: compiled so far.
        say: shows a line.
        show: shows how far a trial is.
        asked: grows when a stop is asked for.
    """

    directory: Path
    programs: Programs
    say: Callable[[str], None]
    show: Callable[[Trial, Task, Point | None], None]
    asked: list[int]

    def run(self, trial: Trial, task: Task) -> list[Point]:
        """A trial's course, kept from an earlier time or run now.

        Raises:
            UsageError: what was kept is damaged.
            Interrupted: a stop was asked for.
        """
        with usage_errors():
            kept = records.find(self.directory, trial)
        if kept is not None:
            return kept
        points: list[Point] = []
        self.show(trial, task, None)
        for point in course(trial, task, self.programs):
            points.append(point)
            self.show(trial, task, point)
            if self.asked:
                raise Interrupted(
                    f"finished trials are kept in {self.directory}; the same command goes on there"
                )
            if not math.isfinite(point.train_loss):
                break  # it will not come back
        records.save(self.directory, trial, points)
        last = points[-1]
        if last.seconds > _LONG:
            self.say(
                f"{titled(trial, task)}: {last.passes} passes in {last.seconds:.0f} s, "
                f"accuracy {last.accuracy:.2%}"
            )
        return points


def concluded(study: Callable[[C, Console], Any], config: C, console: Console) -> int:
    """Runs a study to its end, or to where a stop was asked for; returns the exit code.

    Args:
        study: (config, console) -> what it came to.
        config: what it is told.
        console: where it is shown.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    keep_programs()
    try:
        study(config, console)
    except Interrupted as stop:
        console.print(f"interrupted: {stop}")
        return INTERRUPTED
    return 0


@contextmanager
def at_work(directory: Path, console: Console) -> Iterator[Bench]:
    """A bench, with a bar that follows the trial under way where there is a terminal."""
    programs: Programs = {}
    with stop_requests() as asked:
        if not console.is_terminal:
            yield Bench(directory, programs, console.print, lambda *_: None, asked)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("")

            def show(trial: Trial, task: Task, point: Point | None) -> None:
                if point is None:
                    progress.reset(bar, total=task.passes, description=titled(trial, task))
                else:
                    progress.update(bar, completed=point.passes)

            yield Bench(directory, programs, console.print, show, asked)
