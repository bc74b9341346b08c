"""Options of ``graphs``; imports neither JAX nor the library."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from experiments.options.checks import check_chosen, check_counts
from experiments.options.devices import MessageDtype

MethodName = Literal[
    "pdadmm_g",
    "pdadmm_g_q",
    "sweeps",
    "gd",
    "adadelta",
    "adagrad",
    "adam",
    "adam_grown",
]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
DEPTHS = 5  # most from which a network grows: the last part of a run needs passes too


@dataclass(frozen=True)
class GraphsConfig:
    """Classifies the nodes of a graph by several methods, each tuned on the validation nodes.

    Inputs are a node's features and those of its neighbours, H, A H, A^2 H and so on.  Every method
    trains on the labelled nodes alone; its learning rate or penalty and its weight penalty are
    those of the highest mean accuracy on the validation nodes.  The test nodes are scored once,
    with what was chosen, from other first weights.
    """

    data: Path
    """Directory with Planetoid's files or with nodes.csv and edges.csv, or an npz file."""

    name: str = "cora"
    """Which graph, in a directory of Planetoid's: as in ind.NAME.graph."""

    hops: int = 4
    """How far features travel along edges."""

    neurons: int = 100
    """Width of the hidden layers."""

    layers: int = 10
    """Layers of the network."""

    growth: tuple[int, ...] = (2, 5)
    """Depths that Algorithm 1, sweeps and adam_grown have before: all layers are there after 0.5 of
    the passes if it is one, after 0.6 if they are two, and so on; none by --growth alone."""

    penalties_from: float = 1.0
    """Share of nu and rho that Algorithm 1 begins with: they rise geometrically, from evaluation to
    evaluation, to what is tuned."""

    methods: tuple[MethodName, ...] = METHODS
    """Methods to compare."""

    stages: int = 1
    """Devices on which Algorithm 1 and sweeps train once more with what was chosen, with messages
    of each dtype; virtual ones on a CPU, and 1 for none."""

    message_dtypes: tuple[MessageDtype, ...] = ("full", "int8", "int4")
    """Dtypes of the messages between stages."""

    passes: int = 200
    """Passes over the labelled nodes."""

    evaluate_every: int = 10
    """Passes between two evaluations."""

    seeds: int = 5
    """Results from so many first weights."""

    tuning_seeds: int = 2
    """Tuning from so many other first weights, with every setting."""

    split_seed: int = 0
    """Of the split that is drawn where a graph has none."""

    out: Path = Path("runs")
    """Directory in which the run directory is made."""

    def check(self) -> None:
        """Raises ValueError for settings that leave nothing to compare."""
        check_counts(self, least={"hops": 0, "layers": 2, "passes": 10, "split_seed": 0})
        check_chosen("methods", self.methods)
        check_chosen("message-dtypes", self.message_dtypes)
        if self.stages > self.layers:
            raise ValueError(
                f"stages is {self.stages}, but the network has {self.layers} layers: give "
                f"{self.layers} or less."
            )
        if self.stages > 1 and "pdadmm_g_q" in self.methods and "bfloat16" in self.message_dtypes:
            raise ValueError(
                "message-dtypes has bfloat16, which takes q off the grid of pdadmm_g_q: leave one "
                "of them out."
            )
        if not 0 < self.penalties_from <= 1:
            raise ValueError(
                f"penalties_from is {self.penalties_from}: give a share above 0, up to 1."
            )
        if len(self.growth) > DEPTHS:
            raise ValueError(f"growth has {len(self.growth)} depths: give {DEPTHS} or less.")
        depths = (*self.growth, self.layers)
        if depths[0] < 2 or any(one >= other for one, other in pairwise(depths)):
            raise ValueError(
                f"growth is {' '.join(map(str, self.growth))} and layers {self.layers}: give "
                "ascending depths from 2 up, below layers, or --growth alone for none."
            )
