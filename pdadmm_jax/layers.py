"""The lines of Algorithm 1 on n stacked layers, in an order that reads and makes few arrays.

An iteration is matrix products and reading arrays again.  So the samples go through line 1 in
blocks, and while a block is at hand it is added to what lines 2 and 3 need to know of all samples;
the same with line 6 and what the report needs.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Bool, Float
from pdadmm_jax.blocks import in_blocks
from pdadmm_jax.hyperparameters import Hyperparameters
from pdadmm_jax.lagrangian import BoundarySums, boundary_sums
from pdadmm_jax.products import multiply
from pdadmm_jax.samples import Samples
from pdadmm_jax.state import Boundary, Data, Layer
from pdadmm_jax.updates import (
    pull_on_W,
    update_b,
    update_p,
    update_u,
    update_W,
    update_z,
    update_z_output,
)

Ratios = tuple[Float[Array, " n"], Float[Array, " n"]]  # tau and theta


class Sums(NamedTuple):
    """What lines 2 and 3 need to know of the samples at hand, after line 1."""

    pull: Float[Array, "n n_in n_out"]  # p^T (z - a)
    residual: Float[Array, "n n_out"]  # sum of the rows of z - a
    inputs: Float[Array, "n n_in"]  # sum of the rows of p


def move(
    layer: Layer,
    pull: Float[Array, "n N n_in"] | None,
    data: Data,
    hyper: Hyperparameters,
    samples: Samples,
    rows_at_once: int,
) -> tuple[Layer, Ratios]:
    """Lines 1-3.

    Args:
        layer: the variables; ``below`` is None for the first layer, whose input is the data.
        pull: (z - a) W^T, if that is known already.
        data: training data.
        hyper: hyperparameters.
        samples: where the other samples are.
        rows_at_once: how many samples to work on at a time, where that is possible.

    Returns:
        The layers, and the largest step-size ratios of p and of W.
    """
    valid = None if data.valid is None else data.valid[None, :, None]
    if layer.below is None:
        sums = _sums_of_first(layer, data.x[None], valid, hyper, rows_at_once)
        tau = jnp.zeros(1, layer.a.dtype)
    else:
        layer, tau, sums = _move_inputs(layer, pull, valid, hyper, samples, rows_at_once)
    layer, theta = jax.vmap(partial(_move_weights, data=data, hyper=hyper, samples=samples))(
        layer, sums
    )
    return layer, (tau, theta)


def _move_inputs(
    layer: Layer,
    pull: Array | None,
    valid: Array | None,
    hyper: Hyperparameters,
    samples: Samples,
    rows_at_once: int,
) -> tuple[Layer, Array, Sums]:
    """Line 1, and the sums for lines 2 and 3."""
    W, _, z, a, below = layer
    assert below is not None
    update = partial(
        update_p,
        nu=hyper.nu,
        rho=hyper.rho,
        solver=hyper.p_solver,
        precision=hyper.precision,
        samples=samples,
    )

    def move(moved: tuple[Array, Array], fixed: Any) -> tuple[tuple[Array, Array], Array]:
        (p, a), (q, u, z, pull, valid) = moved, fixed
        p, a, ratio = jax.vmap(update)(p, W, a, _pinned(z, a, valid), q, u, pull=pull)
        return (p, a), ratio

    def note(
        notes: tuple[Array, Sums], moved: tuple[Array, Array], fixed: Any, ratio: Array
    ) -> tuple[Array, Sums]:
        (tau, sums), (_, _, z, _, valid) = notes, fixed
        return jnp.maximum(tau, ratio), _add_block(sums, *moved, z, valid, hyper)

    p, q, u = below
    rows = rows_at_once if getattr(hyper.p_solver, "by_unit", False) else None
    notes = jnp.zeros(W.shape[0], a.dtype), _nothing(W)
    fixed = q, u, z, pull, valid
    (p, a), (tau, sums) = in_blocks(move, note, (p, a), fixed, notes, rows)
    return layer._replace(a=a, below=below._replace(p=p)), tau, sums


def _sums_of_first(
    layer: Layer, x: Array, valid: Array | None, hyper: Hyperparameters, rows_at_once: int
) -> Sums:
    """The same sums of the first layer, whose input stays as it is."""

    def stay(moved: tuple[()], _: Any) -> tuple[tuple[()], None]:
        return moved, None

    def note(sums: Sums, _moved: tuple[()], fixed: Any, _found: None) -> Sums:
        z, a, x, valid = fixed
        return _add_block(sums, x, a, z, valid, hyper)

    fixed = layer.z, layer.a, x, valid
    return in_blocks(stay, note, (), fixed, _nothing(layer.W), rows_at_once)[1]


def _nothing(W: Array) -> Sums:
    n, n_in, n_out = W.shape
    return Sums(*(jnp.zeros(shape, W.dtype) for shape in ((n, n_in, n_out), (n, n_out), (n, n_in))))


def _add_block(
    sums: Sums, p: Array, a: Array, z: Array, valid: Array | None, hyper: Hyperparameters
) -> Sums:
    z = _pinned(z, a, valid)
    pull = jax.vmap(partial(pull_on_W, precision=hyper.precision))(p, a, z)
    return jax.tree.map(jnp.add, sums, Sums(pull, jnp.sum(z - a, 1), jnp.sum(p, 1)))


def _pinned(z: Array, a: Array, valid: Bool[Array, "1 N 1"] | None) -> Array:
    """z, but z = a for samples that do not count: with p = 0 they leave no residual in any sum.

    Pinned here and after line 4: compilers may round the z and the a they keep differently.
    """
    return z if valid is None else jnp.where(valid, z, a)


def _move_weights(
    layer: Layer, sums: Sums, data: Data, hyper: Hyperparameters, samples: Samples
) -> tuple[Layer, Array]:
    """Lines 2 and 3 on one layer (no stacking axis)."""
    W, b, z, a, below = layer
    p = data.x if below is None else below.p
    precision, solver = hyper.precision, hyper.W_solver
    new, a, theta = update_W(W, p, a, z, hyper.nu, hyper.mu, solver, precision, samples, sums.pull)
    # The mean of z - a after line 2 follows from the one before it: no array is read for it.
    residual = sums.residual - multiply(sums.inputs, new - W)
    b, a = update_b(b, a, z, samples, samples.mean_of(residual, len(a)))
    return layer._replace(W=new, b=b, a=a), theta


def settle(
    layer: Layer, q_above: Float[Array, "n N n_out"] | None, data: Data, hyper: Hyperparameters
) -> tuple[Layer, Bool[Array, " n"]]:
    """Line 4.

    Args:
        layer: the variables.
        q_above: q of the layer above each; None for the last layer, whose z answers to the labels.
        data: training data.
        hyper: hyperparameters.

    Returns:
        The layers, and whether their solves converged.
    """

    def one(layer: Layer, q_above: Array | None) -> tuple[Layer, Array]:
        if q_above is None:
            z, converged = update_z_output(layer.z, layer.a, data.y, hyper.loss, hyper.nu)
        else:
            z, converged = update_z(layer.z, layer.a, q_above, hyper.activation, hyper.proximal)
        return layer._replace(z=data.keep(z, layer.a)), converged

    return jax.vmap(one)(layer, q_above)


def ascend(
    boundary: Boundary, f_below: Float[Array, "n N h"], hyper: Hyperparameters, rows_at_once: int
) -> tuple[Boundary, BoundarySums]:
    """Line 6, and what the boundaries add to the Lagrangian then.

    In blocks, lest the compiler computes q anew wherever it is used and keeps the old u for that.

    Args:
        boundary: the variables, q being new and u old.
        f_below: f(z) of the layers below.
        hyper: hyperparameters.
        rows_at_once: how many samples to work on at a time.
    """
    new_u = jax.vmap(partial(update_u, rho=hyper.rho))

    def move(u: Array, fixed: tuple[Array, Array, Array]) -> tuple[Array, None]:
        p, q, _ = fixed
        return new_u(u, p, q), None

    def note(
        sums: BoundarySums, u: Array, fixed: tuple[Array, Array, Array], _: None
    ) -> BoundarySums:
        p, q, f = fixed
        return jax.tree.map(jnp.add, sums, boundary_sums(Boundary(p, q, u), f))

    p, q, u = boundary
    nothing = BoundarySums(*3 * (jnp.zeros(len(u), u.dtype),))
    u, sums = in_blocks(move, note, u, (p, q, f_below), nothing, rows_at_once)
    return Boundary(p, q, u), sums
