"""The lines of Algorithm 1 on n stacked layers, in an order that reads and makes few arrays.

An iteration is matrix products and passes over arrays.  Samples know of each other through W and
b alone, so they pass in blocks (``numerics.blocks``) through all lines between two updates of W:

    lines 5 and 6, line 1, and the sums over samples that lines 2 and 3 need;
    how a changes by lines 2 and 3, line 4, and the sums that the metrics need.

Boundaries belong to the layer above, so that line 1 finds the q and u of lines 5 and 6 at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Bool, Float
from pdadmm_jax.admm.config import Config
from pdadmm_jax.admm.exchange import BoundaryInputs, concatenate, f_below
from pdadmm_jax.admm.lagrangian import BoundarySums, boundary_sums
from pdadmm_jax.admm.state import Boundary, Layer
from pdadmm_jax.admm.updates import (
    move_W,
    pull_on_W,
    update_p,
    update_q,
    update_u,
    update_z,
    update_z_output,
)
from pdadmm_jax.numerics.blocks import BlockFunction, in_blocks
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.sample_reductions import SampleReductions
from pdadmm_jax.problems.data import Data


class InputRows(NamedTuple):
    """What passes through lines 5, 6 and 1; the first layer's p is the data, its q and u empty."""

    z: Float[Array, "n N n_out"]
    a: Float[Array, "n N n_out"]
    p: Float[Array, "n N n_in"]
    q: Float[Array, "n N n_in"]
    u: Float[Array, "n N n_in"]
    inputs: BoundaryInputs | None  # of the lowest boundary
    pull: Float[Array, "n N n_in"] | None
    data: Data  # with a first axis of 1, without x


class WeightSums(NamedTuple):
    """What lines 2 and 3 need to know of the samples at hand, after line 1."""

    pull: Float[Array, "n n_in n_out"]  # p^T (z - a)
    residual: Float[Array, "n n_out"]  # sum of the rows of z - a
    inputs: Float[Array, "n n_in"]  # sum of the rows of p


class InputMetrics(NamedTuple):
    """What lines 5, 6 and 1 sum up on the way."""

    boundaries: BoundarySums
    tau: Float[Array, " n"]  # largest step-size ratio of p
    sums: WeightSums


class PendingUpdate(NamedTuple):
    """How lines 2 and 3 change a, yet to be applied."""

    image: Float[Array, "n N n_out"]
    length: Float[Array, "n n_out"]
    shift: Float[Array, "n n_out"]

    def applied(self, a: Float[Array, "n N n_out"]) -> Float[Array, "n N n_out"]:
        """a + length * image + shift."""
        return a + self.length[:, None] * self.image + self.shift[:, None]


class AfterLine3(NamedTuple):
    """Layers after lines 1-3."""

    layer: Layer
    pending: PendingUpdate | None  # what a lacks; None if nothing
    tau: Float[Array, " n"]  # largest step-size ratio of p
    theta: Float[Array, " n"]  # the same of W
    boundaries: BoundarySums  # after lines 5 and 6, if they came first


def unmoved(layer: Layer) -> AfterLine3:
    """Layers that do not move."""
    still = jnp.zeros(layer.z.shape[0], layer.z.dtype)
    return AfterLine3(layer, None, still, still, _no_boundaries(layer))


def applied(after: AfterLine3) -> AfterLine3:
    """The same layers, the pending update of a applied."""
    layer, pending = after.layer, after.pending
    assert pending is not None
    return after._replace(layer=layer._replace(a=pending.applied(layer.a)), pending=None)


def lowest_q(
    boundary: Boundary, f_below: Float[Array, "1 N h"], config: Config, block_bytes: int
) -> Float[Array, "1 N h"]:
    """Line 5 on the lowest of n boundaries, ahead of the others.

    In blocks, for a loop is done once: else the compiler computes q again wherever it is used,
    and keeps the old u of all boundaries for that.

    Args:
        boundary: the variables.
        f_below: f(z) of the layer below the lowest boundary.
        config: penalties, solvers and structure.
        block_bytes: of an array to work on at a time (``blocks``).
    """

    def line_5(rows: tuple[Array, ...], metrics: tuple[()]) -> tuple[tuple[Array, ...], tuple[()]]:
        _, p, u, f = rows
        q = _line_5(config)(p[:1], u[:1], f)
        return (q, p, u, f), metrics

    p, q, u = boundary
    return in_blocks([line_5], (q[:1], p, u, f_below), (), block_bytes)[0][0]


