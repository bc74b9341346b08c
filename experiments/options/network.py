"""The network and the two algorithms that train it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.options.checks import MOST, changed_options, check_count, check_microbatches

ActivationName = Literal["relu", "leaky_relu", "tanh", "sigmoid", "softplus", "gelu"]
LossName = Literal["softmax_cross_entropy", "squared_error", "binary_logistic", "multiclass_hinge"]
SolverName = Literal["search", "layer", "unit", "exact"]
PrecisionName = Literal["float32", "tf32", "bfloat16"]
InitializerName = Literal["he", "glorot", "orthogonal", "looks_linear", "paper"]
RuleName = Literal["prodigy", "adam", "lion"]
ScheduleName = Literal["synchronous", "zero_bubble", "one_batch_late", "streaming"]


def network_title(widths: Sequence[int], between: str = " - ") -> str:
    """Widths as titles name them; more than five equal ones as "9 x 500"."""
    runs = [(width, len(list(same))) for width, same in itertools.groupby(widths)]
    return between.join(
        f"{number} x {width}" if number > 5 else between.join([str(width)] * number)
        for width, number in runs
    )


@dataclass(frozen=True)
class NetworkConfig:
    """The network: fully connected, inputs and outputs as the dataset needs."""

    hidden: tuple[int, ...] = (100, 100, 100)
    """Widths of the hidden layers."""

    activation: ActivationName = "relu"
    """Activation of the hidden layers."""

    initializer: InitializerName | None = None
    """Distribution of the first weights: orthogonal times the square root of 2, for sweeps by
    default up to 7 layers; looks_linear, their default from 8 on, of regressions over all samples
    at any depth, and half of it that of admm, which keeps deep networks linear until they learn;
    He, Glorot, or 'paper', which is normal with deviation 0.1."""

    residual_block: int = 0
    """Hidden layers of a residual block, from the second hidden layer on: at the end of a block
    q = f(z) + p of the block's first layer.  For sweeps; 0 for a plain chain."""

    def check(self) -> None:
        """Raises ValueError for settings that make no network."""
        if not self.hidden:
            raise ValueError("network.hidden is empty: give the width of at least 1 hidden layer.")
        if self.residual_block < 0:
            raise ValueError(
                f"network.residual_block is {self.residual_block}: give 0 or more layers."
            )
        if self.initializer == "looks_linear" and self.activation in ("tanh", "sigmoid"):
            raise ValueError(
                f"network.initializer is looks_linear, but network.activation is {self.activation}:"
                " choose orthogonal, or relu, leaky_relu, softplus or gelu."
            )
        if self.residual_block and len(set(self.hidden)) > 1:
            raise ValueError(
                f"network.residual_block is {self.residual_block}, but network.hidden is "
                f"{' '.join(map(str, self.hidden))}: residual connections need equal widths."
            )
        for width in self.hidden:
            if not 1 <= width <= MOST:
                raise ValueError(f"network.hidden has {width}: give widths from 1 to {MOST:,}.")


@dataclass(frozen=True)
class MethodConfig:
    """Penalties of ADMM, and how each layer's subproblems are solved; loss, smoothing and precision
    are those of sweeps too.
    """

    nu: float = 0.1
    """Penalty on z = p W + b and q = f(z)."""

    rho: float = 0.1
    """Penalty on p = q between layers, by default nu's; descent is certified above 4 nu (for ReLU
    and a proximal weight of 1)."""

    mu: float = 0.0
    """Weight of the L2 penalty (mu/2) ||W||^2."""

    proximal: float = 0.1
    """Weight of the z-update's proximal term, in units of nu; 1 in the paper."""

    p_solver: SolverName = "unit"
    """Step of p: the paper's search, its closed form per layer or per sample, or an exact solve."""

    w_solver: SolverName = "exact"
    """Step of W: the paper's search, its closed form per layer or per neuron, or an exact solve."""

    search_start: float = 10.0
    """First step-size ratio that 'search' tries."""

    search_growth: float = 2.0
    """Factor between the ratios that 'search' tries."""

    damping: float = 0.3
    """Proximal weight of 'exact', relative to the mean curvature."""

    loss: LossName | None = None
    """Risk of the output layer; by default softmax cross-entropy for classes, squared error where
    targets are numbers."""

    smoothing: float = 0.0
    """Label smoothing of softmax cross-entropy."""

    precision: PrecisionName = "float32"
    """What the inputs of matrix products are rounded to; all else is float32."""

    certified: bool = False
    """Raise rho as far as the descent of the Lagrangian is certain (Lemma 1 of the paper)."""


