"""Options of ``launch``."""

from __future__ import annotations

import os
from dataclasses import dataclass

from experiments.options.checks import check_counts


@dataclass(frozen=True)
class LaunchConfig:
    """Starts a command as several processes of this machine, which share the work.

    For example: launch --processes 2 train --network.hidden 100 100 100
    """

    processes: int = 2
    """How many processes."""

    pin: bool = False
    """Give every process one core of its own."""

    def check(self) -> None:
        """Raises ValueError for more processes than can be started as asked for."""
        check_counts(self, least={})
        if self.pin and not hasattr(os, "sched_setaffinity"):
            raise ValueError("this system cannot pin a process to a core: leave out --pin.")
        cores = len(os.sched_getaffinity(0)) if self.pin else self.processes
        if self.processes > cores:
            raise ValueError(
                f"processes is {self.processes}, but there are {cores} cores to pin them to: "
                "start fewer or leave out --pin."
            )
