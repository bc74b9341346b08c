"""Options of ``train``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from experiments.data.config import DataConfig
from experiments.options.checks import MOST_OF, changed_options, check_count, check_seed
from experiments.options.devices import ClusterConfig, MeshConfig
from experiments.options.network import MethodConfig, NetworkConfig, SweepsConfig

AlgorithmName = Literal["admm", "sweeps"]
DivergenceAnswer = Literal["warn", "stop", "raise", "return"]
MOST_ITERATIONS = 2**31 - 1  # the state counts them in 32 bits
MOST_BETWEEN_EVALUATIONS = 100_000  # their reports are held in memory until the next one


@dataclass(frozen=True)
class GrowthConfig:
    """Greedy depth: identity layers inserted before the output layer during training."""

    at: tuple[int, ...] = ()
    """Iterations after which the network grows; none by default."""

    layers: int = 5
    """How many layers are inserted each time."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints for --resume; interrupts and the end of a run save one too."""

    every: int = 100
    """Iterations after which the next evaluation saves; 0 for interrupts and the end alone."""

    keep: int = 2
    """How many are kept, the newest; 0 saves none."""

    def check(self) -> None:
        """Raises ValueError for numbers that say nothing."""
        for name, value in vars(self).items():
            if not 0 <= value <= MOST_ITERATIONS:
                raise ValueError(
                    f"checkpoint.{name} is {value}: give a number from 0 to {MOST_ITERATIONS:,}."
                )


@dataclass(frozen=True)
class DivergenceConfig:
    """What to do if the Lagrangian, or the loss of sweeps, rises instead of falling."""

    factor: float = 10.0
    """A value so many times the lowest so far is a rise; values below a thousandth of the first
    count as that."""

    answer: DivergenceAnswer = "warn"
    """Warn and continue; stop; raise rho and continue; or return to the last checkpoint, and raise
    rho from there. With sweeps, nu is raised or the learning rate lowered."""

    raised: float = 2.0
    """Factor by which rho or nu is raised, or the learning rate lowered."""

    times: int = 5
    """How often that is done before the run stops."""

    def check(self) -> None:
        """Raises ValueError for numbers that are no answer."""
        for name in ("factor", "raised"):
            value = getattr(self, name)
            if not 1 < value < float("inf"):
                raise ValueError(f"divergence.{name} is {value}: give a number above 1.")
        if self.times < 0:
            raise ValueError(f"divergence.times is {self.times}: give 0 or more.")


@dataclass(frozen=True)
class TrainConfig:
    """Trains a network by layer-local problems and writes a run directory.

    Without options: the bundled digits, a network of 4 layers, some seconds on a laptop.
    A run that ended early is continued by --resume DIRECTORY.
    """

    algorithm: AlgorithmName = "admm"
    """Algorithm 1 of the paper, an ADMM over all samples; or sweeps, which reach a better
    accuracy."""

    resume: Path | None = None
    """Run directory of a run to resume, under the options it was begun with; iterations, mesh,
    cluster, checkpoint, divergence and the places of the data may be changed."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    sweeps: SweepsConfig = field(default_factory=SweepsConfig)
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    divergence: DivergenceConfig = field(default_factory=DivergenceConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    distributed: bool = False
    """Be one of several processes that train one network together."""

    iterations: int = 500
    """How many iterations to run; with sweeps, passes over the samples."""

    evaluate_every: int = 10
    """Iterations between two evaluations of loss and accuracy."""

    refresh_every: int = 100
    """Iterations after which the next evaluation recomputes all p W + b, against rounding."""

    seed: int = 0
    """Seed of the first weights."""

    double: bool = False
    """Compute in double precision."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for settings that no dataset or library call would refuse."""
        for name, value, most in (
            ("iterations", self.iterations, MOST_ITERATIONS),
            ("evaluate-every", self.evaluate_every, MOST_BETWEEN_EVALUATIONS),
            ("refresh-every", self.refresh_every, MOST_ITERATIONS),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"{name} is {value}: give a number from 1 to {most:,}.")
        check_seed(self.seed)
        if self.double and self.method.precision != "float32":
            raise ValueError(
                f"method.precision is {self.method.precision}, but double asks for more than "
                "float32: leave one of them out."
            )
        self.network.check()
        self._check_algorithm()
        self.sweeps.check()
        outside = [k for k in self.growth.at if not 0 < k < self.iterations]
        if outside:
            raise ValueError(
                f"growth.at has {outside[0]}, which is not between 1 and the last iteration but "
                f"one, {self.iterations - 1}."
            )
        self.mesh.check()
        self.checkpoint.check()
        self.divergence.check()
        self.cluster.check(self.distributed)
        check_count("growth.layers", self.growth.layers, 1, MOST_OF["layers"])

    def _check_algorithm(self) -> None:
        """Refuses options that the algorithm does not have."""
        if self.algorithm == "admm":
            if other := changed_options(self.sweeps):
                raise ValueError(
                    f"sweeps.{other[0]} is {getattr(self.sweeps, other[0])}, but the algorithm is "
                    "admm: add --algorithm sweeps, or leave it out."
                )
            return
        own = {"loss", "smoothing", "precision"}
        unused = [f"method.{name}" for name in changed_options(self.method) if name not in own]
        unused += [f"growth.{name}" for name in changed_options(self.growth)]
        unused += [f"sweeps.{name}" for name in self.sweeps.unused()]
        if unused:
            raise ValueError(
                f"{unused[0]} is given, but sweeps over "
                f"{'batches' if self.sweeps.batch else 'all samples'} have no use for it: leave it "
                "out."
            )