def lines_5_and_6(
    layer: Layer, inputs: BoundaryInputs, data: Data, config: Config, block_bytes: int
) -> tuple[Layer, BoundarySums]:
    """Lines 5 and 6 on the boundaries below the layers.

    Args:
        layer: the variables.
        inputs: what the lowest boundary needs from other layers.
        data: training data.
        config: penalties, solvers and structure.
        block_bytes: of an array to work on at a time (``blocks``).

    Returns:
        The layers, and what their boundaries add to the Lagrangian then.
    """
    rows, metrics = _input_rows(layer, inputs, None, data), _no_metrics(layer)
    rows, metrics = in_blocks(_lines_5_and_6(config), rows, metrics, block_bytes)
    return _with(layer, rows), metrics.boundaries


def lines_1_to_3(
    layer: Layer,
    inputs: BoundaryInputs | None,
    pull: Float[Array, "n N n_in"] | None,
    data: Data,
    config: Config,
    samples: SampleReductions,
    block_bytes: int,
) -> AfterLine3:
    """Lines 1-3, after lines 5 and 6 of the iteration before if there are boundary inputs.

    Args:
        layer: the variables; ``below`` is None for the first layer, whose input is the data.
        inputs: what the lowest boundary needs from other layers; None if lines 5-6 are done.
        pull: (z - a) W^T, if that is known already.
        data: training data.
        config: penalties, solvers and structure.
        samples: where the other samples are.
        block_bytes: of an array to work on at a time (``blocks``).
    """
    rows, metrics = _input_rows(layer, inputs, pull, data), _no_metrics(layer)
    functions = [_weight_sums(config)]
    if layer.below is not None:
        before = [] if inputs is None else _lines_5_and_6(config)
        if getattr(config.p_solver, "by_unit", False):
            functions = [*before, _line_1(layer.W, config, samples), *functions]
        else:
            rows, metrics = in_blocks(before, rows, metrics, block_bytes)
            rows, metrics = in_blocks([_line_1(layer.W, config, samples)], rows, metrics, None)
    rows, metrics = in_blocks(functions, rows, metrics, block_bytes)
    layer = _with(layer, rows)
    W, b, pending, theta = jax.vmap(partial(_lines_2_and_3, config=config, samples=samples))(
        layer.W, layer.b, rows.p, metrics.sums
    )
    return AfterLine3(layer._replace(W=W, b=b), pending, metrics.tau, theta, metrics.boundaries)


def _input_rows(
    layer: Layer, inputs: BoundaryInputs | None, pull: Array | None, data: Data
) -> InputRows:
    labels, none = _labels(data), data.x[None, :, :0]
    p, q, u = (data.x[None], none, none) if layer.below is None else layer.below
    if inputs is not None and inputs.q is not None and len(q) == 1:
        q = inputs.q  # all there is of it: line 5 need not copy it
    return InputRows(layer.z, layer.a, p, q, u, inputs, pull, labels)


def _labels(data: Data) -> Data:
    """The data as rows, without inputs, which have a place of their own."""
    return jax.tree.map(lambda array: array[None], data._replace(x=data.x[:, :0]))


def _unstacked(data: Data) -> Data:
    return jax.tree.map(lambda array: array[0], data)


def _with(layer: Layer, rows: InputRows) -> Layer:
    below = None if layer.below is None else Boundary(rows.p, rows.q, rows.u)
    return layer._replace(a=rows.a, below=below)


def _no_metrics(layer: Layer) -> InputMetrics:
    n, n_in, n_out = layer.W.shape
    shapes = (n,), (n, n_in, n_out), (n, n_out), (n, n_in)
    tau, *sums = (jnp.zeros(shape, layer.z.dtype) for shape in shapes)
    return InputMetrics(_no_boundaries(layer), tau, WeightSums(*sums))


