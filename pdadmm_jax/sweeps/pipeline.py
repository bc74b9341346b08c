"""One stage's part of a pass over the samples, which stream through it in blocks (``passes``).

A pipeline step is the time of one block in one stage.  A stage takes the block up that the stage
below has done a step ago, and then another down that the stage above has done a step ago; where the
last layer is, a block turns round.  With H boundaries between stages a block takes 2 H + 1 steps,
and as many are in flight.  A network on a single device has one stage and nothing in flight.
"""

from __future__ import annotations

import operator
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._typing import Array, Bool, Float, Int, Number
from pdadmm_jax.admm.updates import update_z_output
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.compression import transfer
from pdadmm_jax.parallel.forward import Saved, affine, climb
from pdadmm_jax.parallel.groups import LayerGroups, Weights, group, map_groups, only, ungroup
from pdadmm_jax.parallel.stage import Stage, Truth, choose, when, where
from pdadmm_jax.problems.data import Data
from pdadmm_jax.problems.problem import Problem
from pdadmm_jax.sweeps.rules import LayerStatistics, OptaxRule, Rule, RuleState, optax_update

T = TypeVar("T")


class PassConfig(Problem, Protocol):
    """What a pass has to know beside the samples."""

    @property
    def nu(self) -> Number: ...

    @property
    def rule(self) -> Rule: ...


class Sums(NamedTuple):
    """Layer statistics added up over the samples that passed a layer, and how many they are."""

    statistics: LayerStatistics
    number: Float[Array, "*n"]


class InFlight(NamedTuple):
    """A stage's buffers of blocks in flight."""

    up: Float[Array, "rows h"]  # f(z) for the stage above
    down: Float[Array, "rows h"]  # u for the stage below
    edge: Saved
    stacks: tuple[Saved, ...]


class BatchMetrics(NamedTuple):
    """Sums over the samples of a block, or of several."""

    loss: Float[Array, "*updates"]  # of the risk, before the weights move
    number: Float[Array, "*updates"]  # of samples
    unconverged: Float[Array, "*updates"]  # layers whose z-problem hit its iteration limit


class Batches(NamedTuple):
    """The samples of a pass.

    Attributes:
        data: the samples at hand.
        rows: which of them each block has, -1 for none.
    """

    data: Data
    rows: Int[Array, "updates blocks rows"]


class Block(NamedTuple):
    """Some of a pass's samples; of those that do not count, x is 0."""

    x: Float[Array, "rows features"]
    y: Array
    valid: Bool[Array, " rows"]

    def keep(self, rows: Array) -> Array:
        """The rows of the samples that count, zero in place of the others."""
        return Data.keep(Data(self.x, self.y, self.valid), rows)


def run_pass(
    stage: Stage,
    weights: LayerGroups,
    rule_state: RuleState,
    batches: Batches,
    config: PassConfig,
    pipelined: bool,
) -> tuple[LayerGroups, RuleState, BatchMetrics]:
    """Passes all batches through a stage.

    Args:
        stage: the stage.
        weights: of its layers.
        rule_state: what the update rule keeps of them.
        batches: the samples.
        config: numbers and structure.
        pipelined: whether each layer's weights move as soon as a block, which then is a batch, has
            come down to it, the blocks behind being in flight already; otherwise all weights move
            together, after the batch's last block.

    Returns:
        The new weights and rule state, and the metrics of every batch, (updates,) each.
    """
    schedule = _pipelined if pipelined else _batch_by_batch
    return schedule(stage, weights, rule_state, batches, config)


def _batch_by_batch(
    stage: Stage,
    weights: LayerGroups,
    rule_state: RuleState,
    batches: Batches,
    config: PassConfig,
) -> tuple[LayerGroups, RuleState, BatchMetrics]:
    """All weights move together, when nothing is in flight."""
    zeros = stage.collectives.vary(map_groups(partial(_no_sums, config=config), weights))
    buffers = stage.collectives.vary(_empty_buffers(stage, weights, batches))

    def one_batch(carry: Any, rows: Array) -> tuple[Any, BatchMetrics]:
        weights, rule_state = carry
        blocks = Batches(batches.data, rows)

        def one_step(carry: tuple[Any, LayerGroups], t: Array) -> tuple[Any, BatchMetrics]:
            buffers, sums = carry
            buffers, new, metrics = _pipeline_step(stage, weights, buffers, blocks, t, config)
            return (buffers, jax.tree.map(jnp.add, sums, new)), metrics

        steps = _pipeline_steps(stage, len(rows))
        (_, sums), metrics = lax.scan(one_step, (buffers, zeros), steps)
        updated = _apply_rule(stage, weights, rule_state, sums, config)
        return updated, jax.tree.map(jnp.sum, metrics)

    (weights, rule_state), metrics = lax.scan(one_batch, (weights, rule_state), batches.rows)
    return weights, rule_state, metrics


