"""How sweeps go: numbers that may be swept and structure that is compiled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pdadmm_jax import _checks
from pdadmm_jax._checks import check_count, check_flag, check_widths, checked_number, look_up
from pdadmm_jax._pytree import pytree_dataclass
from pdadmm_jax._typing import Number
from pdadmm_jax.numerics.products import Precision
from pdadmm_jax.problems.problem import ActivationLike, LossLike, resolve_problem
from pdadmm_jax.problems.sample_weights import is_squared_error
from pdadmm_jax.sweeps.rules import Adam, Lion, Prodigy, Proximal, Rule, resolve_rule
from pdadmm_jax.sweeps.stream import EMPTIED, SCHEDULES

RuleLike = Any  # a Rule, the name of one, or an Optax optimizer


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Config:
    """How sweeps go; numbers are pytree leaves, the rest is structure.

    Attributes:
        nu: penalty on z = p W + b and on q = f(z).  The stiffer, the nearer nu (z - a) is to the
            negative gradient; at 100 they can hardly be told apart.  With ``Proximal`` 1/nu is
            also the length of the steps.
        rule: how W and b follow: "proximal", "prodigy", "adam", "lion", a Rule, or any complete
            Optax optimizer, such as ``optax.adamw(1e-3)``, whose updates are added as Optax adds
            them.
        mu: weight of (mu/2) ||W||^2 beside the mean risk, which every rule then follows; None for
            none.  With ``Prodigy``, ``Adam`` and ``Lion`` that is not the decoupled weight decay,
            which ``optax.adamw`` and ``optax.lion`` have.
        bias: whether b moves; False for layers without one, whose b stays 0.
        batch: samples between two updates of the weights; None for all of them.
        block: samples that pass through a layer at a time, of the batch or less.  Memory grows
            with it, not with the number of samples.
        schedule: what stages do while a batch is in others; on one stage nothing differs.

            "synchronous": all of a batch meets the same weights, which move when it has come down
            everywhere; then the next one enters.  With M blocks a batch stages are idle for
            2 (S - 1) of 3 M + 2 (S - 1) parts of the time.
            "zero_bubble": the same weights, and p^T r of the first S - 1 blocks while the last ones
            are in other stages: idle for S - 1 of 3 M + S - 1 parts.  Each product adds to sums as
            large as the weights, which pays where blocks have more rows than about half a width.
            "one_batch_late": the next batch enters at once, and no stage is ever idle.  The batch
            met the weights before the last update, on the way up and down, in all layers and
            whatever the number of stages.
            "streaming": the next batch enters at once, and no stage is ever idle.  Once per batch,
            after the pipeline step in which one has come down to the lowest stage, each stage moves
            its weights by the newest batch that has come down to it.  A block meets the weights
            that there are, on its way up and on its way down.  So the lowest stage is
            2 (S - 1) / M batches late, rounded up, or 2 S / M where the last layer is beside the
            first; no stage above is later.
        microbatches: M, the blocks that a batch is split into; None for 2 (S - 1), for S - 1 in
            "streaming", by which no weights are more than two batches late, and for 1 with
            "one_batch_late" on two stages.  "zero_bubble" takes 2 (S - 1) or more,
            "one_batch_late" 2 (S - 1) - 1 or more.
        activation: f of all hidden layers, by name or an Activation; see ``admm.Config``.
        loss: the risk R, by name or a Loss.
        precision: of the inputs of matrix products, but for Gram matrices; see
            ``numerics.products``.
        residual_block: K, hidden layers of a residual block, from the second hidden layer on: at
            the end of a block q = f(z) + p of the block's first layer.  The last block may be
            shorter; 0 for a plain chain.

    Raises:
        ValueError: a number of the wrong sign or not finite, or an unknown name.
    """

    nu: Number = 100.0
    rule: RuleLike = dataclasses.field(default_factory=Proximal)
    mu: Number | None = None
    bias: bool = dataclasses.field(default=True, metadata={"static": True})
    batch: int | None = dataclasses.field(default=None, metadata={"static": True})
    block: int = dataclasses.field(default=1024, metadata={"static": True})
    schedule: str = dataclasses.field(default="synchronous", metadata={"static": True})
    microbatches: int | None = dataclasses.field(default=None, metadata={"static": True})
    activation: ActivationLike = dataclasses.field(default="relu", metadata={"static": True})
    loss: LossLike = dataclasses.field(default="softmax_cross_entropy", metadata={"static": True})
    precision: Precision = dataclasses.field(default="float32", metadata={"static": True})
    residual_block: int = dataclasses.field(default=0, metadata={"static": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "nu", checked_number("nu", self.nu, above=0.0))
        if self.mu is not None:
            object.__setattr__(self, "mu", checked_number("mu", self.mu, above=0.0, allowed=True))
        resolve_problem(self)
        check_flag("bias", self.bias)
        resolve_rule(self)
        look_up("schedule", self.schedule, dict.fromkeys(SCHEDULES))
        for name in ("batch", "block", "microbatches"):
            count = getattr(self, name)
            if count is not None or name == "block":
                check_count(name, count)
        if self.batch is not None and (self.microbatches or 0) > self.batch:
            raise ValueError(
                f"microbatches is {self.microbatches}, but a batch has {self.batch} samples: give "
                "as many or fewer, or None to have it chosen."
            )
        if self.schedule != "synchronous" and self.batch is None:
            raise ValueError(
                f"schedule is {self.schedule!r}, which keeps batches whole, but batch is None, all "
                "samples: give batch a number."
            )

    def replace(self, **changes: Any) -> Config:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def check_config(config: Any) -> None:
    """Refuses what is not a configuration of sweeps."""
    _checks.check_config(config, Config, "sweeps")


CLIPPING = 0.12  # of all layers together: an update changes what the network does by about a tenth
LARGEST_CLIPPING = 0.48  # where steps fall over few updates
LEAST_TOTAL_CLIPPING = 6.0  # over all updates, where they fall
# Of the squared error over all samples where steps fall, by layers.
REGRESSION_NU = {2: 0.3, 3: 3.0}
REGRESSION_F = {2: 0.25, 3: 0.5}  # the least F statistic, with more layers 1
LARGEST_RATE = 3e-3  # of Adam, where layers are few and narrow
LARGEST_FALLING_RATE = 1e-2  # the same where the rate falls to 0
FEWEST_UPDATES = 100  # from which on rates that are estimated lose nothing by their beginning


def recommended(
    widths: Sequence[int],
    batch: int | None = None,
    stages: int = 1,
    *,
    updates: int | None = None,
    **changes: Any,
) -> Config:
    """The settings that learn best, by shape, batch and number of stages; nothing has to be tuned.

    | batch | stages | schedule | rule |
    |---|---|---|---|
    | None | any | synchronous | ``Proximal(clipping=0.12 / layers)`` at nu = 30, or 2 x layers |
    | a number | 1 | synchronous | ``Prodigy`` at nu = 100; ``Adam`` without 100 ``updates`` |
    | a number | several | streaming | ``Lion`` at nu = 100 |

    Of 30 and twice the layers nu is the larger one.  Where steps fall to 0 it is 10, for the
    squared error 0.3 with two layers and 3 with three; clipping is then 6 / updates / layers where
    that is more, at most 0.48 / layers.  By the squared error a layer then rests while what it
    would follow is like noise (``least_f`` = 1, 0.25 with two layers and 0.5 with three).  The rate
    of Adam is 1 over the sum of the hidden widths, at most 0.003; where it falls twice that sum's
    inverse, at most 0.01.  Prodigy's estimates start from a tenth of it.  Lion's rate is a tenth of
    Adam's, a fifth where it falls.

    * A stiff nu, by which every layer's direction is that of the risk itself.
    * Over all samples, W by its own subproblem solved exactly near the old weights: along the
      inverse of its inputs' Gram matrix, the steps of all directions are about equally long, where
      the gradient's differ by the condition of that matrix.  All layers move at once: the more
      there are, the less each may change, and the stiffer nu, whose inverse is the steps' length.
    * Over small batches, where a Gram matrix would cost more than all the rest, Adam's rule on the
      same directions, every layer by a rate that it estimates from them.  Where there are too few
      updates for that, by one for all: each update moves all weights by about the rate, and all
      of a layer's inputs and all layers together change what the network does.
    * On several stages, none of which is to wait, weights that are at most two batches late, and
      Lion's rule, which does not mind.

    Args:
        widths: (features, hidden, ..., outputs).
        batch: samples between two updates of the weights; None for all.
        stages: over which the layers are laid out.
        updates: how many updates there will be, if that is known: the rate, or over all samples
            the length of the steps, then falls to 0 along half a cosine, which ends more
            accurately.
        **changes: fields of ``Config`` to set otherwise; of another schedule the rule is that for
            weights that are late or not, and a rule given by its name has the numbers above.

    Raises:
        ValueError: widths that make no network, numbers of stages or updates that are none, or
            fields out of range.
    """
    widths = check_widths(widths)
    if updates is not None:
        check_count("updates", updates)
    waits = check_count("stages", stages) == 1 or batch is None
    schedule = changes.get("schedule", "synchronous" if waits else "streaming")
    layers = len(widths) - 1
    regression = batch is None and updates is not None and is_squared_error(changes.get("loss"))
    most, share = (LARGEST_RATE, 1) if updates is None else (LARGEST_FALLING_RATE, 2)
    rate = min(most, share / sum(widths[1:-1]))
    rules: dict[str, Rule] = {
        "proximal": Proximal(
            clipping=_clipping(updates) / layers,
            updates=updates,
            least_f=REGRESSION_F.get(layers, 1.0) if regression else None,
        ),
        "adam": Adam(rate, updates),
        "prodigy": Prodigy(updates=updates, start=rate / 10),
        "lion": Lion(rate / (10 if updates is None else 5), updates),
    }
    estimated = updates is not None and updates >= FEWEST_UPDATES
    nu, rule = 100.0, "prodigy" if estimated else "adam"
    if schedule not in EMPTIED:
        rule = "lion"
    if batch is None:
        nu, rule = max(30.0, 2.0 * layers) if updates is None else 10.0, "proximal"
        if regression:
            nu = REGRESSION_NU.get(layers, nu)
    settings = {"batch": batch, "schedule": schedule, "nu": nu, "rule": rule} | changes
    if isinstance(settings["rule"], str):
        settings["rule"] = rules.get(settings["rule"], settings["rule"])
    return Config(**settings)


def _clipping(updates: int | None) -> float:
    """The longest update of all layers together, as a share of their weights."""
    if updates is None:
        return CLIPPING
    return min(max(LEAST_TOTAL_CLIPPING / updates, CLIPPING), LARGEST_CLIPPING)
