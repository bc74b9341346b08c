"""Options of ``compare`` and ``performance``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from experiments.data.catalogue import Name
from experiments.data.config import DataConfig
from experiments.options.checks import check_chosen, check_counts
from experiments.options.network import InitializerName, NetworkConfig

MethodName = Literal[
    "pdadmm_exact",
    "pdadmm",
    "pdadmm_search",
    "sweeps",
    "sweeps_batches",
    "dladmm",
    "gd",
    "adadelta",
    "adagrad",
    "adam",
    "sgd_batches",
    "adam_batches",
]
ALL: tuple[MethodName, ...] = get_args(MethodName)
SIX: tuple[Name, ...] = (
    "mnist",
    "fashion_mnist",
    "kmnist",
    "svhn_cropped",
    "cifar10",
    "cifar100",
)  # data sets of the paper


@dataclass(frozen=True)
class CompareConfig:
    """Trains one network by all methods, each with its best number, and draws them together.

    Every method has one number, a learning rate or a penalty, chosen among five or more on held-out
    training samples; then it trains on all training samples and is scored on the test samples.
    Finished trials are saved: the same command resumes where it was interrupted, and one with more
    methods or seeds uses what is there.
    """

    data: DataConfig = field(default_factory=partial(DataConfig, validation=0.2))
    network: NetworkConfig = field(default_factory=NetworkConfig)

    methods: tuple[MethodName, ...] = ALL
    """Methods to compare."""

    passes: int = 200
    """Passes over the training samples: iterations of ADMM, full-batch steps, or epochs."""

    evaluate_every: int = 10
    """Passes between two evaluations."""

    seeds: int = 3
    """Results from so many first weights."""

    tuning_seeds: int = 1
    """Tuning from so many other first weights, with every candidate."""

    tuning_limit: int | None = None
    """Tune on at most that many training samples, to save time."""

    tune: bool = True
    """Choose every method's number on held-out samples; else the paper's, or the middle one."""

    first_layers: int | None = None
    """Layers with which pdADMM begins, to be grown to all of them half-way, as in the paper.  With
    exact W it begins with two, has these half-way, and all after 0.6 of the passes."""

    out: Path = Path("runs")
    """Directory in which the study has its own."""

    def check(self) -> None:
        """Raises ValueError for settings that leave nothing to compare."""
        check_counts(self, least={})
        self.data.check()
        check_chosen("methods", self.methods)
        self.network.check()
        layers = len(self.network.hidden) + 1
        if self.first_layers is not None and not 2 <= self.first_layers < layers:
            fewer = f"give a number from 2 to {layers - 1}, or " if layers > 2 else ""
            raise ValueError(
                f"first-layers is {self.first_layers}, but the network has {layers} layers: "
                f"{fewer}leave it out."
            )
        if self.first_layers is not None and self.network.activation != "relu":
            raise ValueError(
                f"network.activation is {self.network.activation}, but growth is for relu: leave "
                "first-layers out."
            )
        if self.tune and not self.data.validation:
            raise ValueError(
                "data.validation is 0, but tuning needs held-out samples: give a share "
                "above 0, or --no-tune."
            )


@dataclass(frozen=True)
class PerformanceConfig:
    """Compares all methods on the paper's data sets, by its protocol, and sets its results beside.

    Ten layers, of which pdADMM begins with five; 100 passes over inputs at half the resolution.  A
    data set that is not at hand is left out, and named.  The study of each is that of the compare
    command with the same settings, and resumes where it was interrupted.
    """

    sets: tuple[Name, ...] = SIX
    """Data sets; the paper's six by default, none by --sets alone."""

    files: tuple[Path, ...] = ()
    """Further ones, each an npz file as data.file of the train command takes it."""

    archives: Path | None = None
    """Directory with a folder of original archives for each, such as mnist/."""

    prepared: Path | None = None
    """TFDS data directory to read from, and to prepare in."""

    download: bool = True
    """Fetch archives that are found nowhere else."""

    limit: int | None = None
    """Train on this many samples of each only."""

    layers: int = 10
    """Layers of the network."""

    neurons: int = 500
    """Width of its hidden layers."""

    initializer: InitializerName = "he"
    """First weights, the same for all methods that begin with all layers: He's, by which the tables
    of docs/results.md were made, where other commands begin with orthogonal ones."""

    methods: tuple[MethodName, ...] = ALL
    """Methods to compare."""

    passes: int = 100
    """Passes over the training samples."""

    seeds: int = 3
    """Results from so many first weights."""

    tune: bool = True
    """Choose every method's number on held-out samples; else the paper's, or the middle one."""

    tuning_limit: int | None = 10_000
    """Tune on at most that many training samples, to save time."""

    out: Path = Path("runs")
    """Directory in which the studies have theirs."""

    def check(self) -> None:
        """Raises ValueError for settings that leave nothing to compare."""
        check_counts(self, least={"layers": 2})
        if not self.sets and not self.files:
            raise ValueError("sets and files are empty: give at least one of either.")
        if others := [name for name in self.sets if name not in SIX]:
            raise ValueError(
                f"sets has {others[0]}, which the paper does not have: choose among "
                f"{', '.join(SIX)}, or give files."
            )
        studies = self.studies()
        for one in studies:
            one.check()
        titles = [one.data.title for one in studies]
        doubled = {title for title in titles if titles.count(title) > 1}
        if doubled:
            raise ValueError(f"sets and files have {min(doubled)} twice: give each once.")

    def studies(self) -> list[CompareConfig]:
        """The comparison on every data set."""
        published = [
            DataConfig(
                name=name,
                protocol="paper",
                prepared=self.prepared,
                archives=None if self.archives is None else self.archives / name,
                limit=self.limit,
                download=self.download,
            )
            for name in self.sets
        ]
        own = [DataConfig(file=file, protocol="paper", limit=self.limit) for file in self.files]
        return [self._study(data) for data in (*published, *own)]

    def _study(self, data: DataConfig) -> CompareConfig:
        return CompareConfig(
            data=data,
            network=NetworkConfig(
                hidden=(self.neurons,) * (self.layers - 1), initializer=self.initializer
            ),
            methods=self.methods,
            passes=self.passes,
            evaluate_every=max(self.passes // 20, 1),
            seeds=self.seeds,
            tune=self.tune,
            tuning_limit=self.tuning_limit,
            first_layers=self.layers // 2 if self.layers > 3 else None,
            out=self.out,
        )
