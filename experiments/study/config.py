"""Options of the commands that study runs; imports neither JAX nor the library."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.config import (
    MethodConfig,
    NetworkConfig,
    SolverName,
    WireName,
    check_counts,
)
from experiments.data.config import DataConfig

MOST_ITERATIONS = 1_000_000  # what every one of them reports is held in memory


@dataclass(frozen=True)
class StudyConfig:
    """Networks trained from several starts, every iteration looked at."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)

    iterations: int = 1000
    """Iterations of every run."""

    evaluate_every: int = 10
    """Iterations between two evaluations of the forward pass, at least 3."""

    seeds: int = 3
    """Starts: first weights of the seeds 0, 1, ..."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for numbers that leave nothing to study."""
        check_counts(self, least={"iterations": 10, "evaluate_every": 3})
        self.network.check()
        if self.iterations > MOST_ITERATIONS:
            raise ValueError(
                f"iterations is {self.iterations}: give a number up to {MOST_ITERATIONS:,}."
            )
        if self.iterations % self.evaluate_every:  # one program does for all of them
            raise ValueError(
                f"iterations is {self.iterations}: give a multiple of evaluate-every, "
                f"{self.evaluate_every}."
            )


@dataclass(frozen=True)
class ConvergenceConfig(StudyConfig):
    """Trains with the paper's penalties and with certified ones, and checks the theory on both.

    Checked are the descent of the augmented Lagrangian, the primal residual, and the o(1/k) rate
    at which steps become short.
    """

    nu: float = 0.1
    """Penalty on z = p W + b and q = f(z); the paper's rho is the same number, the certified one
    is higher."""

    solver: SolverName = "layer"
    """Step of p and W; 'layer' is what the theorems are about, one ratio per layer."""

    double: bool = False
    """Compute in double precision."""


@dataclass(frozen=True)
class CommunicationConfig(StudyConfig):
    """Trains with messages of every type between stages, and counts bytes against accuracy."""

    method: MethodConfig = field(default_factory=MethodConfig)

    wires: tuple[WireName, ...] = ("full", "bfloat16", "int8", "int4")
    """Types of the messages between stages, 'full' among them to compare the others with."""

    stages: int = 4
    """Devices that the layers are laid out over; virtual ones on a CPU."""

    iterations: int = 300
    """Iterations of every run."""

    def check(self) -> None:
        """Raises ValueError for numbers that leave nothing to compare."""
        super().check()
        check_counts(self, least={"stages": 2})
        if "full" not in self.wires:
            raise ValueError("wires lacks 'full', which the others are compared with: add it.")
        if len(set(self.wires)) < len(self.wires):
            raise ValueError(f"wires names a type twice, {' '.join(self.wires)}: name it once.")
