"""What the commands can be told: frozen dataclasses, whose fields are the command line's options.

The string under a field is its help text.  This module imports neither JAX nor the library, so
that the command line answers at once.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from experiments.data.config import DataConfig

ActivationName = Literal["relu", "leaky_relu", "tanh", "sigmoid", "softplus", "gelu"]
LossName = Literal["softmax_cross_entropy", "squared_error", "binary_logistic", "multiclass_hinge"]
SolverName = Literal["search", "layer", "unit", "exact"]
WireName = Literal["full", "float32", "bfloat16", "int8", "int4"]
PrecisionName = Literal["float32", "tf32", "bfloat16"]
RecipeName = Literal["pdadmm", "sweeps"]
DivergenceAnswer = Literal["warn", "stop", "raise", "return"]
InitializerName = Literal["he", "glorot", "orthogonal", "paper"]

MOST_ITERATIONS = 2**31 - 1  # the state counts them in 32 bits
MOST_BETWEEN_EVALUATIONS = 100_000  # their reports are held in memory until the next one
MOST = 2**31 - 1  # of anything counted
MOST_OF = {  # of what is made one by one before anything else is looked at
    "layers": 10_000,
    "seeds": 1_000_000,
    "tuning_seeds": 1_000_000,
    "processes": 1_000,
    "stages": 1_000,
}
MOST_DEVICES = 4_096  # virtual ones, each with threads of its own
MOST_SEED = 2**32 - 1  # higher ones would begin again at 0


@dataclass(frozen=True)
class NetworkConfig:
    """The network: fully connected, inputs and outputs as the dataset needs."""

    hidden: tuple[int, ...] = (100, 100, 100)
    """Widths of the hidden layers."""

    activation: ActivationName = "relu"
    """Activation of the hidden layers."""

    initializer: InitializerName = "he"
    """Distribution of the first weights; 'paper' is normal with deviation 0.1."""

    def check(self) -> None:
        """Raises ValueError for layers without neurons, or no hidden layer."""
        if not self.hidden:
            raise ValueError("network.hidden is empty: give the width of at least 1 hidden layer.")
        for width in self.hidden:
            if not 1 <= width <= MOST:
                raise ValueError(f"network.hidden has {width}: give widths from 1 to {MOST:,}.")


@dataclass(frozen=True)
class MethodConfig:
    """The ADMM: penalties, and how each layer's problems are solved."""

    nu: float = 0.1
    """Penalty on z = p W + b and q = f(z)."""

    rho: float = 0.5
    """Penalty on p = q between layers; descent is certified above 4 nu (for ReLU)."""

    mu: float = 0.0
    """Weight of the L2 penalty (mu/2) ||W||^2."""

    proximal: float = 1.0
    """Weight of the z-update's proximal term, in units of nu."""

    p_solver: SolverName = "unit"
    """Step of p: the paper's search, its closed form per layer or per sample, or an exact solve."""

    w_solver: SolverName = "unit"
    """Step of W: the paper's search, its closed form per layer or per neuron, or an exact solve."""

    search_start: float = 10.0
    """First step-size ratio that 'search' tries."""

    search_growth: float = 2.0
    """Factor between the ratios that 'search' tries."""

    damping: float = 1e-4
    """Proximal weight of 'exact', relative to the mean curvature."""

    loss: LossName = "softmax_cross_entropy"
    """Risk of the output layer."""

    smoothing: float = 0.0
    """Label smoothing of softmax cross-entropy."""

    precision: PrecisionName = "float32"
    """What the inputs of matrix products are rounded to; all else is float32."""

    certified: bool = False
    """Raise rho as far as the descent of the Lagrangian is certain (Lemma 1 of the paper)."""


@dataclass(frozen=True)
class SweepsConfig:
    """Synchronised sweeps, the recommended recipe: what --recipe sweeps can be told."""

    batch: int | None = None
    """Samples between two updates of the weights, by Adam's rule; without it all of them, and W by
    its own subproblem."""

    nu: float = 100.0
    """Penalty on z = p W + b; the inverse of the steps' length where there are no batches: 100 for
    some five layers, 300 for ten, 1000 for 20 to 50."""

    rate: float = 1e-3
    """Learning rate of Adam's rule."""

    ridge: float = 0.01
    """Weight of W's proximal term, relative to the mean square of its inputs."""

    inertia: float = 0.9
    """Share of W's last step that is made again."""

    block: int = 1024
    """Samples that pass through a layer at a time; memory grows with it, not with their number."""

    pipelined: bool = False
    """Let batches follow each other without waiting: no stage is idle, but weights move late."""

    def check(self) -> None:
        """Raises ValueError for numbers of samples below 1."""
        if self.batch is not None:
            check_count("sweeps.batch", self.batch)
        check_count("sweeps.block", self.block)

    def unused(self) -> list[str]:
        """The options given for the rule that is not used."""
        others = ("rate", "pipelined") if self.batch is None else ("ridge", "inertia")
        return [name for name in _given(self) if name in others]


