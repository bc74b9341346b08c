"""What an iteration reports, and how the notes of all stages become one report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Bool, Float
from pdadmm_jax.admm.config import Hyperparameters
from pdadmm_jax.admm.lagrangian import (
    BoundarySums,
    Terms,
    Value,
    boundary_terms,
    layer_terms,
)
from pdadmm_jax.admm.state import Data, State
from pdadmm_jax.admm.theory import certificate_of
from pdadmm_jax.parallel.stage import Stage, add_up, by_number, gather


class Info(NamedTuple):
    """What an iteration reports; nothing in it feeds back into the next.

    ``run`` returns the same with a leading axis over iterations.

    Attributes:
        terms: of the augmented Lagrangian after the iteration; ``terms.lagrangian`` adds them up.
        primal_residual: ||p_{l+1} - q_l||_F of every boundary.
        tau: largest step-size ratio of every layer's p-update, 0 for the first layer.
        theta: largest step-size ratio of every layer's W-update.
        converged: False for a layer whose z-update met its bound on iterations.
        finite: False once any variable or the Lagrangian is NaN or infinite; ``nonfinite`` says
            which.
        in_certified_region: whether (nu, rho, S) lies where Lemma 1 certifies descent.  After a
            change of nu the duals need one iteration before it does.
    """

    terms: Terms
    primal_residual: Float[Array, "*history boundaries"]
    tau: Float[Array, "*history layers"]
    theta: Float[Array, "*history layers"]
    converged: Bool[Array, "*history layers"]
    finite: Bool[Array, "*history"]
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


class SolveNotes(NamedTuple):
    """What a stage notes about lines 1-4: its layers' and its samples' part of the report.

    Numbers of layers that other stages hold are zero.
    """

    terms: Terms
    tau: Float[Array, "*history layers"]
    theta: Float[Array, "*history layers"]
    unconverged: Float[Array, "*history layers"]
    broken: Float[Array, "*history"]  # stacks with an intercept that is not finite


class CoupleNotes(NamedTuple):
    """The same about lines 5-6."""

    terms: Terms
    squared_residual: Float[Array, "*history boundaries"]


Notes = tuple[SolveNotes, CoupleNotes]


def solve_notes(
    stage: Stage, state: State, efforts: tuple[Effort, ...], data: Data, hyper: Hyperparameters
) -> SolveNotes:
    """Notes on the solves, which had efforts for the head, the stacks and the output layer."""
    *lower, output = efforts
    lower = jax.tree.map(lambda *stacks: jnp.concatenate(stacks), *lower)
    dtype = output.tau.dtype

    def per_layer(lower: Array, output: Array) -> Array:
        return by_number(stage, lower.astype(dtype), output.astype(dtype))

    # The intercepts act through the carried a alone, which is none of the terms' business.
    intercepts = [stack.b for stack in state.layers] + ([state.link.b] if state.link else [])
    return SolveNotes(
        terms=layer_terms(stage, state, [effort.residual for effort in efforts], data, hyper),
        tau=per_layer(lower.tau, output.tau),
        theta=per_layer(lower.theta, output.theta),
        unconverged=per_layer(~lower.converged, ~output.converged),
        broken=jnp.sum(jnp.stack([~jnp.isfinite(b).all() for b in intercepts]), dtype=dtype),
    )


def couple_notes(stage: Stage, sums: Sequence[BoundarySums], hyper: Hyperparameters) -> CoupleNotes:
    """Notes on the boundaries, of the stacks and of the head."""
    squares = gather(stage.inputs, jnp.concatenate([one.gap for one in sums]), stage.depth)[1:]
    return CoupleNotes(boundary_terms(sums, hyper), squares)


def info_of(stage: Stage, notes: Notes, hyper: Hyperparameters) -> Info:
    """The report that the notes of all stages make; they may have a leading axis of iterations."""
    solves, boundaries = notes
    terms = jax.tree.map(jnp.add, solves.terms, boundaries.terms)
    split = (terms._replace(weight=()), boundaries.squared_residual, solves.unconverged)
    tau, theta = stage.mail.samples.greatest(jnp.stack([solves.tau, solves.theta]))
    shared = (terms.weight, tau, theta, solves.broken)
    split, shared = add_up(stage, split, shared)
    terms, squared_residual, unconverged = split
    weight, tau, theta, broken = shared
    terms = terms._replace(weight=weight)
    return Info(
        terms=terms,
        primal_residual=jnp.sqrt(squared_residual),
        tau=tau,
        theta=theta,
        converged=unconverged == 0,
        finite=jnp.isfinite(terms.lagrangian) & (broken == 0),
        in_certified_region=jnp.broadcast_to(certificate_of(hyper).holds, broken.shape),
    )
