"""What the layers of a stage do with a block of samples on its way down (``passes``)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.admm.updates import update_z_output
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.forward import Saved, affine
from pdadmm_jax.parallel.groups import LayerGroups, Weights, only
from pdadmm_jax.parallel.stage import Stage, Truth, where
from pdadmm_jax.sweeps.samples import Block
from pdadmm_jax.sweeps.weight_update import PassConfig


class BatchMetrics(NamedTuple):
    """Sums over the samples of a block, or of several."""

    loss: Float[Array, "*updates"]  # of the risk, at the weights that the samples met
    number: Float[Array, "*updates"]  # of samples
    unconverged: Float[Array, "*updates"]  # layers whose z-problem hit its iteration limit


class Turned(NamedTuple):
    """What comes of the last layer.

    Attributes:
        r: nu (z - a).
        u: for the layer below.
        metrics: of the block.
    """

    r: Float[Array, "1 rows C"]
    u: Float[Array, "rows h"]
    metrics: BatchMetrics


class Descended(NamedTuple):
    """What comes of the way down a stage.

    Attributes:
        first: nu (z - a) of the first layer.
        stacks: of the stacks.
        edge: of the hidden layer in the edge slot.
        u: for the stage below.
        unconverged: layers whose problems hit their iteration limit.
    """

    first: Float[Array, "1 rows h"]
    stacks: tuple[Float[Array, "n rows h"], ...]
    edge: Float[Array, "1 rows h"] | None
    u: Float[Array, "rows h"]
    unconverged: Array


def turn(
    stage: Stage, last: Weights, p: Array, block: Block, config: PassConfig, here: Truth
) -> Turned:
    """The last layer, where a block turns round: forward, and its z.

    Args:
        stage: the stage.
        last: weights of the last layer.
        p: its inputs.
        block: the samples.
        config: numbers and structure.
        here: whether a block is where this stage holds the last layer.
    """

    def at_last(_: Turned) -> Turned:
        weights = only(last)
        a = affine(p, weights, config.precision)
        z, converged = update_z_output(a, a, block.y, config.loss, config.nu)
        r = block.keep(config.nu * (z - a))
        loss = jnp.sum(block.keep(config.loss.value(a, block.y)))
        metrics = BatchMetrics(loss, block.number, 1.0 - converged.astype(p.dtype))
        return Turned(r[None], multiply(r, weights.W.T, config.precision), metrics)

    zero = jnp.zeros((), p.dtype)
    r = jnp.zeros((1, len(p), last.W.shape[-1]), p.dtype)
    return where(stage, here, at_last, Turned(r, jnp.zeros_like(p), BatchMetrics(zero, zero, zero)))


def descend(
    stage: Stage,
    weights: LayerGroups,
    u: Array,
    edge: Saved,
    stacks: tuple[Saved, ...],
    block: Block,
    config: PassConfig,
) -> Descended:
    """The hidden layers and the first: their z, and u for the layers below."""

    def respond(u: Array, a: Array) -> tuple[Array, Array]:
        change, converged = config.activation.respond(a, u * (1 / config.nu))
        return block.keep(config.nu * change), 1.0 - converged.astype(u.dtype)

    def layer(u: Array, known: tuple[Weights, Array]) -> tuple[Array, tuple[Array, Array]]:
        weights, a = known
        r, unconverged = respond(u, a)
        return multiply(r, weights.W.T, config.precision), (r, unconverged)

    found: list[Array] = []
    unconverged = jnp.zeros((), u.dtype)
    for stack, saved in zip(reversed(weights.stacks), reversed(stacks), strict=True):
        if len(stack.W) == 1:
            u, (r, more) = layer(u, (only(stack), saved.a[0]))
            r = r[None]
        else:
            u, (r, more) = lax.scan(layer, u, (stack, saved.a), reverse=True)
        found.insert(0, r)
        unconverged += jnp.sum(more)

    def first_layer(old: tuple[Array, Array]) -> tuple[Array, Array]:
        r, more = respond(u, edge.a[0])
        return r[None], old[1] + more

    def edge_layer(old: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        down, (r, more) = layer(u, (only(weights.edge), edge.a[0]))
        return r[None], old[1] + more, down

    nothing = jnp.zeros_like(edge.a)
    first, unconverged = where(stage, stage.holds_first, first_layer, (nothing, unconverged))
    r_edge, down = None, u
    if weights.edge is not None:
        operand = nothing, unconverged, u
        r_edge, unconverged, down = where(stage, stage.holds_edge, edge_layer, operand)
    return Descended(first, tuple(found), r_edge, down, unconverged)
