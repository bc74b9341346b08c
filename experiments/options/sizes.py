"""Sizes of problems whose data are random."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from experiments.options.checks import check_counts
from experiments.options.devices import MeshConfig


@dataclass(frozen=True)
class SizeConfig:
    """The size of a problem; its data are random or none at all."""

    layers: int = 10
    """Layers of the network."""

    neurons: int = 500
    """Width of the hidden layers."""

    samples: int = 2000
    """Training samples."""

    features: int = 784
    """Inputs of the network."""

    classes: int = 10
    """Outputs of the network."""

    iterations: int = 3
    """Iterations per dispatch."""

    @property
    def widths(self) -> tuple[int, ...]:
        """(features, neurons, ..., classes)."""
        return (self.features, *[self.neurons] * (self.layers - 1), self.classes)

    def check(self) -> None:
        """Raises ValueError for numbers that make no problem."""
        check_counts(self, least={"layers": 2, "classes": 2})


@dataclass(frozen=True)
class ProblemConfig(SizeConfig):
    """A problem and the devices it is laid out over."""

    mesh: MeshConfig = field(default_factory=MeshConfig)

    def check(self) -> None:
        """Raises ValueError for numbers that make no problem or no mesh."""
        super().check()
        self.mesh.check()


def state_bytes(widths: Sequence[int], samples: int) -> int:
    """What the variables of all layers take in float32: W, b, z, a, and p, q, u between."""
    pairs = list(itertools.pairwise(widths))
    weights = sum((n_in + 1) * n_out for n_in, n_out in pairs)
    rows = sum(2 * n_out for _, n_out in pairs) + sum(3 * n_in for n_in, _ in pairs[1:])
    return 4 * (weights + samples * rows)
