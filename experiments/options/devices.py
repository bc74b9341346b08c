"""Devices and processes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from experiments.options.checks import MOST_DEVICES, check_count

MessageDtype = Literal["full", "float32", "bfloat16", "int8", "int4"]


@dataclass(frozen=True)
class MeshConfig:
    """The devices: stages that hold neighbouring layers, each with its share of the samples."""

    layer: int | None = None
    """Stages that the layers are laid out over; by default 1, or, of several processes, all
    devices."""

    data: int = 1
    """Devices that share the samples of each stage."""

    message_dtype: MessageDtype = "full"
    """Dtype of the messages between stages: that of the state, or one that rounds them."""

    def check(self) -> None:
        """Raises ValueError for axes without devices."""
        for name, value in (("layer", self.layer), ("data", self.data)):
            check_count(f"mesh.{name}", 1 if value is None else value, 1, MOST_DEVICES)


@dataclass(frozen=True)
class ClusterConfig:
    """How the processes of one run find each other; a launcher that JAX knows needs none of it."""

    coordinator: str | None = None
    """HOST:PORT of the first process."""

    processes: int | None = None
    """How many processes there are."""

    process: int | None = None
    """Number of this process, from 0."""

    def check(self, distributed: bool) -> None:
        """Raises ValueError for settings that do not belong together."""
        given = [name for name, value in vars(self).items() if value is not None]
        missing = [name for name, value in vars(self).items() if value is None]
        if given and not distributed:
            raise ValueError(
                f"cluster.{given[0]} is given without --distributed: give both or neither."
            )
        if given and missing:
            raise ValueError(
                f"cluster.{given[0]} is given, but cluster.{missing[0]} is not: give coordinator, "
                "processes and process, or none of them where a launcher tells JAX."
            )
        if self.coordinator is None or self.process is None or self.processes is None:
            return
        if not re.fullmatch(r".+:\d+", self.coordinator):
            raise ValueError(
                f"cluster.coordinator is {self.coordinator!r}, but has to be HOST:PORT, such as "
                "localhost:8476."
            )
        if not 0 <= self.process < self.processes:
            raise ValueError(
                f"cluster.process is {self.process}, but {self.processes} processes have numbers "
                f"from 0 to {self.processes - 1}."
            )
