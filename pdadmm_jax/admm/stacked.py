"""The lines of Algorithm 1 on n stacked layers, in an order that reads and makes few arrays.

An iteration is matrix products and reading arrays again.  Samples know of each other through W and
b alone, so they pass in blocks (``blocks``) through all lines between two updates of W:

    lines 5 and 6, line 1, and the sums over samples that lines 2 and 3 need;
    how a changes by lines 2 and 3, line 4, and the sums that the report needs.

Boundaries belong to the layer above, so that line 1 finds the q and u of lines 5 and 6 at hand.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Bool, Float
from pdadmm_jax.admm.config import Hyperparameters
from pdadmm_jax.admm.exchange import News, f_below, join
from pdadmm_jax.admm.lagrangian import BoundarySums, boundary_sums
from pdadmm_jax.admm.state import Boundary, Data, Layer
from pdadmm_jax.admm.updates import (
    move_W,
    pull_on_W,
    update_p,
    update_q,
    update_u,
    update_z,
    update_z_output,
)
from pdadmm_jax.numerics.blocks import Move, in_blocks
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.sample_reductions import Samples


class InputRows(NamedTuple):
    """What passes through lines 5, 6 and 1; the first layer's p is the data, its q and u empty."""

    z: Float[Array, "n N n_out"]
    a: Float[Array, "n N n_out"]
    p: Float[Array, "n N n_in"]
    q: Float[Array, "n N n_in"]
    u: Float[Array, "n N n_in"]
    news: News | None
    pull: Float[Array, "n N n_in"] | None
    data: Data  # with a first axis of 1, without x


class Sums(NamedTuple):
    """What lines 2 and 3 need to know of the samples at hand, after line 1."""

    pull: Float[Array, "n n_in n_out"]  # p^T (z - a)
    residual: Float[Array, "n n_out"]  # sum of the rows of z - a
    inputs: Float[Array, "n n_in"]  # sum of the rows of p


class InputNotes(NamedTuple):
    """What is found out on the way."""

    boundaries: BoundarySums
    tau: Float[Array, " n"]  # largest step-size ratio of p
    sums: Sums


class Turn(NamedTuple):
    """What lines 2 and 3 make of a."""

    image: Float[Array, "n N n_out"]
    step: Float[Array, "n n_out"]
    shift: Float[Array, "n n_out"]

    def applied(self, a: Float[Array, "n N n_out"]) -> Float[Array, "n N n_out"]:
        """a + step * image + shift."""
        return a + self.step[:, None] * self.image + self.shift[:, None]


class Moved(NamedTuple):
    """Layers after lines 1-3."""

    layer: Layer
    turn: Turn | None  # by which a is behind; None if it is not
    tau: Float[Array, " n"]  # largest step-size ratio of p
    theta: Float[Array, " n"]  # the same of W
    boundaries: BoundarySums  # after lines 5 and 6, if they came first


def at_rest(layer: Layer) -> Moved:
    """Layers that do not move."""
    still = jnp.zeros(layer.z.shape[0], layer.z.dtype)
    return Moved(layer, None, still, still, _no_boundaries(layer))


def turned(moved: Moved) -> Moved:
    """The same layers, a no longer behind."""
    layer, turn = moved.layer, moved.turn
    assert turn is not None
    return moved._replace(layer=layer._replace(a=turn.applied(layer.a)), turn=None)


def lowest_q(
    boundary: Boundary, f_below: Float[Array, "1 N h"], hyper: Hyperparameters, block_bytes: int
) -> Float[Array, "1 N h"]:
    """Line 5 on the lowest of n boundaries, ahead of the others.

    In blocks, for a loop is done once: else the compiler computes q again wherever it is used,
    and keeps the old u of all boundaries for that.

    Args:
        boundary: the variables.
        f_below: f(z) of the layer below the lowest boundary.
        hyper: hyperparameters.
        block_bytes: of an array to work on at a time (``blocks``).
    """

    def line_5(rows: tuple[Array, ...], notes: tuple[()]) -> tuple[tuple[Array, ...], tuple[()]]:
        _, p, u, f = rows
        q = jax.vmap(partial(update_q, nu=hyper.nu, rho=hyper.rho))(p[:1], u[:1], f)
        return (q, p, u, f), notes

    p, q, u = boundary
    return in_blocks([line_5], (q[:1], p, u, f_below), (), block_bytes)[0][0]


def couple(
    layer: Layer, news: News, data: Data, hyper: Hyperparameters, block_bytes: int
) -> tuple[Layer, BoundarySums]:
    """Lines 5 and 6 on the boundaries below the layers.

    Args:
        layer: the variables.
        news: what the lowest boundary learns from other layers.
        data: training data.
        hyper: hyperparameters.
        block_bytes: of an array to work on at a time (``blocks``).

    Returns:
        The layers, and what their boundaries add to the Lagrangian then.
    """
    rows, notes = _input_rows(layer, news, None, data), _no_notes(layer)
    rows, notes = in_blocks(_lines_5_and_6(hyper), rows, notes, block_bytes)
    return _with(layer, rows), notes.boundaries


