"""What the samples of a batch add up to in every layer, and how the update rule follows it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Float, Number
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.groups import (
    LayerGroups,
    Weights,
    alike,
    each_layer,
    group,
    heights,
    join_stacks,
    map_groups,
    split_stacks,
    ungroup,
)
from pdadmm_jax.parallel.stage import Stage, Truth, both, when
from pdadmm_jax.problems.problem import Problem
from pdadmm_jax.sweeps.rules import LayerStatistics, OptaxRule, Rule, RuleState, optax_update


class PassConfig(Problem, Protocol):
    """What a pass has to know beside the samples."""

    @property
    def nu(self) -> Number: ...

    @property
    def rule(self) -> Rule: ...

    @property
    def mu(self) -> Number | None: ...

    @property
    def bias(self) -> bool: ...


class Passed(NamedTuple):
    """What samples leave in the layers of a group as they pass.

    Attributes:
        p: inputs.
        r: nu (z - a), zero for samples that do not count.
    """

    p: Float[Array, "n rows n_in"]
    r: Float[Array, "n rows n_out"]


def layer_sums(passed: Passed, config: PassConfig) -> LayerStatistics:
    """The statistics of the layers of a group, added up over the samples that have passed."""

    def one(passed: Passed) -> LayerStatistics:
        p, r = passed
        gram = square = None
        if config.rule.needs_gram:
            gram, square = multiply(p.T, p), jnp.sum(jnp.square(r))
        directions = multiply(p.T, r, config.precision)
        return LayerStatistics(directions, jnp.sum(r, 0), jnp.sum(p, 0), gram, square)

    return each_layer(one, passed)


def _of_objective(
    statistics: LayerStatistics, weights: Weights, config: PassConfig
) -> LayerStatistics:
    """The statistics with what the objective has beside the risk, and without b where it is fixed.

    Without a mean input the Gram matrix of (p, 1) does not couple b to W, and b has no direction.
    """
    if config.mu is not None:
        statistics = statistics._replace(W=statistics.W - config.mu * weights.W)
    if not config.bias:
        b, p = jnp.zeros_like(statistics.b), jnp.zeros_like(statistics.p)
        statistics = statistics._replace(b=b, p=p)
    return statistics


def no_sums(weights: Weights, config: PassConfig) -> LayerStatistics:
    """The sums of no samples, of a group of layers."""
    W, b = weights
    p = jnp.zeros(W.shape[:2], W.dtype)
    gram = square = None
    if config.rule.needs_gram:
        gram, square = jnp.zeros((*p.shape, p.shape[-1]), W.dtype), jnp.zeros(len(W), W.dtype)
    return LayerStatistics(jnp.zeros_like(W), jnp.zeros_like(b), p, gram, square)


def layers_held(stage: Stage, weights: LayerGroups) -> LayerGroups:
    """Whether the stage holds layers of each group."""
    stacks = tuple(True for _ in weights.stacks)
    return LayerGroups(stage.holds_first, stacks, stage.holds_edge, stage.holds_last)


def apply_rule(
    stage: Stage,
    weights: LayerGroups,
    rule_state: RuleState,
    batch: LayerGroups,
    number: LayerGroups,
    active: LayerGroups,
    config: PassConfig,
) -> tuple[LayerGroups, RuleState]:
    """Adds the rule's updates to W and b.

    Args:
        stage: the stage.
        weights: of its layers.
        rule_state: what the rule keeps of them.
        batch: of every group of layers, a function that returns the statistics of what a batch has
            left in it, added up over the samples at hand.
        number: how many samples have passed every group, on all devices of the stage.
        active: which groups' weights are to move.
        config: numbers and structure.
    """

    def mean(
        sums: Callable[[], LayerStatistics], number: Array, weights: Weights
    ) -> LayerStatistics:
        share = 1 / jnp.maximum(number, 1)  # a factor is multiplied along the way, a divisor is not
        total = stage.collectives.samples.total
        means = jax.tree.map(lambda own: share * total(own), sums())
        means = means._replace(number=jnp.broadcast_to(number, len(weights.b)))
        return _of_objective(means, weights, config)

    if not isinstance(rule_state, LayerGroups):
        gradients = map_groups(lambda *given: mean(*given).gradient, batch, number, weights)
        step = partial(_apply_to_network, gradients=gradients, config=config)
        return when(active.last, lambda old: step(*old), (weights, rule_state))

    def one(
        weights: Weights, state: RuleState, statistics: LayerStatistics
    ) -> tuple[Weights, RuleState]:
        _check_rule_state(state, weights, config.rule)
        updates, state = config.rule.update(statistics, state, weights, config.nu)
        return jax.tree.map(jnp.add, weights, updates), state

    def on_group(
        held: Truth,
        active: Truth,
        weights: Weights,
        state: RuleState,
        sums: Callable[[], LayerStatistics],
        number: Array,
    ) -> tuple[Weights, RuleState]:
        def move(old: tuple[Weights, RuleState]) -> tuple[Weights, RuleState]:
            # Of a single layer too: without its axis the compiler would copy the rule's state.
            return jax.vmap(one)(*old, mean(sums, number, weights))

        return when(both(held, active), move, (weights, state))

    held = layers_held(stage, weights)
    pairs = map_groups(on_group, held, active, weights, rule_state, batch, number)
    new, states = (map_groups(operator.itemgetter(k), pairs) for k in range(2))
    return new, states


def _check_rule_state(state: RuleState, weights: Weights, rule: Rule) -> None:
    """Refuses what another rule keeps, or the same one with other fields.

    Raises:
        ValueError: the rule's state of a layer has another structure.
    """
    expected = jax.eval_shape(rule.init, weights)
    if jax.tree.structure(state) != jax.tree.structure(expected):
        raise ValueError(
            f"the state keeps {len(jax.tree.leaves(state))} arrays of a layer for its update rule, "
            f"but {type(rule).__name__} as configured keeps {len(jax.tree.leaves(expected))}: go "
            "on with the rule that the state was made for, or begin with its weights, "
            "sweeps.from_params(pdadmm_jax.params(state), data, config)."
        )


def apply_rule_to_all(
    stage: Stage,
    weights: LayerGroups,
    rule_state: RuleState,
    batch: LayerGroups,
    number: Array,
    active: Truth,
    config: PassConfig,
) -> tuple[LayerGroups, RuleState]:
    """``apply_rule`` where as many samples have passed all groups, whose weights move or do not."""
    alikes = alike(weights, number), alike(weights, active)
    return apply_rule(stage, weights, rule_state, batch, *alikes, config)


def _apply_to_network(
    weights: LayerGroups, state: RuleState, gradients: LayerGroups, config: PassConfig
) -> tuple[LayerGroups, RuleState]:
    """The update of an Optax optimizer that has to see all layers at once, on a single stage."""
    assert isinstance(config.rule, OptaxRule)
    params = ungroup(weights)
    updates, state = optax_update(config.rule.optimizer, ungroup(gradients), state, params)
    grouped = group(updates, weights.last.W.dtype)
    grouped = join_stacks(split_stacks(grouped, heights(grouped)), heights(weights))
    return jax.tree.map(jnp.add, weights, grouped), state