def _pipelined(
    stage: Stage,
    weights: LayerGroups,
    rule_state: RuleState,
    batches: Batches,
    config: PassConfig,
) -> tuple[LayerGroups, RuleState, BatchMetrics]:
    """Every layer's weights move when a batch, one block, has come down to it."""
    buffers = stage.collectives.vary(_empty_buffers(stage, weights, batches))
    blocks = Batches(batches.data, batches.rows[:, 0])
    updates = len(blocks.rows)

    def one_step(carry: Any, t: Array) -> tuple[Any, BatchMetrics]:
        buffers, weights, rule_state = carry
        buffers, sums, metrics = _pipeline_step(stage, weights, buffers, blocks, t, config)
        return (buffers, *_apply_rule(stage, weights, rule_state, sums, config)), metrics

    carry = buffers, weights, rule_state
    steps = _pipeline_steps(stage, updates)
    (_, weights, rule_state), metrics = lax.scan(one_step, carry, steps)
    # A batch turns round ``reach`` steps after it has come; what the last ones meet after that
    # counts as the last one's.
    loss, number, unconverged = (every[stage.reach :] for every in metrics)
    unconverged = unconverged[:updates].at[-1].add(jnp.sum(unconverged[updates:]))
    return weights, rule_state, BatchMetrics(loss[:updates], number[:updates], unconverged)


def _pipeline_steps(stage: Stage, blocks: int) -> Array:
    """Numbers of the steps in which so many blocks go up and come down."""
    return jnp.arange(blocks + 2 * stage.reach, dtype=jnp.int32)


def _pipeline_step(
    stage: Stage,
    weights: LayerGroups,
    buffers: InFlight | None,
    blocks: Batches,
    t: Array,
    config: PassConfig,
) -> tuple[InFlight | None, LayerGroups, BatchMetrics]:
    """One block up, another one down.

    Args:
        stage: the stage.
        weights: of its layers.
        buffers: of the blocks in flight; None if it is the only stage.
        blocks: samples and the rows of every block, (blocks, rows).
        t: number of the step; blocks enter the first stage at the step of their number.
        config: numbers and structure.

    Returns:
        The buffers after it, the layers' sums, and the metrics.
    """
    collectives = stage.collectives
    send = partial(transfer, message_dtype=collectives.message_dtype)
    rising = _block(blocks, t - stage.position)
    turning = _block(blocks, t - stage.reach)
    falling = _block(blocks, t - 2 * stage.reach + stage.position)

    # Up, from the layer that the stage below has come to.
    below = None if buffers is None else send(buffers.up, collectives.shift_up)
    edge, stacks, top = climb(
        stage, weights, below, rising.x, config.activation, config.precision, rising.keep
    )
    p_last = top if below is None else choose(stage.last_on_stack, top, below)

    # The last layer, where a block turns.
    last, from_last, metrics = _turn(stage, weights.last, p_last, turning, config)
    above = from_last
    if buffers is not None:
        received = send(buffers.down, collectives.shift_down)
        above = choose(stage.last_on_stack, from_last, received)
        buffers, edge, stacks = _save_and_load(stage, buffers, edge, stacks, t)

    # Down, from the layer that the stage above has come to.
    down = _descend(stage, weights, above, edge, stacks, falling, config)
    sums = LayerGroups(down.first, down.stacks, down.edge, last)
    metrics = metrics._replace(unconverged=metrics.unconverged + down.unconverged)
    if buffers is not None:
        lowest_is_last = jnp.logical_and(stage.holds_last, jnp.logical_not(stage.skips_edge))
        buffers = buffers._replace(up=top, down=choose(lowest_is_last, from_last, down.u))
    return buffers, sums, metrics


def _block(blocks: Batches, index: Array) -> Block:
    """The block of this number; one without samples that count where there is none."""
    data, number = blocks.data, blocks.rows.shape[0]
    rows = blocks.rows[jnp.clip(index, 0, number - 1)]
    valid = (rows >= 0) & (index >= 0) & (index < number)
    if data.valid is not None:
        valid &= data.valid[rows]
    return Block(jnp.where(valid[:, None], data.x[rows], 0), data.y[rows], valid)