def _no_boundaries(layer: Layer) -> BoundarySums:
    return BoundarySums(*3 * (jnp.zeros(layer.z.shape[0], layer.z.dtype),))


def _line_5(config: Config) -> Callable[[Array, Array, Array], Array]:
    """q of n boundaries, given their p and u and f(z) of the layers below."""

    def new(p: Array, u: Array, f: Array) -> Array:
        q = update_q(p, u, f, config.nu, config.rho)
        return q if config.grid is None else config.grid.nearest(q)

    return jax.vmap(new)


def _lines_5_and_6(config: Config) -> list[BlockFunction[InputRows, InputMetrics]]:
    """q, u, and what the boundaries add to the Lagrangian then."""

    def f_of_rows(rows: InputRows) -> Array:
        assert rows.inputs is not None
        return f_below(rows.inputs.f, rows.z, _unstacked(rows.data), config)

    def line_5(rows: InputRows, metrics: InputMetrics) -> tuple[InputRows, InputMetrics]:
        assert rows.inputs is not None
        known, new = rows.inputs.q, _line_5(config)
        if known is None:
            return rows._replace(q=new(rows.p, rows.u, f_of_rows(rows))), metrics
        if len(rows.q) == 1:
            return rows, metrics
        upper = new(rows.p[1:], rows.u[1:], f_of_rows(rows)[1:])
        return rows._replace(q=concatenate(known, upper)), metrics

    def line_6(rows: InputRows, metrics: InputMetrics) -> tuple[InputRows, InputMetrics]:
        new = partial(update_u, rho=config.rho)
        return rows._replace(u=jax.vmap(new)(rows.u, rows.p, rows.q)), metrics

    def sum_up(rows: InputRows, metrics: InputMetrics) -> tuple[InputRows, InputMetrics]:
        block = boundary_sums(Boundary(rows.p, rows.q, rows.u), f_of_rows(rows))
        return rows, metrics._replace(boundaries=jax.tree.map(jnp.add, metrics.boundaries, block))

    return [line_5, line_6, sum_up]


def _line_1(
    W: Array, config: Config, samples: SampleReductions
) -> BlockFunction[InputRows, InputMetrics]:
    """p and its a."""
    update = partial(
        update_p,
        nu=config.nu,
        rho=config.rho,
        solver=config.p_solver,
        precision=config.precision,
        samples=samples,
    )

    def line_1(rows: InputRows, metrics: InputMetrics) -> tuple[InputRows, InputMetrics]:
        p, a, ratio = jax.vmap(update)(
            rows.p, W, rows.a, _pinned(rows.z, rows.a, rows.data), rows.q, rows.u, pull=rows.pull
        )
        if config.grid is not None:
            exact, p = p, config.grid.nearest(p)
            a += jax.vmap(partial(multiply, precision=config.precision))(p - exact, W)
        return rows._replace(p=p, a=a), metrics._replace(tau=jnp.maximum(metrics.tau, ratio))

    return line_1


def _weight_sums(config: Config) -> BlockFunction[InputRows, InputMetrics]:
    """The sums for lines 2 and 3."""

    def sum_up(rows: InputRows, metrics: InputMetrics) -> tuple[InputRows, InputMetrics]:
        p, a, z = rows.p, rows.a, _pinned(rows.z, rows.a, rows.data)
        pull = jax.vmap(partial(pull_on_W, precision=config.precision))(p, a, z)
        block = WeightSums(pull, jnp.sum(z - a, 1), jnp.sum(p, 1))
        return rows, metrics._replace(sums=jax.tree.map(jnp.add, metrics.sums, block))

    return sum_up


def _pinned(z: Array, a: Array, data: Data) -> Array:
    """z, but z = a for samples that do not count: with p = 0 they leave no residual in any sum.

    Pinned here and after line 4: compilers may round the z and the a they keep differently.
    """
    return jax.vmap(_unstacked(data).keep)(z, a)