def move(
    layer: Layer,
    news: News | None,
    pull: Float[Array, "n N n_in"] | None,
    data: Data,
    hyper: Hyperparameters,
    samples: Samples,
    block_bytes: int,
) -> Moved:
    """Lines 1-3, and where there are news lines 5 and 6 of the iteration before.

    Args:
        layer: the variables; ``below`` is None for the first layer, whose input is the data.
        news: what the lowest boundary learns from other layers; None if it knows already.
        pull: (z - a) W^T, if that is known already.
        data: training data.
        hyper: hyperparameters.
        samples: where the other samples are.
        block_bytes: of an array to work on at a time (``blocks``).
    """
    rows, notes = _input_rows(layer, news, pull, data), _no_notes(layer)
    moves = [_note_inputs(hyper)]
    if layer.below is not None:
        before = [] if news is None else _lines_5_and_6(hyper)
        if getattr(hyper.p_solver, "by_unit", False):
            moves = [*before, _line_1(layer.W, hyper, samples), *moves]
        else:
            rows, notes = in_blocks(before, rows, notes, block_bytes)
            rows, notes = in_blocks([_line_1(layer.W, hyper, samples)], rows, notes, None)
    rows, notes = in_blocks(moves, rows, notes, block_bytes)
    layer = _with(layer, rows)
    W, b, turn, theta = jax.vmap(partial(_move_weights, hyper=hyper, samples=samples))(
        layer.W, layer.b, rows.p, notes.sums
    )
    return Moved(layer._replace(W=W, b=b), turn, notes.tau, theta, notes.boundaries)


def _input_rows(layer: Layer, news: News | None, pull: Array | None, data: Data) -> InputRows:
    labels, none = _labels(data), data.x[None, :, :0]
    p, q, u = (data.x[None], none, none) if layer.below is None else layer.below
    if news is not None and news.q is not None and len(q) == 1:
        q = news.q  # all there is of it: line 5 need not copy it
    return InputRows(layer.z, layer.a, p, q, u, news, pull, labels)


def _labels(data: Data) -> Data:
    """The data as rows, without inputs, which have a place of their own."""
    return jax.tree.map(lambda array: array[None], data._replace(x=data.x[:, :0]))


def _unstacked(data: Data) -> Data:
    return jax.tree.map(lambda array: array[0], data)


def _with(layer: Layer, rows: InputRows) -> Layer:
    below = None if layer.below is None else Boundary(rows.p, rows.q, rows.u)
    return layer._replace(a=rows.a, below=below)


def _no_notes(layer: Layer) -> InputNotes:
    n, n_in, n_out = layer.W.shape
    shapes = (n,), (n, n_in, n_out), (n, n_out), (n, n_in)
    tau, *sums = (jnp.zeros(shape, layer.z.dtype) for shape in shapes)
    return InputNotes(_no_boundaries(layer), tau, Sums(*sums))


def _no_boundaries(layer: Layer) -> BoundarySums:
    return BoundarySums(*3 * (jnp.zeros(layer.z.shape[0], layer.z.dtype),))


def _lines_5_and_6(hyper: Hyperparameters) -> list[Move[InputRows, InputNotes]]:
    """q, u, and what the boundaries add to the Lagrangian then."""

    def f_of_rows(rows: InputRows) -> Array:
        assert rows.news is not None
        return f_below(rows.news.f, rows.z, _unstacked(rows.data), hyper)

    def line_5(rows: InputRows, notes: InputNotes) -> tuple[InputRows, InputNotes]:
        assert rows.news is not None
        known, new = rows.news.q, jax.vmap(partial(update_q, nu=hyper.nu, rho=hyper.rho))
        if known is None:
            return rows._replace(q=new(rows.p, rows.u, f_of_rows(rows))), notes
        if len(rows.q) == 1:
            return rows, notes
        upper = new(rows.p[1:], rows.u[1:], f_of_rows(rows)[1:])
        return rows._replace(q=join(known, upper)), notes

    def line_6(rows: InputRows, notes: InputNotes) -> tuple[InputRows, InputNotes]:
        new = partial(update_u, rho=hyper.rho)
        return rows._replace(u=jax.vmap(new)(rows.u, rows.p, rows.q)), notes

    def note(rows: InputRows, notes: InputNotes) -> tuple[InputRows, InputNotes]:
        block = boundary_sums(Boundary(rows.p, rows.q, rows.u), f_of_rows(rows))
        return rows, notes._replace(boundaries=jax.tree.map(jnp.add, notes.boundaries, block))

    return [line_5, line_6, note]


def _line_1(W: Array, hyper: Hyperparameters, samples: Samples) -> Move[InputRows, InputNotes]:
    """p and its a."""
    update = partial(
        update_p,
        nu=hyper.nu,
        rho=hyper.rho,
        solver=hyper.p_solver,
        precision=hyper.precision,
        samples=samples,
    )

    def line_1(rows: InputRows, notes: InputNotes) -> tuple[InputRows, InputNotes]:
        p, a, ratio = jax.vmap(update)(
            rows.p, W, rows.a, _pinned(rows.z, rows.a, rows.data), rows.q, rows.u, pull=rows.pull
        )
        return rows._replace(p=p, a=a), notes._replace(tau=jnp.maximum(notes.tau, ratio))

    return line_1