@dataclass(frozen=True)
class SweepsConfig:
    """Sweeps, the recommended recipe: the options of --algorithm sweeps."""

    batch: int | None = None
    """Samples between two updates of the weights, by --sweeps.rule; by default all of them, and W
    by its own subproblem."""

    nu: float | None = None
    """Penalty on z = p W + b; over all samples the inverse of the steps' length.  By default 10,
    with --sweeps.cosine None 30, or twice the layers if they are more than 15; in batches 100."""

    rule: RuleName | None = None
    """What moves the weights in batches; by default Lion where the schedule lets weights be late.
    Else Prodigy, Adam with a rate that every layer estimates, where no rate is given and it falls
    over 100 updates or more; and else Adam."""

    rate: float | None = None
    """Learning rate of the rule; by default 2 over the sum of the hidden widths for Adam, 0.01 at
    most, and a fifth of that for Lion.  With --sweeps.cosine None it is 1 over that sum, 0.003 at
    most, and a tenth of that.  For Prodigy what its estimates are multiplied by: 1."""

    cosine: int | None = 0
    """After how many passes the rate, or over all samples the length of the steps, has fallen to
    0, along half a cosine; 0 for as many as --iterations says, None for never."""

    ridge: float = 0.01
    """Weight of W's proximal term, relative to the mean square of its inputs."""

    momentum: float = 0.9
    """Share of W's last step that is added to the next."""

    clipping: float | None = None
    """Longest update of W over all samples, as a share of W; by default 0.12 over the number of
    layers; with fewer than 50 passes over which they fall more, up to 0.48."""

    least_f: float | None = None
    """By how many times a layer's inputs have to explain more of its direction than they would of
    noise (the F statistic), over all samples, for it to move; with the squared error and steps that
    fall 1 by default, 0.25 with two layers and 0.5 with three; else 0, for which there is no
    test."""

    mu: float = 0.0
    """Weight of (mu/2) ||W||^2 beside the mean risk."""

    block: int = 1024
    """Samples that a layer works on at a time; memory grows with it, not with their number."""

    schedule: ScheduleName | None = None
    """What stages do while a batch is in others: wait, or make products of the first blocks
    meanwhile (zero_bubble); let the next batch enter, whose samples meet the weights before the
    last update, or (streaming) those that there are.  By default streaming for batches on several
    stages, else synchronous."""

    microbatches: int | None = None
    """Blocks that a batch is split into; by default as many as there are boundaries between stages
    for streaming, by which weights are two batches late at most, and twice as many for the others,
    but one for one_batch_late on two stages."""

    def check(self) -> None:
        """Raises ValueError for numbers of samples, blocks or passes below 1."""
        if self.batch is not None:
            check_count("sweeps.batch", self.batch)
        if self.microbatches is not None:
            check_count("sweeps.microbatches", self.microbatches)
        check_microbatches(self.microbatches, self.batch)
        if self.cosine is not None:
            check_count("sweeps.cosine", self.cosine, 0)
        check_count("sweeps.block", self.block)

    def unused(self) -> list[str]:
        """The options given for the rule that is not used."""
        others = (
            ("rule", "rate", "schedule", "microbatches")
            if self.batch is None
            else ("ridge", "momentum", "clipping", "least_f")
        )
        return [name for name in changed_options(self) if name in others]
