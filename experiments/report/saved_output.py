"""The output of a command, saved beside its results for the report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter
from rich.console import Console
from rich.table import Table
from typing_extensions import TypedDict

from experiments.report.figures import save_figure
from experiments.runtime import run_directory as runs
from experiments.runtime.json_files import read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUTPUT = "output.json"


class SavedTable(TypedDict):
    """A table: its cells, and which columns are to the right."""

    title: str | None
    columns: list[str]
    rows: list[list[str]]
    right: list[bool]


class TextPart(TypedDict):
    """A text."""

    text: str


class TablePart(TypedDict):
    """A table."""

    table: SavedTable


class SavedEnvironment(TypedDict):
    """What the report says of hardware and versions."""

    devices: str
    cores: str
    jax: str
    pdadmm_jax: str


class SavedContent(TypedDict):
    """What output.json holds."""

    command: str
    finished: str
    environment: SavedEnvironment
    parts: list[TextPart | TablePart]
    figures: list[Annotated[str, Field(pattern=r"^\w[\w.-]*$")]]  # names beside it, no paths


_CONTENT = TypeAdapter(SavedContent)


def read_output(directory: Path) -> SavedContent:
    """The output of a command.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read.
    """
    return read_json(directory / OUTPUT, _CONTENT)


class SavedOutput:
    """Prints texts and tables, draws figures, and saves all of them.

    Attributes:
        console: where they are shown.
        figures: names of those drawn, in the directory.
    """

    def __init__(self, console: Console, directory: Path) -> None:
        self.console, self._directory = console, directory
        self.figures: list[str] = []
        self._parts: list[dict[str, Any]] = []

    def show(self, what: str | Table) -> None:
        """Prints a text or a table."""
        self.console.print(what)
        self._parts.append(_plain(what) if isinstance(what, Table) else {"text": what})

    def draw(self, name: str, figure: Callable[[], Figure]) -> None:
        """Draws a figure into the directory, or says why there is none.

        Args:
            name: of the file.
            figure: makes it; what needs Matplotlib is imported there.
        """
        if complaint := save_figure(self._directory / name, figure):
            self.show(complaint)
        else:
            self.figures.append(name)

    def save(self) -> None:
        """Writes the output, the command and the hardware."""
        content = {
            "command": f"python -m experiments {shlex.join(sys.argv[1:])}".strip(),
            "finished": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
            "environment": runs.environment(),
            "parts": self._parts,
            "figures": self.figures,
        }
        runs.write_json(self._directory / OUTPUT, content)


def _plain(table: Table) -> dict[str, Any]:
    """A table as it was filled in."""
    columns = [list(column.cells) for column in table.columns]
    return {
        "table": {
            "title": None if table.title is None else str(table.title).strip(),
            "columns": [str(column.header) for column in table.columns],
            "rows": [[str(cell) for cell in row] for row in zip(*columns, strict=True)],
            "right": [column.justify == "right" for column in table.columns],
        }
    }