def _turn(
    stage: Stage, last: Weights, p: Array, block: Block, config: PassConfig
) -> tuple[Sums, Array, BatchMetrics]:
    """The last layer: forward, its z, its sums, and u for the layer below."""

    def turn(_: Any) -> tuple[Sums, Array, BatchMetrics]:
        weights = only(last)
        a = affine(p, weights, config.precision)
        z, converged = update_z_output(a, a, block.y, config.loss, config.nu)
        r = block.keep(config.nu * (z - a))
        loss = jnp.sum(block.keep(config.loss.value(a, block.y)))
        metrics = BatchMetrics(loss, _number(block), 1.0 - converged.astype(p.dtype))
        return _sums(p, r, block, config), multiply(r, weights.W.T, config.precision), metrics

    zero = jnp.zeros((), p.dtype)
    nothing = only(_no_sums(last, config)), jnp.zeros_like(p), BatchMetrics(zero, zero, zero)
    sums, u, metrics = where(stage, stage.holds_last, turn, nothing)
    return _stacked(sums), u, metrics


class Descended(NamedTuple):
    """What comes of the way down a stage.

    Attributes:
        first: sums of the first layer.
        stacks: sums of the stacks.
        edge: sums of the hidden layer in the edge slot.
        u: for the stage below.
        unconverged: layers whose problems hit their iteration limit.
    """

    first: Sums
    stacks: tuple[Sums, ...]
    edge: Sums | None
    u: Array
    unconverged: Array


def _descend(
    stage: Stage,
    weights: LayerGroups,
    u: Array,
    edge: Saved,
    stacks: tuple[Saved, ...],
    block: Block,
    config: PassConfig,
) -> Descended:
    """The hidden layers and the first: their z, their sums, and u for the layers below."""

    def respond(u: Array, p: Array, a: Array) -> tuple[Array, Sums, Array]:
        change, converged = config.activation.respond(a, u / config.nu)
        r = block.keep(config.nu * change)
        return r, _sums(p, r, block, config), 1.0 - converged.astype(u.dtype)

    def layer(u: Array, known: tuple[Weights, Saved]) -> tuple[Array, tuple[Sums, Array]]:
        weights, (p, a) = known
        assert p is not None  # hidden layers save it
        r, sums, unconverged = respond(u, p, a)
        return multiply(r, weights.W.T, config.precision), (sums, unconverged)

    found: list[Sums] = []
    unconverged = jnp.zeros((), u.dtype)
    for stack, saved in zip(reversed(weights.stacks), reversed(stacks), strict=True):
        if len(stack.W) == 1:
            u, (sums, more) = layer(u, (only(stack), only(saved)))
            sums = _stacked(sums)
        else:
            u, (sums, more) = lax.scan(layer, u, (stack, saved), reverse=True)
        found.insert(0, sums)
        unconverged += jnp.sum(more)

    def first_layer(old: tuple[Sums, Array]) -> tuple[Sums, Array]:
        _, sums, more = respond(u, block.x, edge.a[0])
        return sums, old[1] + more

    def edge_layer(old: tuple[Sums, Array, Array]) -> tuple[Sums, Array, Array]:
        down, (sums, more) = layer(u, (only(weights.edge), only(edge)))
        return sums, old[1] + more, down

    nothing = only(_no_sums(weights.first, config))
    first, unconverged = where(stage, stage.holds_first, first_layer, (nothing, unconverged))
    edge_sums, down = None, u
    if weights.edge is not None:
        nothing = only(_no_sums(weights.edge, config))
        operand = nothing, unconverged, u
        sums, unconverged, down = where(stage, stage.holds_edge, edge_layer, operand)
        edge_sums = _stacked(sums)
    return Descended(_stacked(first), tuple(found), edge_sums, down, unconverged)


def _save_and_load(
    stage: Stage, buffers: InFlight, edge: Saved, stacks: tuple[Saved, ...], t: Array
) -> tuple[InFlight, Saved, tuple[Saved, ...]]:
    """Saves p and a of the block that goes up, and loads those of the block that comes down."""
    slots = 2 * stage.reach + 1
    save, load = t - stage.position, t + stage.position - 2 * stage.reach
    kept = jax.tree.map(
        lambda old, rows: lax.dynamic_update_index_in_dim(old, rows, save % slots, 0),
        (buffers.edge, buffers.stacks),
        (edge, stacks),
    )
    loaded = jax.tree.map(
        lambda rows: lax.dynamic_index_in_dim(rows, load % slots, 0, keepdims=False), kept
    )
    return buffers._replace(edge=kept[0], stacks=kept[1]), *loaded


