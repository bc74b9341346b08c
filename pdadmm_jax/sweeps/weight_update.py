"""What the samples of a batch add up to in every layer, and how the update rule follows it."""

from __future__ import annotations

import operator
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Float, Number
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.groups import LayerGroups, Weights, group, map_groups, ungroup
from pdadmm_jax.parallel.stage import Stage, Truth, choose, when
from pdadmm_jax.problems.problem import Problem
from pdadmm_jax.sweeps.rules import LayerStatistics, OptaxRule, Rule, RuleState, optax_update


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


def layer_sums(p: Array, r: Array, number: Array, config: PassConfig) -> Sums:
    """A block's statistics of one layer, given its inputs p and r = nu (z - a)."""
    gram = multiply(p.T, p) if config.rule.needs_gram else None
    directions = multiply(p.T, r, config.precision)
    statistics = LayerStatistics(directions, jnp.sum(r, 0), jnp.sum(p, 0), gram)
    return Sums(statistics, number)


def no_sums(weights: Weights, config: PassConfig) -> Sums:
    """The sums of no samples, of a group of layers."""
    W, b = weights
    p = jnp.zeros(W.shape[:2], W.dtype)
    gram = jnp.zeros((*p.shape, p.shape[-1]), W.dtype) if config.rule.needs_gram else None
    statistics = LayerStatistics(jnp.zeros_like(W), jnp.zeros_like(b), p, gram)
    return Sums(statistics, jnp.zeros(len(W), W.dtype))


def apply_rule(
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
