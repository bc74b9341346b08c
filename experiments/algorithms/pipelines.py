"""Back-propagation on a mesh: data-parallel, and in pipelines of stages as they are published.

A sweep's products are those of back-propagation, and so are its messages.  With the derivative of f
in place of the hidden z-problems, and of the risk in place of the last one, sweeps *are*
back-propagation, to rounding; every schedule of sweeps is then one of pipelined back-propagation.

GPipe (Huang et al., 2019) is written here: all blocks of a batch go up before the first comes down.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import pdadmm_jax as pdadmm
from pdadmm_jax import sweeps
from pdadmm_jax._typing import Array, Float, Number
from pdadmm_jax.parallel.forward import affine, climb
from pdadmm_jax.parallel.groups import LayerGroups, Weights, map_groups, only
from pdadmm_jax.parallel.mesh import P, on_stages, settled, shards, weight_specs
from pdadmm_jax.parallel.stage import Stage, choose, where
from pdadmm_jax.problems.activations import Activation
from pdadmm_jax.problems.losses import Loss
from pdadmm_jax.problems.residual import arrays
from pdadmm_jax.sweeps.rules import LayerStatistics
from pdadmm_jax.sweeps.samples import Batches, Block, batches_of, shuffled
from pdadmm_jax.sweeps.stream import microbatches
from pdadmm_jax.sweeps.weight_update import apply_rule_to_all

NU = 2.0**-20  # of no effect, but for z - a, which it keeps from being rounded by a


@dataclasses.dataclass(frozen=True)
class Differentiated:
    """An activation of which sweeps take the derivative.

    Attributes:
        activation: f.
    """

    activation: Activation

    @property
    def lipschitz(self) -> float:
        return self.activation.lipschitz

    @property
    def idempotent(self) -> bool:
        return self.activation.idempotent

    def __call__(self, z: Array) -> Array:
        return self.activation(z)

    def prox(self, q: Array, centre: Array, stiffness: Number, start: Array) -> tuple[Array, Array]:
        return self.activation.prox(q, centre, stiffness, start)

    def respond(self, a: Array, pull: Array) -> tuple[Array, Array]:
        """pull f'(a), to which the minimiser comes for small pulls."""
        _, change = jax.jvp(self.activation, (a,), (pull,))
        return change, jnp.asarray(True)


@dataclasses.dataclass(frozen=True)
class DifferentiatedLoss:
    """A loss of which sweeps take the gradient.

    Attributes:
        loss: R.
    """

    loss: Loss

    def check(self, y: Array, outputs: int) -> None:
        self.loss.check(y, outputs)

    def value(self, z: Array, y: Array) -> Array:
        return self.loss.value(z, y)

    def prox(self, a: Array, y: Array, nu: Number, start: Array) -> tuple[Array, Array]:
        """a - R'(a) / nu, to which the minimiser comes for large nu."""
        del start
        gradient = jax.grad(lambda a: jnp.sum(self.loss.value(a, y)))(a)
        return a - gradient / nu, jnp.asarray(True)

    def predict(self, z: Array) -> Array:
        return self.loss.predict(z)

    def correct(self, z: Array, y: Array) -> Array:
        return self.loss.correct(z, y)


def differentiated(config: sweeps.Config) -> sweeps.Config:
    """The configuration with which sweeps do what back-propagation does.

    Args:
        config: of sweeps, whose schedule is kept: "synchronous" is then 1F1B (Narayanan et al.,
            2019) but for p^T r, which takes all blocks at once where ``batch`` is at most
            ``block``; "zero_bubble" is ZB-H1 (Qi et al., 2023); "one_batch_late" is PipeDream-2BW
            (Narayanan et al., 2021).
    """
    return config.replace(
        nu=NU,
        activation=Differentiated(config.activation),
        loss=DifferentiatedLoss(config.loss),
    )


class Info(NamedTuple):
    """What a pass reports, as that of sweeps.

    Attributes:
        loss: mean risk of every batch.
        finite: whether all of them are.
    """

    loss: Float[Array, " updates"]
    finite: Array