@dataclass(frozen=True)
class GrowthConfig:
    """Greedy depth: identity layers inserted before the output layer during training."""

    at: tuple[int, ...] = ()
    """Iterations after which the network grows; none by default."""

    layers: int = 5
    """How many layers are inserted each time."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints, from which --resume goes on; interrupts and the end of a run save one too."""

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
    """What to do if the Lagrangian rises instead of falling."""

    factor: float = 10.0
    """How often the lowest Lagrangian so far an iteration's has to be; what lies below a
    thousandth of the first one counts as that."""

    answer: DivergenceAnswer = "warn"
    """Say so and go on; stop; raise rho and go on; or return to the last checkpoint, and raise rho
    from there."""

    raised: float = 2.0
    """Factor by which rho is raised."""

    times: int = 5
    """How often it is raised before the run stops."""

    def check(self) -> None:
        """Raises ValueError for numbers that are no answer."""
        for name in ("factor", "raised"):
            value = getattr(self, name)
            if not 1 < value < float("inf"):
                raise ValueError(f"divergence.{name} is {value}: give a number above 1.")
        if self.times < 0:
            raise ValueError(f"divergence.times is {self.times}: give 0 or more.")


@dataclass(frozen=True)
class MeshConfig:
    """The devices: stages that hold neighbouring layers, each with its share of the samples."""

    layer: int | None = None
    """Stages that the layers are laid out over; without it 1, or, of several processes, all
    devices."""

    data: int = 1
    """Devices that share the samples of each stage."""

    wire: WireName = "full"
    """Type of the messages between stages: the state's own, or one that rounds them."""

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
    """Times iterations on random data."""

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
        self.cluster.check(self.distributed)


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


@dataclass(frozen=True)
class TrainConfig:
    """Trains a network layer by layer, without back-propagation, and writes a run directory.

    Without options: the bundled digits, a network of 4 layers, some seconds on a laptop.
    A run that ended early goes on with --resume DIRECTORY.
    """

    recipe: RecipeName = "pdadmm"
    """The paper's iterations over all samples, or synchronised sweeps, which learn better."""

    resume: Path | None = None
    """Run directory of a run to go on with, under the options it was begun with; iterations, mesh,
    cluster, checkpoint and divergence can be given anew."""

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
    """How many iterations to run; of sweeps, passes over the samples."""

    evaluate_every: int = 10
    """Iterations between two evaluations of loss and accuracy."""

    refresh_every: int = 100
    """Iterations after which the next evaluation computes all p W + b anew, against rounding."""

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
        self._check_recipe()
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

    def _check_recipe(self) -> None:
        """Refuses options that the recipe would not look at."""
        if self.recipe == "pdadmm":
            if other := _given(self.sweeps):
                raise ValueError(
                    f"sweeps.{other[0]} is {getattr(self.sweeps, other[0])}, but the recipe is "
                    "pdadmm: add --recipe sweeps, or leave it out."
                )
            return
        own = {"loss", "smoothing", "precision"}
        unused = [f"method.{name}" for name in _given(self.method) if name not in own]
        unused += [f"growth.{name}" for name in _given(self.growth)]
        unused += [f"sweeps.{name}" for name in self.sweeps.unused()]
        if unused:
            raise ValueError(
                f"{unused[0]} is given, but sweeps over "
                f"{'batches' if self.sweeps.batch else 'all samples'} have no use for it: leave it "
                "out."
            )


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
                "compare, or say where they were told to write."
            )


def _given(config: Any) -> list[str]:
    """The options that are not what they are by default."""
    return [f.name for f in fields(config) if getattr(config, f.name) != f.default]


def check_counts(config: object, least: dict[str, int]) -> None:
    """Refuses whole numbers below 1, or below what their names need, and those that never end."""
    for name, value in vars(config).items():
        if type(value) is int:
            most = MOST_OF.get(name, MOST)
            check_count(name.replace("_", "-"), value, least.get(name, 1), most)


def check_count(option: str, value: int, least: int = 1, most: int = MOST) -> None:
    """Refuses a whole number that is too small or too large."""
    if value < least:
        raise ValueError(f"{option} is {value}: give {least} or more.")
    if value > most:
        raise ValueError(f"{option} is {value}: give {most:,} or less.")


def check_seed(seed: int) -> None:
    """Refuses a seed that first weights cannot be made from."""
    check_count("seed", seed, 0, MOST_SEED)


def state_bytes(widths: Sequence[int], samples: int) -> int:
    """What the variables of all layers take in float32: W, b, z, a, and p, q, u between."""
    pairs = list(itertools.pairwise(widths))
    weights = sum((n_in + 1) * n_out for n_in, n_out in pairs)
    rows = sum(2 * n_out for _, n_out in pairs) + sum(3 * n_in for n_in, _ in pairs[1:])
    return 4 * (weights + samples * rows)
