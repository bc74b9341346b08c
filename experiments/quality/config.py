"""What the study of learning quality can be told; read by the command line before JAX is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from experiments.data.config import DataConfig
from experiments.options.checks import check_counts
from experiments.options.network import NetworkConfig
from experiments.study.options import MethodName

VariantName = Literal[
    "plain",
    "rho",
    "no_proximal",
    "orthogonal",
    "grown",
    "W_first",
    "z_first",
    "stiff_p",
    "penalties_grow",
    "penalties_shrink",
    "penalties_by_layer",
    "balanced",
    "over_relaxed",
    "over_relaxed_duals",
    "inertia_W",
    "inertia",
    "anderson",
    "sweeps_between",
    "far_W",
    "local_adam",
    "synchronised",
    "synchronised_kept",
    "reset_far_W",
    "kept_far_W",
    "kept_adam",
    "pipelined_adam",
    "pipelined_far_W",
    "pipelined_by_delay",
    "pipelined_against",
    "pipelined_pauses",
    "then_adam",
]


@dataclass(frozen=True)
class QualityConfig:
    """Trains variants of pdADMM, one idea each, beside Adam, and looks at what their layers see.

    Every variant has nu and at most three numbers more, chosen one after the other on held-out
    samples; it is scored on the same samples, from other first weights.  Test samples are never
    looked at.  What is finished is kept: the same command goes on where it was interrupted, also
    with other names.
    """

    data: DataConfig = field(default_factory=partial(DataConfig, validation=0.2))
    network: NetworkConfig = field(default_factory=partial(NetworkConfig, hidden=(50,) * 7))

    only: tuple[VariantName, ...] | None = None
    """Variants to train; all of them by default."""

    methods: tuple[MethodName, ...] = ("sweeps", "sweeps_batches", "adam", "adam_batches")
    """Methods of the compare command to set beside them."""

    iterations: int = 100
    """Iterations of each; passes over the samples of the methods beside them."""

    evaluate_every: int = 10
    """Iterations between two evaluations."""

    seeds: int = 3
    """Results from so many first weights, of none of which a number was chosen."""

    out: Path = Path("runs")
    """Directory in which the study has its own."""

    def check(self) -> None:
        """Raises ValueError for settings that leave nothing to study."""
        check_counts(self, least={"iterations": 2})
        self.data.check()
        self.network.check()
        if len(set(self.network.hidden)) > 1 or len(self.network.hidden) < 2:
            raise ValueError(
                f"network.hidden is {self.network.hidden}: give at least two equal widths, for "
                "layers to grow."
            )
        if self.network.activation != "relu":
            raise ValueError(
                f"network.activation is {self.network.activation}, but growth and the pipeline are "
                "for relu: leave it out."
            )
        if not self.data.validation:
            raise ValueError("data.validation is 0: give a share above 0, to choose and score on.")
        for option, names in (("only", self.only or ("",)), ("methods", self.methods or ("",))):
            doubled = {name for name in names if names.count(name) > 1}
            if doubled:
                raise ValueError(f"{option} has {min(doubled)} twice: give each once.")