def gpipe_step(
    state: sweeps.State, data: pdadmm.Data, config: sweeps.Config, key: Array | None = None
) -> tuple[sweeps.State, Info]:
    """One pass by GPipe: ``jax.grad`` of a batch's way up, which is its way down.

    Args:
        state: of sweeps with the same configuration, on a mesh of two stages or more.
        data: training samples, on the mesh.
        config: batch, microbatches (by default 2 (S - 1)), rule and problem.
        key: shuffles the samples.

    Raises:
        ValueError: hidden layers of different widths.
    """
    if not state.plan.alike:
        raise ValueError(
            f"GPipe here needs stages that are alike, but the hidden widths are "
            f"{', '.join(map(str, state.plan.widths[1:-1]))}: take another pipeline."
        )
    return _gpipe_step(settled(state, state.placement), data, config, key)


@jax.jit
def _gpipe_step(
    state: sweeps.State, data: pdadmm.Data, config: sweeps.Config, key: Array | None
) -> tuple[sweeps.State, Info]:
    assert state.placement is not None
    mesh = state.placement.mesh
    blocks = microbatches(config, state.plan.reach)
    rows = batches_of(data.x.shape[0], config.batch, 0, shards(mesh), blocks)
    held = state.weights, state.rule_state
    own = weight_specs(mesh, held)
    function = partial(_stage_pass, rows)
    on_all = on_stages(function, state.plan, state.placement, (own, P()), (own, P()))
    (weights, rule_state), loss = on_all((held, key), data, config)
    state = state._replace(weights=weights, rule_state=rule_state, iteration=state.iteration + 1)
    return state, Info(loss, jnp.isfinite(loss).all())


def _stage_pass(
    numbers: Any, stage: Stage, given: Any, data: pdadmm.Data, config: sweeps.Config
) -> tuple[Any, Array]:
    """One stage's part of a pass."""
    held, key = given
    batches = shuffled(data, numbers, key)

    def one_batch(held: Any, rows: Array) -> tuple[Any, Array]:
        weights, rule_state = held
        # Declared to vary, their gradient is that of the samples at hand.
        own = stage.collectives.vary(weights)
        risk, gradient = jax.value_and_grad(_risk_here)(own, stage, batches, rows, config)
        total = stage.collectives.samples.total
        number = total(batches.number(rows))
        batch = map_groups(lambda of_group: lambda: _statistics(of_group), gradient)
        active = True if batches.complete else number > 0
        held = apply_rule_to_all(stage, weights, rule_state, batch, number, active, config)
        return held, total(risk) / number

    held, risks = lax.scan(one_batch, held, batches.rows)
    return held, stage.collectives.sum_over_stages(risks)


def _risk_here(
    weights: LayerGroups, stage: Stage, batches: Batches, rows: Array, config: sweeps.Config
) -> Array:
    """The sum of the risks of a batch where the last layer is, 0 elsewhere."""
    blocks = len(rows)
    entering = jnp.concatenate([rows, jnp.full((stage.reach, rows.shape[1]), -1, rows.dtype)])

    def one_step(up: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
        t, entering = given
        below = stage.collectives.shift_up(up)
        turning = t - stage.reach
        turns = stage.holds_last & (turning >= 0)
        zero = jnp.zeros((rows.shape[1], batches.data.x.shape[1]), up.dtype)
        x = where(stage, stage.holds_first, lambda _: batches.inputs(entering), zero)
        found = climb(
            stage, weights, below, x, config.activation, config.precision, config.residual_block
        )
        p_last = choose(stage.last_on_stack, found.up, below)[0]

        def risk(_: Array) -> Array:
            own = rows[jnp.maximum(turning, 0)]
            block = Block(x, batches.data.y[own], batches.valid(own))
            a = affine(p_last, only(weights.last), config.precision)
            return jnp.sum(block.keep(config.loss.value(a, block.y)))

        return found.up, where(stage, turns, risk, jnp.zeros((), up.dtype))

    W = weights.first.W
    up = jnp.zeros((arrays(config.residual_block), rows.shape[1], W.shape[-1]), W.dtype)
    steps = jnp.arange(blocks + stage.reach), entering
    return jnp.sum(lax.scan(one_step, stage.collectives.vary(up), steps)[1])


def _statistics(gradient: Weights) -> LayerStatistics:
    """What a rule takes for the directions of a group of layers."""
    none = jnp.zeros(gradient.W.shape[:2], gradient.W.dtype)
    return LayerStatistics(-gradient.W, -gradient.b, none, None)
