"""What the screen shows while a run goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from experiments.train.algorithm import Chunk, Line


@contextmanager
def progress_shown(
    iterations: int, console: Console, described: Callable[[Line], str]
) -> Iterator[Callable[[Chunk], None]]:
    """Yields a function that shows a chunk as the latest.

    Args:
        iterations: number of the last one.
        console: where it is shown.
        described: says of a record how far training has come.
    """

    def text(chunk: Chunk) -> str:
        line = chunk.lines[-1]
        parts = [described(line), f"train {line['train_accuracy']:.1%}"]
        if "validation_accuracy" in line:
            parts.append(f"val {line['validation_accuracy']:.1%}")
        return " ".join(parts)

    if not console.is_terminal:
        yield lambda chunk: console.print(
            f"iteration {chunk.iteration}/{iterations}  {text(chunk)}"
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
        yield lambda chunk: progress.update(task, completed=chunk.iteration, described=text(chunk))
