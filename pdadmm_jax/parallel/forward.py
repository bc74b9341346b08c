"""The forward pass through the layers of one stage, the only one that the library has."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.numerics.products import Precision, multiply
from pdadmm_jax.parallel.groups import LayerGroups, Weights, heights, only
from pdadmm_jax.parallel.stage import Collectives, Stage, choose, stage_of, where
from pdadmm_jax.problems.activations import Activation
from pdadmm_jax.problems.residual import Passing, entering, upward


class Saved(NamedTuple):
    """What layers save of samples on their way up."""

    p: Float[Array, "*slots n rows n_in"] | None  # None for the first layer alone: its p is x
    a: Float[Array, "*slots n rows n_out"]


class Climbed(NamedTuple):
    """What comes of the way up a stage.

    Attributes:
        edge: saved by the layer whose output side the edge slot holds.
        stacks: saved by the stacks.
        up: what passes up from the uppermost layer but the network's last: q, and the input of its
            block where blocks have several layers (``residual``).
    """

    edge: Saved
    stacks: tuple[Saved, ...]
    up: Float[Array, "arrays rows h"]


def affine(
    p: Float[Array, "rows n_in"], weights: Weights, precision: Precision = "float32"
) -> Float[Array, "rows n_out"]:
    """p W + b of a single layer."""
    return multiply(p, weights.W, precision) + weights.b


def climb(
    stage: Stage,
    weights: LayerGroups,
    below: Float[Array, "arrays rows h"] | None,
    x: Float[Array, "rows features"],
    activation: Activation,
    precision: Precision = "float32",
    residual_block: int = 0,
    keep: Callable[[Array], Array] = lambda rows: rows,
) -> Climbed:
    """The way of samples up the layers of a stage, but for the network's last.

    Args:
        stage: the stage.
        weights: of its layers.
        below: what has passed up from the stage below; None if this is the only one.
        x: inputs of the network, for the stage that holds the first layer.
        activation: f.
        precision: of the matrix products.
        residual_block: hidden layers of a residual block; 0 for a plain chain.
        keep: applied to every f(a); puts zero in the rows of samples that do not count.
    """
    first, stacks, edge, _ = weights

    def emit(a: Array) -> Array:
        return keep(activation(a))

    def above(a: Array, below: Passing, number: Array) -> Passing:
        return upward(emit(a), below, number, stage.depth, residual_block)

    def layer(below: Passing, given: tuple[Weights, Array]) -> tuple[Passing, Saved]:
        weights, number = given
        a = affine(below[0], weights, precision)
        return above(a, below, number), Saved(below[0], a)

    a = jnp.zeros((len(x), first.W.shape[-1]), x.dtype)
    a = where(stage, stage.holds_first, lambda _: affine(x, only(first), precision), a)
    if below is not None and edge is not None:
        a = where(stage, stage.holds_edge, lambda _: affine(below[0], only(edge), precision), a)
    up = entering(emit(a), residual_block)
    if below is not None and edge is not None and residual_block:
        up = choose(stage.holds_edge, above(a, tuple(below), stage.outputs[0]), up)
    if below is not None:
        up = choose(stage.skips_edge, tuple(below), up)

    saved = []
    for stack, numbers in zip(stacks, stage.stack_numbers(heights(weights)), strict=True):
        if len(stack.W) == 1:  # the only kind of stack that may change the width
            up, one = layer(up, (only(stack), numbers[0]))
            saved.append(jax.tree.map(lambda rows: rows[None], one))
        else:
            up, many = lax.scan(layer, up, (stack, numbers))
            saved.append(many)
    edge_saved = Saved(None if below is None else below[:1], a[None])
    return Climbed(edge_saved, tuple(saved), jnp.stack(up))


def outputs(
    weights: LayerGroups,
    x: Float[Array, "rows features"],
    activation: Activation,
    precision: Precision,
    residual_block: int,
) -> Float[Array, "rows C"]:
    """Outputs of a network whose weights are in the groups of a single stage."""
    alone = stage_of(weights.plan, 0, Collectives(), jax.default_backend())
    up = climb(alone, weights, None, x, activation, precision, residual_block).up
    return affine(up[0], only(weights.last), precision)
