"""Options of the studies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from experiments.data.config import DataConfig
from experiments.data.dataset import Dataset
from experiments.options.checks import check_chosen, check_count, check_counts
from experiments.options.devices import MessageDtype
from experiments.options.network import MethodConfig, NetworkConfig, SolverName

MOST_ITERATIONS = 1_000_000  # what every one of them reports is held in memory


@dataclass(frozen=True)
class AblationsConfig:
    """Trains pdADMM with one thing changed at a time, and scores it on held-out samples.

    Steps of p and W, the proximal term of z, nu, rho, first weights, depth.
    """

    data: DataConfig = field(default_factory=partial(DataConfig, validation=0.2))

    hidden: tuple[int, ...] = (100, 100, 100)
    """Widths of the hidden layers, all alike."""

    iterations: int = 300
    """Iterations of each variant."""

    seeds: int = 3
    """Seeds of the first weights."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for settings that leave nothing to change."""
        check_counts(self, least={"iterations": 2})
        self.data.check()
        if len(self.hidden) < 2 or len(set(self.hidden)) > 1 or min(self.hidden) < 1:
            raise ValueError(
                f"hidden is {self.hidden}: give at least two equal widths, for layers to grow."
            )
        if not self.data.validation:
            raise ValueError("data.validation is 0: give a share above 0, to score on.")


@dataclass(frozen=True)
class SettingsConfig:
    """Trains as recommended, and with numbers times factors, scored on held-out samples.

    Over all samples the number is nu, of sweeps, or of Algorithm 1 with rho = nu; in batches it is
    the first estimate of Prodigy's rates, or the rate of Adam.

    How far below the best factor the recommended settings are is what tuning would add to them.
    """

    data: DataConfig = field(default_factory=partial(DataConfig, validation=0.2))

    layers: tuple[int, ...] = (3, 10, 20)
    """Depths of the networks."""

    neurons: int = 100
    """Width of the hidden layers."""

    passes: int = 60
    """Passes over all samples at once, where nu is changed and steps fall along half a cosine."""

    batch_passes: int = 20
    """Passes in batches, where the first estimate is changed, or the rate; both rates fall along
    half a cosine."""

    batch: int = 128
    """Samples of a batch."""

    iterations: int = 100
    """Iterations of Algorithm 1, where nu = rho is changed."""

    factors: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    """What the recommended number is multiplied by; 1 among them."""

    seeds: int = 3
    """Seeds of the first weights and of the order of the samples."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for settings that leave nothing to compare."""
        check_counts(self, least={})
        self.data.check()
        check_chosen("layers", self.layers)
        check_chosen("factors", self.factors)
        for layers in self.layers:
            check_count("layers", layers, 2)
        for factor in self.factors:
            if not 0 < factor < math.inf:
                raise ValueError(f"factors has {factor}: give finite numbers above 0.")
        if 1.0 not in self.factors:
            raise ValueError(f"factors are {self.factors}: give 1 too, the recommended settings.")
        if not self.data.validation:
            raise ValueError("data.validation is 0: give a share above 0, to score on.")

    def widths(self, dataset: Dataset, layers: int) -> tuple[int, ...]:
        """Those of a network of so many layers for a data set."""
        return (dataset.x_train.shape[1], *[self.neurons] * (layers - 1), dataset.outputs)


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
    """Trains with messages of every dtype between stages, and counts bytes against accuracy."""

    method: MethodConfig = field(default_factory=MethodConfig)

    message_dtypes: tuple[MessageDtype, ...] = ("full", "bfloat16", "int8", "int4")
    """Dtypes of the messages between stages, 'full' among them to compare the others with."""

    stages: int = 4
    """Devices that the layers are laid out over; virtual ones on a CPU."""

    iterations: int = 300
    """Iterations of every run."""

    def check(self) -> None:
        """Raises ValueError for numbers that leave nothing to compare."""
        super().check()
        check_counts(self, least={"stages": 2})
        layers = len(self.network.hidden) + 1
        if self.stages > layers:
            raise ValueError(
                f"stages is {self.stages}, but the network has {layers} layers: "
                f"give {layers} or less."
            )
        if "full" not in self.message_dtypes:
            raise ValueError(
                "message-dtypes lacks 'full', which the others are compared with: add it."
            )
        if len(set(self.message_dtypes)) < len(self.message_dtypes):
            raise ValueError(
                f"message-dtypes names one twice, {' '.join(self.message_dtypes)}: name it once."
            )
