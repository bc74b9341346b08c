"""The forward pass through the layers of one stage, the only one that the library has."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.numerics.products import Precision, multiply
from pdadmm_jax.parallel.groups import LayerGroups, Weights, only
from pdadmm_jax.parallel.stage import Collectives, Stage, choose, stage_of, where
from pdadmm_jax.problems.activations import Activation


class Saved(NamedTuple):
    """What layers save of samples on their way up."""

    p: Float[Array, "*slots n rows n_in"] | None  # None for the first layer alone: its p is x
    a: Float[Array, "*slots n rows n_out"]


class Climbed(NamedTuple):
    """What comes of the way up a stage.

    Attributes:
        edge: saved by the layer whose output side the edge slot holds.
        stacks: saved by the stacks.
        top: f(a) of the uppermost layer but the network's last.
    """

    edge: Saved
    stacks: tuple[Saved, ...]
    top: Float[Array, "rows h"]


def affine(
    p: Float[Array, "rows n_in"], weights: Weights, precision: Precision = "float32"
) -> Float[Array, "rows n_out"]:
    """p W + b of a single layer."""
    return multiply(p, weights.W, precision) + weights.b


def climb(
    stage: Stage,
    weights: LayerGroups,
    below: Float[Array, "rows h"] | None,
    x: Float[Array, "rows features"],
    activation: Activation,
    precision: Precision = "float32",
    keep: Callable[[Array], Array] = lambda rows: rows,
) -> Climbed:
    """The way of samples up the layers of a stage, but for the network's last.

    Args:
        stage: the stage.
        weights: of its layers.
        below: f(a) from the stage below; None if this is the only one.
        x: inputs of the network, for the stage that holds the first layer.
        activation: f.
        precision: of the matrix products.
        keep: applied to every f(a); puts zero in the rows of samples that do not count.
    """
    first, stacks, edge, _ = weights

    def emit(a: Array) -> Array:
        return keep(activation(a))

    def layer(p: Array, weights: Weights) -> tuple[Array, Saved]:
        a = affine(p, weights, precision)
        return emit(a), Saved(p, a)

    a = jnp.zeros((len(x), first.W.shape[-1]), x.dtype)
    a = where(stage, stage.holds_first, lambda _: affine(x, only(first), precision), a)
    if below is not None and edge is not None:
        a = where(stage, stage.holds_edge, lambda _: affine(below, only(edge), precision), a)
    p = emit(a) if below is None else choose(stage.skips_edge, below, emit(a))

    saved = []
    for stack in stacks:
        if len(stack.W) == 1:  # the only kind of stack that may change the width
            p, one = layer(p, only(stack))
            saved.append(jax.tree.map(lambda rows: rows[None], one))
        else:
            p, many = lax.scan(layer, p, stack)
            saved.append(many)
    return Climbed(Saved(None if below is None else below[None], a[None]), tuple(saved), p)


def outputs(
    weights: LayerGroups,
    x: Float[Array, "rows features"],
    activation: Activation,
    precision: Precision,
) -> Float[Array, "rows C"]:
    """Outputs of a network whose weights are in the groups of a single stage."""
    alone = stage_of(weights.plan, 0, Collectives(), jax.default_backend())
    top = climb(alone, weights, None, x, activation, precision).top
    return affine(top, only(weights.last), precision)
