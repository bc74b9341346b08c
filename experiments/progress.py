"""What the screen shows while a run goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from experiments.runs import metric_lines
from experiments.training import Chunk


@contextmanager
def progress_shown(iterations: int, console: Console) -> Iterator[Callable[[Chunk], None]]:
    """Yields a function that shows a chunk as the latest."""
    if not console.is_terminal:
        yield lambda chunk: console.print(
            f"iteration {chunk.iteration}/{iterations}  {describe(chunk)}"
        )
        return
    columns = (  # all of it fits into 80 characters
        BarColumn(bar_width=6),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[described]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=iterations, described="compiling")
        yield lambda chunk: progress.update(
            task, completed=chunk.iteration, described=describe(chunk)
        )


def describe(chunk: Chunk) -> str:
    """Progress and accuracies in one line."""
    parts = [progress_of(metric_lines(chunk)[-1]), f"train {chunk.train[1]:.1%}"]
    if chunk.validation:
        parts.append(f"val {chunk.validation[1]:.1%}")
    return " ".join(parts)


def progress_of(line: dict[str, Any]) -> str:
    """Lagrangian and squared residual of an iteration, of which metrics.jsonl has this line."""
    lagrangian, residual = (
        float("nan") if line[name] is None else line[name] for name in ("lagrangian", "residual")
    )
    return f"Lagrangian {lagrangian:.4g} residual {residual:.1e}"
