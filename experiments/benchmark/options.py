"""Options of the commands that measure speed; imports neither JAX nor the library."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.options.checks import (
    MOST_DEVICES,
    MOST_OF,
    check_count,
    check_counts,
    check_microbatches,
    check_seed,
)
from experiments.options.devices import ClusterConfig
from experiments.options.network import LossName, PrecisionName, ScheduleName
from experiments.options.sizes import ProblemConfig, SizeConfig


@dataclass(frozen=True)
class BenchmarkConfig(SizeConfig):
    """Iterations on random data that are timed."""

    layers: int = 10
    """Layers of the network, at least 3."""

    samples: int = 10_000
    """Training samples."""

    iterations: int = 8
    """Iterations per dispatch."""

    repeats: int = 5
    """Dispatches of each program that are timed, in turn, after one that warms up."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for numbers that make no problem."""
        check_counts(self, least={"layers": 3, "classes": 2})


@dataclass(frozen=True)
class SpeedConfig(BenchmarkConfig):
    """Times iterations against their matrix products alone and against Adam."""

    precision: PrecisionName = "float32"
    """What the inputs of matrix products are rounded to."""


@dataclass(frozen=True)
class SweepsSpeedConfig:
    """Times passes of sweeps against passes of Adam over the same batches, on random data."""

    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers; without them four networks are timed in batches and one with all
    samples at once."""

    features: int = 196
    """Inputs of the network given."""

    batch: int | None = None
    """Samples between two updates of the network given; by default all of them, and W by its own
    subproblem."""

    samples: int = 6400
    """Training samples of the network given."""

    passes: int = 2
    """Passes per dispatch."""

    repeats: int = 7
    """Dispatches of each program that are timed, in turn, after one that warms up."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for numbers that make no problem."""
        check_counts(self, least={})
        for width in self.hidden:
            check_count("hidden", width)
        if self.batch is not None and self.batch > self.samples:
            raise ValueError(
                f"batch is {self.batch}, but there are {self.samples} samples: give a smaller one."
            )


@dataclass(frozen=True)
class LiteralConfig(BenchmarkConfig):
    """Times iterations against Algorithm 1 as it is published, which is run one by one."""

    repeats: int = 3
    """Dispatches of each program that are timed, after one that warms up."""


@dataclass(frozen=True)
class SizesConfig:
    """Times iterations while samples, neurons or layers grow eightfold."""

    samples: int = 2000
    """Samples to begin with."""

    neurons: int = 125
    """Width to begin with, of inputs and hidden layers."""

    layers: int = 4
    """Layers to begin with, at least 3."""

    iterations: int = 8
    """Iterations per dispatch."""

    repeats: int = 5
    """Dispatches of each program that are timed, after one that warms up."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for numbers that make no problem."""
        check_counts(self, least={"layers": 3})


@dataclass(frozen=True)
class StartupConfig:
    """Times what comes before the first iteration, each time in a new process."""

    layers: tuple[int, int] = (10, 100)
    """Two depths whose compile times are compared."""

    neurons: int = 100
    """Width of the hidden layers."""

    samples: int = 1000
    """Training samples."""

    repeats: int = 5
    """Processes started for each number."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for numbers that make no problem."""
        check_counts(self, least={})
        for layers in self.layers:
            check_count("layers", layers, 2, MOST_OF["layers"])


@dataclass(frozen=True)
class PrecisionConfig:
    """Trains on the bundled digits with products of every precision."""

    iterations: int = 10_000
    """How many, with a recomputed now and then, and again without."""

    refresh_every: int = 100
    """Iterations after which a is recomputed."""

    neurons: int = 100
    """Width of the three hidden layers."""

    seed: int = 0
    """Seed of the first weights."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for numbers that leave nothing to compare."""
        check_counts(self, least={"seed": 0})
        check_seed(self.seed)
        if self.iterations < 2 * self.refresh_every:
            raise ValueError(
                f"iterations is {self.iterations}: give at least 2 x {self.refresh_every}, twice "
                "refresh-every."
            )