def _lines_2_and_3(
    W: Array, b: Array, p: Array, sums: WeightSums, config: Config, samples: SampleReductions
) -> tuple[Array, Array, PendingUpdate, Array]:
    """Lines 2 and 3 on one layer (no stacking axis)."""
    step = move_W(W, p, sums.pull, config.nu, config.mu, config.W_solver, config.precision, samples)
    delta = step.length * step.direction
    # The mean of z - a after line 2 follows from the one before it: no array is read for it.
    shift = jnp.zeros_like(b)
    if config.bias:
        shift = samples.mean_of(sums.residual - multiply(sums.inputs, delta), len(p))
    length = jnp.broadcast_to(jnp.asarray(step.length, b.dtype), (1, len(b)))[0]
    return W + delta, b + shift, PendingUpdate(step.image, length, shift), step.ratio


class OutputRows(NamedTuple):
    """What passes through the end of lines 2 and 3 and through line 4."""

    z: Float[Array, "n N n_out"]
    a: Float[Array, "n N n_out"]
    image: Float[Array, "n N n_out"] | None
    q: Float[Array, "n N n_in"] | None  # of the boundaries below the layers
    q_above: Float[Array, "1 N n_out"] | None  # of the boundary above the topmost
    data: Data  # with a first axis of 1, without x


class OutputMetrics(NamedTuple):
    """What line 4 reports."""

    converged: Bool[Array, " n"]
    residual: Float[Array, " n"]  # ||z - a||^2


def no_output_metrics(layer: Layer) -> OutputMetrics:
    """The metrics of layers before any of their samples."""
    n, dtype = layer.z.shape[0], layer.z.dtype
    return OutputMetrics(jnp.ones(n, bool), jnp.zeros(n, dtype))


def line_4(
    layer: Layer,
    pending: PendingUpdate | None,
    q_above: Float[Array, "1 N n_out"] | None,
    data: Data,
    config: Config,
    block_bytes: int,
) -> tuple[Layer, OutputMetrics]:
    """The pending update of a, and line 4.

    Args:
        layer: the variables.
        pending: how a is yet to change.
        q_above: q of the layer above the topmost; None for the last layer, whose z depends on the
            labels.
        data: training data.
        config: penalties, solvers and structure.
        block_bytes: of an array to work on at a time (``blocks``).

    Returns:
        The layers, and whether their solves converged and ||z - a||^2.
    """

    def advance(rows: OutputRows, metrics: OutputMetrics) -> tuple[OutputRows, OutputMetrics]:
        if pending is None or rows.image is None:
            return rows, metrics
        return rows._replace(a=pending._replace(image=rows.image).applied(rows.a)), metrics

    def line_4(rows: OutputRows, metrics: OutputMetrics) -> tuple[OutputRows, OutputMetrics]:
        data = _unstacked(rows.data)

        def one(z: Array, a: Array, q: Array | None) -> tuple[Array, Array]:
            if q is None:
                z, converged = update_z_output(z, a, data.y, config.loss, config.nu)
            else:
                z, converged = update_z(z, a, q, config.activation, config.proximal)
            return data.keep(z, a), converged

        q = rows.q_above
        q = q if q is None or rows.q is None else concatenate(rows.q[1:], q)
        z, converged = jax.vmap(one)(rows.z, rows.a, q)
        return rows._replace(z=z), metrics._replace(converged=metrics.converged & converged)

    def note(rows: OutputRows, metrics: OutputMetrics) -> tuple[OutputRows, OutputMetrics]:
        residual = metrics.residual + jnp.sum((rows.z - rows.a) ** 2, (1, 2))
        return rows, metrics._replace(residual=residual)

    q = None if q_above is None or layer.below is None else layer.below.q
    image = None if pending is None else pending.image
    rows = OutputRows(layer.z, layer.a, image, q, q_above, _labels(data))
    functions = [advance, line_4, note]
    rows, metrics = in_blocks(functions, rows, no_output_metrics(layer), block_bytes)
    return layer._replace(z=rows.z, a=rows.a), metrics
