"""What every measuring command does around its measurement: a directory, a screen, a last line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.report.saved_output import SavedOutput
from experiments.runtime import run_directory as runs
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
        self.console = Console(highlight=False, soft_wrap=True)
        with usage_errors():
            self.directory = runs.create(options.out, name, options)
        self._name, self._files = name, ["config.json", f"{name}.json"]
        self._shown = SavedOutput(self.console, self.directory)

    def show(self, what: str | Table) -> None:
        """Prints a text or a table."""
        self._shown.show(what)

    def figure(self) -> Path:
        """The path to draw to."""
        self._files.append(f"{self._name}.png")
        return self.directory / f"{self._name}.png"

    def save(self, found: dict[str, Any]) -> None:
        """Writes the results, and says where everything is."""
        runs.write_json(self.directory / f"{self._name}.json", found)
        self._shown.save(*(name for name in self._files if name.endswith(".png")))
        self.console.print(f"saved to {self.directory}: {', '.join(self._files)}")


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table without a box, numbers to the right; a column without a heading has names."""
    made = Table(box=None, title=title, title_justify="left")
    for name in columns:
        made.add_column(name, justify="right" if name else "left")
    return made
