"""What an iteration reports, and how the metrics of all stages become one report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Bool, Float
from pdadmm_jax.admm.config import Config
from pdadmm_jax.admm.lagrangian import (
    BoundarySums,
    Terms,
    Value,
    boundary_terms,
    layer_terms,
    norm,
)
from pdadmm_jax.admm.state import StageVariables
from pdadmm_jax.admm.theory import certificate
from pdadmm_jax.parallel.stage import Stage, per_layer, scatter_by_layer, sum_over_devices
from pdadmm_jax.problems.data import Data


class Info(NamedTuple):
    """What an iteration reports; nothing in it feeds back into the next.

    ``run`` returns the same with a leading axis over iterations.

    Attributes:
        loss: mean risk of the samples at z_L, the output layer's variable; ``pdadmm_jax.loss``
            gives that of the forward pass.
        converged: False for a layer whose z-update hit its iteration limit.
        finite: False once any variable or the Lagrangian is NaN or infinite; ``nonfinite`` says
            which.
        terms: of the augmented Lagrangian after the iteration; ``lagrangian`` adds them up.
        primal_residual: ||p_{l+1} - q_l||_F of every boundary.
        tau: largest step-size ratio of every layer's p-update, 0 for the first layer.
        theta: largest step-size ratio of every layer's W-update.
        in_certified_region: whether (nu, rho, S) lies where Lemma 1 certifies descent.  After a
            change of nu the duals need one iteration before it does.
    """

    loss: Float[Array, "*history"]
    converged: Bool[Array, "*history layers"]
    finite: Bool[Array, "*history"]
    terms: Terms
    primal_residual: Float[Array, "*history boundaries"]
    tau: Float[Array, "*history layers"]
    theta: Float[Array, "*history layers"]
    in_certified_region: Bool[Array, "*history"]

    @property
    def lagrangian(self) -> Value:
        """L_rho after the iteration."""
        return self.terms.lagrangian


class Effort(NamedTuple):
    """What the solves of n stacked layers report."""

    tau: Float[Array, " n"]
    theta: Float[Array, " n"]
    converged: Bool[Array, " n"]
    residual: Float[Array, " n"]  # ||z - a||^2 of the samples at hand


class SolveMetrics(NamedTuple):
    """A stage's metrics of lines 1-4: its layers' and its samples' part of the report.

    Numbers of layers that other stages hold are zero.
    """

    terms: Terms
    tau: Float[Array, "*history layers"]
    theta: Float[Array, "*history layers"]
    unconverged: Float[Array, "*history layers"]
    nonfinite: Float[Array, "*history"]  # groups with an intercept that is not finite


class BoundaryMetrics(NamedTuple):
    """The same of lines 5-6."""

    terms: Terms
    squared_residual: Float[Array, "*history boundaries"]


class Metrics(NamedTuple):
    """A stage's metrics of one iteration."""

    solves: SolveMetrics
    boundaries: BoundaryMetrics


def solve_metrics(
    stage: Stage,
    variables: StageVariables,
    efforts: Sequence[Effort],
    data: Data,
    config: Config,
) -> SolveMetrics:
    """Metrics of the solves, which had efforts for the edge slot, the stacks and the last layer."""
    *lower, last = efforts
    lower = jax.tree.map(lambda *groups: jnp.concatenate(groups), *lower)
    dtype = last.tau.dtype

    def by_layer(lower: Array, last: Array) -> Array:
        return per_layer(stage, lower.astype(dtype), last.astype(dtype))

    # The intercepts act through the carried a alone, which is none of the terms' business.
    first, stacks, edge, last_weights = variables.weights
    groups = [first, *stacks, *([] if edge is None else [edge]), last_weights]
    residuals = [effort.residual for effort in efforts]
    return SolveMetrics(
        terms=layer_terms(stage, variables, residuals, data, config),
        tau=by_layer(lower.tau, last.tau),
        theta=by_layer(lower.theta, last.theta),
        unconverged=by_layer(~lower.converged, ~last.converged),
        nonfinite=jnp.sum(jnp.stack([~jnp.isfinite(b).all() for _, b in groups]), dtype=dtype),
    )


def boundary_metrics(stage: Stage, sums: Sequence[BoundarySums], config: Config) -> BoundaryMetrics:
    """Metrics of the boundaries, of the stacks and of the edge slot."""
    gaps = jnp.concatenate([one.gap for one in sums])
    squares = scatter_by_layer(stage.inputs, gaps, stage.depth)[1:]
    return BoundaryMetrics(boundary_terms(sums, config), squares)


def info_of(stage: Stage, metrics: Metrics, data: Data, config: Config) -> Info:
    """The info that the metrics of all stages make; they may have a leading axis of iterations."""
    solves, boundaries = metrics
    samples = stage.collectives.samples
    terms = jax.tree.map(jnp.add, solves.terms, boundaries.terms)
    by_sample = (terms._replace(weight=()), boundaries.squared_residual, solves.unconverged)
    tau, theta = samples.greatest(jnp.stack([solves.tau, solves.theta]))
    by_stage = (terms.weight, tau, theta, solves.nonfinite)
    by_sample, by_stage = sum_over_devices(stage, by_sample, by_stage)
    terms, squared_residual, unconverged = by_sample
    weight, tau, theta, nonfinite = by_stage
    terms = terms._replace(weight=weight)
    return Info(
        loss=terms.risk / (len(data.x) if samples.number is None else samples.number),
        converged=unconverged == 0,
        finite=jnp.isfinite(terms.lagrangian) & (nonfinite == 0),
        terms=terms,
        primal_residual=norm(squared_residual),
        tau=tau,
        theta=theta,
        in_certified_region=jnp.broadcast_to(certificate(config).holds, nonfinite.shape),
    )