def _note_inputs(hyper: Hyperparameters) -> Move[InputRows, InputNotes]:
    """The sums for lines 2 and 3."""

    def note(rows: InputRows, notes: InputNotes) -> tuple[InputRows, InputNotes]:
        p, a, z = rows.p, rows.a, _pinned(rows.z, rows.a, rows.data)
        pull = jax.vmap(partial(pull_on_W, precision=hyper.precision))(p, a, z)
        block = Sums(pull, jnp.sum(z - a, 1), jnp.sum(p, 1))
        return rows, notes._replace(sums=jax.tree.map(jnp.add, notes.sums, block))

    return note


def _pinned(z: Array, a: Array, data: Data) -> Array:
    """z, but z = a for samples that do not count: with p = 0 they leave no residual in any sum.

    Pinned here and after line 4: compilers may round the z and the a they keep differently.
    """
    return jax.vmap(_unstacked(data).keep)(z, a)


def _move_weights(
    W: Array, b: Array, p: Array, sums: Sums, hyper: Hyperparameters, samples: Samples
) -> tuple[Array, Array, Turn, Array]:
    """Lines 2 and 3 on one layer (no stacking axis)."""
    move = move_W(W, p, sums.pull, hyper.nu, hyper.mu, hyper.W_solver, hyper.precision, samples)
    delta = move.step * move.direction
    # The mean of z - a after line 2 follows from the one before it: no array is read for it.
    shift = samples.mean_of(sums.residual - multiply(sums.inputs, delta), len(p))
    step = jnp.broadcast_to(jnp.asarray(move.step, b.dtype), (1, len(b)))[0]
    return W + delta, b + shift, Turn(move.image, step, shift), move.ratio


class OutputRows(NamedTuple):
    """What passes through the end of lines 2 and 3 and through line 4."""

    z: Float[Array, "n N n_out"]
    a: Float[Array, "n N n_out"]
    image: Float[Array, "n N n_out"] | None
    q: Float[Array, "n N n_in"] | None  # of the boundaries below the layers
    q_above: Float[Array, "1 N n_out"] | None  # of the boundary above the topmost
    data: Data  # with a first axis of 1, without x


class OutputNotes(NamedTuple):
    """What is found out on the way."""

    converged: Bool[Array, " n"]
    residual: Float[Array, " n"]  # ||z - a||^2


def nothing_settled(layer: Layer) -> OutputNotes:
    """The notes on layers before any of their samples."""
    n, dtype = layer.z.shape[0], layer.z.dtype
    return OutputNotes(jnp.ones(n, bool), jnp.zeros(n, dtype))


def settle(
    layer: Layer,
    turn: Turn | None,
    q_above: Float[Array, "1 N n_out"] | None,
    data: Data,
    hyper: Hyperparameters,
    block_bytes: int,
) -> tuple[Layer, OutputNotes]:
    """What lines 2 and 3 make of a, and line 4.

    Args:
        layer: the variables.
        turn: how a is yet to change.
        q_above: q of the layer above the topmost; None for the last layer, whose z answers to the
            labels.
        data: training data.
        hyper: hyperparameters.
        block_bytes: of an array to work on at a time (``blocks``).

    Returns:
        The layers, and whether their solves converged and ||z - a||^2.
    """

    def advance(rows: OutputRows, notes: OutputNotes) -> tuple[OutputRows, OutputNotes]:
        if turn is None or rows.image is None:
            return rows, notes
        return rows._replace(a=turn._replace(image=rows.image).applied(rows.a)), notes

    def line_4(rows: OutputRows, notes: OutputNotes) -> tuple[OutputRows, OutputNotes]:
        data = _unstacked(rows.data)

        def one(z: Array, a: Array, q: Array | None) -> tuple[Array, Array]:
            if q is None:
                z, converged = update_z_output(z, a, data.y, hyper.loss, hyper.nu)
            else:
                z, converged = update_z(z, a, q, hyper.activation, hyper.proximal)
            return data.keep(z, a), converged

        q = rows.q_above
        q = q if q is None or rows.q is None else join(rows.q[1:], q)
        z, converged = jax.vmap(one)(rows.z, rows.a, q)
        return rows._replace(z=z), notes._replace(converged=notes.converged & converged)

    def note(rows: OutputRows, notes: OutputNotes) -> tuple[OutputRows, OutputNotes]:
        residual = notes.residual + jnp.sum((rows.z - rows.a) ** 2, (1, 2))
        return rows, notes._replace(residual=residual)

    q = None if q_above is None or layer.below is None else layer.below.q
    image = None if turn is None else turn.image
    rows = OutputRows(layer.z, layer.a, image, q, q_above, _labels(data))
    moves = [advance, line_4, note]
    rows, notes = in_blocks(moves, rows, nothing_settled(layer), block_bytes)
    return layer._replace(z=rows.z, a=rows.a), notes