def _empty_buffers(stage: Stage, weights: LayerGroups, batches: Batches) -> InFlight | None:
    """Nothing in flight; None for a stage that is the only one."""
    if not stage.reach:
        return None
    rows, slots = batches.rows.shape[-1], 2 * stage.reach + 1
    h, dtype = weights.first.W.shape[-1], batches.data.x.dtype
    message = jnp.zeros((rows, h), dtype)

    def of(layers: int) -> Saved:
        empty = jnp.zeros((slots, layers, rows, h), dtype)
        return Saved(empty, empty)

    return InFlight(message, message, of(1), tuple(of(len(stack.W)) for stack in weights.stacks))


def _sums(p: Array, r: Array, block: Block, config: PassConfig) -> Sums:
    """A block's statistics of one layer, given its inputs and r = nu (z - a)."""
    gram = multiply(p.T, p) if config.rule.needs_gram else None
    directions = multiply(p.T, r, config.precision)
    statistics = LayerStatistics(directions, jnp.sum(r, 0), jnp.sum(p, 0), gram)
    return Sums(statistics, _number(block))


def _no_sums(weights: Weights, config: PassConfig) -> Sums:
    """The sums of no samples, of a group of layers."""
    W, b = weights
    p = jnp.zeros(W.shape[:2], W.dtype)
    gram = jnp.zeros((*p.shape, p.shape[-1]), W.dtype) if config.rule.needs_gram else None
    statistics = LayerStatistics(jnp.zeros_like(W), jnp.zeros_like(b), p, gram)
    return Sums(statistics, jnp.zeros(len(W), W.dtype))


def _number(block: Block) -> Array:
    return jnp.sum(block.valid, dtype=block.x.dtype)


def _apply_rule(
    stage: Stage, weights: LayerGroups, rule_state: RuleState, sums: LayerGroups, config: PassConfig
) -> tuple[LayerGroups, RuleState]:
    """Adds the rule's updates to W and b of all layers, but those that no sample has come to."""
    sums = jax.tree.map(stage.collectives.samples.total, sums)
    if not isinstance(rule_state, LayerGroups):
        return _apply_to_network(weights, rule_state, sums, config)

    def one(weights: Weights, state: RuleState, sums: Sums) -> tuple[Weights, RuleState]:
        updates, new_state = config.rule.update(_mean(sums), state, weights, config.nu)
        moved = jax.tree.map(jnp.add, weights, updates)
        return choose(sums.number > 0, (moved, new_state), (weights, state))

    def on_group(
        held: Truth, weights: Weights, state: RuleState, sums: Sums
    ) -> tuple[Weights, RuleState]:
        return when(held, lambda old: jax.vmap(one)(*old, sums), (weights, state))

    stacks = tuple(True for _ in weights.stacks)
    held = LayerGroups(stage.holds_first, stacks, stage.holds_edge, stage.holds_last)
    pairs = map_groups(on_group, held, weights, rule_state, sums)
    return _sides(pairs)


def _sides(pairs: LayerGroups) -> tuple[LayerGroups, LayerGroups]:
    """Two things of every group, out of pairs of them."""
    new, states = (map_groups(operator.itemgetter(k), pairs) for k in range(2))
    return new, states


def _apply_to_network(
    weights: LayerGroups, state: RuleState, sums: LayerGroups, config: PassConfig
) -> tuple[LayerGroups, RuleState]:
    """The update of an Optax optimizer that has to see all layers at once, on a single stage."""
    assert isinstance(config.rule, OptaxRule)
    gradients = map_groups(lambda one: jax.vmap(_mean)(one).gradient, sums)
    params = ungroup(weights)
    updates, new_state = optax_update(config.rule.optimizer, ungroup(gradients), state, params)
    moved = jax.tree.map(jnp.add, weights, group(updates, weights.last.W.dtype))
    return choose(sums.last.number[0] > 0, (moved, new_state), (weights, state))


def _mean(sums: Sums) -> LayerStatistics:
    return jax.tree.map(lambda total: total / jnp.maximum(sums.number, 1), sums.statistics)


def _stacked(one: T) -> T:
    """A group of a single layer."""
    return jax.tree.map(lambda rows: rows[None], one)
