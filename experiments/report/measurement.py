"""What every measuring command does around its measurement: a directory, a screen, a last line."""

from __future__ import annotations

import importlib
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from experiments.report.saved_output import SavedOutput
from experiments.runtime import run_directory as runs
from experiments.runtime import screen
from experiments.runtime.errors import usage_errors


class Measurement:
    """A run directory with config.json, and a console.

    Attributes:
        directory: where results go.
        console: where they are shown.
    """

    def __init__(self, name: str, options: Any) -> None:
        """Makes the directory.

        Args:
            name: of the command, and of the file of its results.
            options: the command's; ``config.out`` says where to make directories.

        Raises:
            UsageError: the directory cannot be made.
        """
        self.console = screen.console()
        with usage_errors():
            self.directory = runs.create(options.out, name, options)
        self._name = name
        self._shown = SavedOutput(self.console, self.directory)

    def show(self, what: str | Table) -> None:
        """Prints a text or a table."""
        self._shown.show(what)

    def draw(self, module: str, *content: Any, **more: Any) -> None:
        """Draws the figure, or says why there is none.

        Args:
            module: whose ``figure`` makes it; imported only then, for Matplotlib may refuse to be.
            *content: what is drawn.
            **more: likewise.
        """
        self._shown.draw(
            f"{self._name}.png",
            lambda: importlib.import_module(f"experiments.{module}").figure(*content, **more),
        )

    def save(self, found: dict[str, Any]) -> None:
        """Writes the results, and says where everything is."""
        runs.write_json(self.directory / f"{self._name}.json", found)
        self._shown.save()
        files = "config.json", f"{self._name}.json", *self._shown.figures
        self.console.print(f"saved to {self.directory}: {', '.join(files)}")


class _WholeNumbers(Table):
    """A table in which no number and no word is cut, however narrow the screen is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for column in self.columns:
            cells = list(map(str, column.cells))
            names = column.justify == "left"  # may be broken between words
            whole = " ".join(cells).split() if names else cells
            column.min_width = max(map(cell_len, [*whole, *str(column.header).split(), " "]))
        least = sum((column.min_width or 0) + sum(self.padding[1::2]) for column in self.columns)
        wide_enough = options.update_width(max(options.max_width, least))
        yield from super().__rich_console__(console, wide_enough)


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table without a box, numbers to the right; a column without a heading has names."""
    made = _WholeNumbers(box=None, title=title, title_justify="left")
    for name in columns:
        made.add_column(name, justify="right" if name else "left")
    return made
