"""Progress on the screen: a bar on a terminal, plain lines elsewhere."""

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

from experiments.train.metric import Metric
from experiments.train.trainer import Record


@contextmanager
def show_progress(
    iterations: int, console: Console, describe: Callable[[Record], str], metric: Metric
) -> Iterator[Callable[[Record], None]]:
    """Yields a function that shows the latest record.

    Args:
        iterations: number of the last one.
        console: where it is shown.
        describe: says of a record how far training has come.
        metric: what is said of the network.
    """

    def text(record: Record) -> str:
        parts = [describe(record)]
        for split, title in (("train", metric.progress), ("validation", "val")):
            if (name := f"{split}_{metric.name}") in record:
                parts.append(f"{title} {record[name]:{metric.short}}")
        return " ".join(parts)

    if not console.is_terminal:
        yield lambda record: console.print(
            f"iteration {record['iteration']}/{iterations}  {text(record)}"
        )
        return
    columns = (  # all of it fits into 80 characters
        BarColumn(bar_width=6),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=iterations, text="compiling")
        yield lambda record: progress.update(task, completed=record["iteration"], text=text(record))