@dataclass(frozen=True)
class CompileConfig(ProblemConfig):
    """Compiles a run for devices that need not be there, and reads the program."""

    topology: str | None = None
    """TPUs to compile for, such as v5e:2x4; virtual devices of the CPU by default."""

    def check(self) -> None:
        """Raises ValueError for numbers that make no problem, or more devices than can be made."""
        super().check()
        devices = (self.mesh.layer or 1) * self.mesh.data
        if devices > MOST_DEVICES:
            raise ValueError(f"the mesh has {devices:,} devices: give {MOST_DEVICES:,} or less.")


@dataclass(frozen=True)
class TimeConfig(ProblemConfig):
    """Times iterations on random data: those of Algorithm 1, or passes of sweeps in batches."""

    batch: int | None = None
    """Samples between two updates of sweeps, with Adam's rule; without it Algorithm 1 is timed."""

    schedule: ScheduleName = "synchronous"
    """Of the sweeps on several stages."""

    microbatches: int | None = None
    """Blocks that a batch of the sweeps is split into; by default as few as the schedule takes."""

    block: int = 1024
    """Samples that a layer of the sweeps works on at a time."""

    loss: LossName = "softmax_cross_entropy"
    """Risk of the output layer."""

    repeats: int = 3
    """Dispatches that are timed, after one that warms up."""

    json: bool = False
    """Print all that was measured, for programs."""

    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    distributed: bool = False
    """Be one of several processes."""

    def check(self) -> None:
        """Raises ValueError for numbers that make no problem, or processes no cluster."""
        super().check()
        if self.batch is None and (self.schedule != "synchronous" or self.microbatches):
            raise ValueError("schedule and microbatches are for sweeps: give batch too.")
        check_microbatches(self.microbatches, self.batch)
        self.cluster.check(self.distributed)


@dataclass(frozen=True)
class SweepsScalingConfig:
    """Measures passes of sweeps on one process against several, by every schedule, and samples
    shared among the processes instead; predicts what this machine cannot run.
    """

    layers: int = 10
    """Layers of the network that is measured."""

    neurons: int = 500
    """Width of its hidden layers."""

    features: int = 196
    """Its inputs."""

    samples: int = 6400
    """Training samples."""

    batch: int = 128
    """Samples between two updates of the weights."""

    microbatches: int | None = None
    """Blocks that a batch is split into; by default as many as there are boundaries between stages
    for streaming, twice as many for the others, but one for one batch late on two stages."""

    processes: int = 2
    """Processes to compare with one, each pinned to a core of its own."""

    runs: int = 3
    """Times that each is started."""

    predicted_batch: int = 4096
    """Samples between two updates in the predictions."""

    predict_only: bool = False
    """Measure nothing: the named hardware's predictions alone."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    @property
    def widths(self) -> tuple[int, ...]:
        """(features, neurons, ..., classes)."""
        return (self.features, *[self.neurons] * (self.layers - 1), 10)

    def check(self) -> None:
        """Raises ValueError for numbers that leave nothing to compare."""
        check_counts(self, least={"layers": 2, "processes": 2})
        check_microbatches(self.microbatches, self.batch)


@dataclass(frozen=True)
class ScalingConfig:
    """Measures one process against several, and predicts what this machine cannot run.

    The predictions rest on a model of compute, bytes and latency per stage, whose rates are
    measured here or named hardware's.
    """

    layers: int = 20
    """Layers of the network that is measured."""

    neurons: int = 1500
    """Width of its hidden layers."""

    samples: int = 1000
    """Samples it is measured on."""

    processes: int = 2
    """Processes to compare with one, each pinned to a core of its own."""

    runs: int = 3
    """Times that each of the two is started."""

    more_neurons: tuple[int, ...] = (1800, 2100, 2400)
    """Further widths that are measured, once each."""

    more_layers: tuple[int, ...] = (5, 10, 40)
    """Further depths that are measured, once each."""

    predict_only: bool = False
    """Measure nothing: the named hardware's predictions alone."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for numbers that leave nothing to compare."""
        check_counts(self, least={"layers": 2, "processes": 2})
        for name, values, least in (
            ("more-neurons", self.more_neurons, 1),
            ("more-layers", self.more_layers, 2),
        ):
            for value in values:
                check_count(name, value, least, MOST_OF["layers"])
