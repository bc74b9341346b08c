"""What the layers of a stage do with a block of samples on its way down (``passes``)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.admm.updates import update_z_output
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.forward import Climbed, Saved, affine, climb
from pdadmm_jax.parallel.groups import LayerGroups, Weights, heights, only
from pdadmm_jax.parallel.stage import Stage, Truth, where
from pdadmm_jax.problems.residual import Passing, arrays, downward, entering
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
        u: what passes down to the layer below.
        metrics: of the block.
    """

    r: Float[Array, "1 rows C"]
    u: Float[Array, "arrays rows h"]
    metrics: BatchMetrics


class Descended(NamedTuple):
    """What comes of the way down a stage.

    Attributes:
        first: nu (z - a) of the first layer.
        stacks: of the stacks.
        edge: of the hidden layer in the edge slot.
        u: what passes down to the stage below.
        unconverged: layers whose problems hit their iteration limit.
    """

    first: Float[Array, "1 rows h"]
    stacks: tuple[Float[Array, "n rows h"], ...]
    edge: Float[Array, "1 rows h"] | None
    u: Float[Array, "arrays rows h"]
    unconverged: Array


def ascend(
    stage: Stage, weights: LayerGroups, below: Array | None, block: Block, config: PassConfig
) -> Climbed:
    """The hidden layers and the first, on a block's way up; ``climb`` has the arguments."""
    return climb(
        stage,
        weights,
        below,
        block.x,
        config.activation,
        config.precision,
        config.residual_block,
        block.keep,
    )


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
        u = entering(multiply(r, weights.W.T, config.precision), config.residual_block)
        return Turned(r[None], jnp.stack(u), metrics)

    zero = jnp.zeros((), p.dtype)
    r = jnp.zeros((1, len(p), last.W.shape[-1]), p.dtype)
    u = jnp.zeros((arrays(config.residual_block), *p.shape), p.dtype)
    return where(stage, here, at_last, Turned(r, u, BatchMetrics(zero, zero, zero)))


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

    def layer(
        above: Passing, known: tuple[Weights, Array, Array]
    ) -> tuple[Passing, tuple[Array, Array]]:
        weights, a, number = known
        r, unconverged = respond(above[0], a)
        pulled = multiply(r, weights.W.T, config.precision)
        return downward(pulled, above, number, stage.depth, config.residual_block), (r, unconverged)

    down: Passing = tuple(u)
    found: list[Array] = []
    unconverged = jnp.zeros((), u.dtype)
    numbers = stage.stack_numbers(heights(weights))
    given = zip(weights.stacks, stacks, numbers, strict=True)
    for stack, saved, layers in reversed(list(given)):
        if len(stack.W) == 1:
            down, (r, more) = layer(down, (only(stack), saved.a[0], layers[0]))
            r = r[None]
        else:
            down, (r, more) = lax.scan(layer, down, (stack, saved.a, layers), reverse=True)
        found.insert(0, r)
        unconverged += jnp.sum(more)

    def first_layer(old: tuple[Array, Array]) -> tuple[Array, Array]:
        r, more = respond(down[0], edge.a[0])
        return r[None], old[1] + more

    def edge_layer(old: tuple[Array, Array, Passing]) -> tuple[Array, Array, Passing]:
        known = only(weights.edge), edge.a[0], stage.outputs[0]
        below, (r, more) = layer(old[2], known)
        return r[None], old[1] + more, below

    nothing = jnp.zeros_like(edge.a)
    first, unconverged = where(stage, stage.holds_first, first_layer, (nothing, unconverged))
    r_edge = None
    if weights.edge is not None:
        operand = nothing, unconverged, down
        r_edge, unconverged, down = where(stage, stage.holds_edge, edge_layer, operand)
    return Descended(first, tuple(found), r_edge, jnp.stack(down), unconverged)
