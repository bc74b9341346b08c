"""Options of ``report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReportConfig:
    """Gathers tables, figures, hardware and commands of all that was run into report.html.

    The page holds its figures and needs nothing beside it; report.md is the same as text.
    """

    runs: Path = Path("runs")
    """Directory in which the runs are, and where the report is written."""

    def check(self) -> None:
        """Raises ValueError if there is no such directory."""
        if not self.runs.is_dir():
            raise ValueError(
                f"runs is {self.runs}, which is no directory: run other commands first, such as "
                "compare, or give the directory they wrote to."
            )
