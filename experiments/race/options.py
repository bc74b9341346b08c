"""Options of ``race``; imports neither JAX nor the library."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from experiments.data.config import DataConfig
from experiments.options.checks import (
    check_chosen,
    check_count,
    check_counts,
    check_microbatches,
    check_seed,
)
from experiments.options.devices import ClusterConfig

MethodName = Literal[
    "adam",
    "sweeps",
    "admm",
    "data_parallel",
    "gpipe",
    "1f1b",
    "zb_h1",
    "pipedream_2bw",
    "sweeps_synchronous",
    "sweeps_zero_bubble",
    "sweeps_one_batch_late",
    "sweeps_streaming",
    "admm_on_stages",
]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
ON_ONE: tuple[MethodName, ...] = ("adam", "sweeps", "admm")  # process; the others are on several
# Of the schedules that wait, back-propagation's 1F1B and the sweeps' own are raced by default, and
# Algorithm 1 on one process.
ON_REQUEST: tuple[MethodName, ...] = ("gpipe", "zb_h1", "sweeps_zero_bubble", "admm_on_stages")
BY_DEFAULT: tuple[MethodName, ...] = tuple(name for name in METHODS if name not in ON_REQUEST)
RuleName = Literal["adam", "adamw", "lion", "muon"]


@dataclass(frozen=True)
class RaceConfig:
    """Trains one network by every method until it has a given test accuracy, and says how long.

    One process is pinned to one core, several to one each.  Every method has the learning rate by
    which it comes to the accuracy first on held-out training samples.  Compilation and evaluation
    are not counted.
    """

    data: DataConfig = field(default_factory=partial(DataConfig, validation=0.1))

    hidden: tuple[int, ...] = (100, 100, 100)
    """Widths of the hidden layers."""

    batch: int = 128
    """Samples between two updates of the weights; Algorithm 1 takes all at once."""

    microbatches: int | None = None
    """Blocks that a batch is split into; by default as many as there are boundaries between stages
    for streaming, twice as many for the others, but one for one batch late on two stages."""

    accuracy: float = 97.0
    """Test accuracy in percent that ends the race."""

    seconds: float = 0.6
    """Seconds of training after which a method gives up."""

    parts: int = 1
    """Parts that a pass is cut into, after each of which the network is evaluated."""

    rule: RuleName = "adam"
    """What moves the weights: Adam, AdamW with weight decay 0.01, Lion, or Muon."""

    rates: tuple[float, ...] = (0.001, 0.003)
    """Learning rates to choose from."""

    seeds: int = 3
    """Results from so many first weights."""

    seed: int = 0
    """The first of them."""

    processes: int = 2
    """Processes of the methods that take several."""

    methods: tuple[MethodName, ...] = BY_DEFAULT
    """Methods to race; gpipe, zb_h1, sweeps_zero_bubble and admm_on_stages, Algorithm 1 on several
    processes, only if they are named here."""

    predict: bool = True
    """Predict the race on 4 to 64 accelerators too; streaming is trained on virtual devices for
    it."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    courses: bool = False
    """Be the processes that train, and print what happened, for programs."""

    distributed: bool = False
    """Be one of several processes."""

    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def check(self) -> None:
        """Raises ValueError for settings that leave nothing to race."""
        check_counts(self, least={"seed": 0, "processes": 2})
        check_seed(self.seed)
        check_microbatches(self.microbatches, self.batch)
        self.data.check()
        for width in self.hidden:
            check_count("hidden", width)
        if not self.hidden:
            raise ValueError("hidden is empty: give the width of a hidden layer at least.")
        check_chosen("methods", self.methods)
        if not 0 < self.accuracy <= 100:
            raise ValueError(f"accuracy is {self.accuracy}: give a percentage above 0, up to 100.")
        if not self.seconds > 0:
            raise ValueError(f"seconds is {self.seconds}: give a number above 0.")
        if not self.rates or min(self.rates) <= 0:
            raise ValueError(f"rates is {self.rates}: give at least one, all above 0.")
        if len(self.rates) > 1 and not self.data.validation:
            raise ValueError(
                "data.validation is 0, but choosing among rates needs held-out samples: give a "
                "share above 0, or a single rate."
            )
        self.cluster.check(self.distributed)
