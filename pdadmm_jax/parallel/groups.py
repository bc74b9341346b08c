"""Layers in groups of one shape: the form in which weights, and all that belongs to them, are kept.

Layers of one shape share arrays with a first axis over layers, so that one program solves them
all.  The groups are the first layer, the stacks of hidden layers, the hidden layer in the edge slot
of a stage (``plan``), and the last layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, Float, Params
from pdadmm_jax.parallel.plan import Plan, plan

T = TypeVar("T")


class Weights(NamedTuple):
    """Weights of n layers of one shape."""

    W: Float[Array, "n n_in n_out"]
    b: Float[Array, "n n_out"]


class LayerGroups(NamedTuple):
    """One thing of each group of layers, such as their weights.

    Attributes:
        first: of the first layer.
        stacks: of the hidden layers; consecutive ones of one shape share a stack.
        edge: of the hidden layers in the edge slots of the stages; None where the plan has none.
        last: of the last layer.
    """

    first: Any
    stacks: tuple[Any, ...]
    edge: Any
    last: Any

    @property
    def plan(self) -> Plan:
        """Of weights in the groups of a single stage: its plan."""
        groups = (self.first, *self.stacks, self.last)
        widths = [group.W.shape[-1] for group in groups for _ in range(group.W.shape[-3])]
        return plan((self.first.W.shape[-2], *widths), stages=1)


def map_groups(function: Callable[..., Any], *groups: LayerGroups) -> LayerGroups:
    """Applies a function to every group of layers."""
    first, stacks, edge, last = zip(*groups, strict=True)
    return LayerGroups(
        first=function(*first),
        stacks=tuple(function(*stack) for stack in zip(*stacks, strict=True)),
        edge=None if any(one is None for one in edge) else function(*edge),
        last=function(*last),
    )


def alike(groups: LayerGroups, value: Any) -> LayerGroups:
    """The same thing for every group of layers."""
    return map_groups(lambda _: value, groups)


# Hidden layers of a stage that programs have one by one, which spares copies of their weights but
# makes the program longer; of more than these, all in a loop over layers.
UNROLLED = 32


def group(params: Params, dtype: Any, *, unrolled: bool = False) -> LayerGroups:
    """The weights of a network, in the groups of a single stage.

    Args:
        params: (W, b) of every layer.
        dtype: of the result.
        unrolled: have a stack for every layer, unless there are too many.
    """
    first, *hidden, last = (
        Weights(jnp.asarray(W, dtype)[None], jnp.asarray(b, dtype)[None]) for W, b in params
    )
    stacks = [list(same) for _, same in itertools.groupby(hidden, lambda one: one.W.shape)]
    if unrolled and len(hidden) <= UNROLLED:
        stacks = [[one] for one in hidden]
    return LayerGroups(first, tuple(map(_joined, stacks)), None, last)


def heights(weights: LayerGroups) -> list[int]:
    """How many layers each stack has."""
    return [len(stack.W) for stack in weights.stacks]


def split_stacks(groups: LayerGroups, heights: Sequence[int]) -> LayerGroups:
    """The same with a stack for every layer, so that none has to be copied out of one and back."""
    stacks = [
        jax.tree.map(lambda rows, k=k: rows[k : k + 1], stack)
        for stack, height in zip(groups.stacks, heights, strict=True)
        for k in range(height)
    ]
    return groups._replace(stacks=tuple(stacks))


def join_stacks(groups: LayerGroups, heights: Sequence[int]) -> LayerGroups:
    """The same in stacks of so many layers, out of a stack for every layer."""
    layers = iter(groups.stacks)
    stacks = (list(itertools.islice(layers, height)) for height in heights)
    return groups._replace(stacks=tuple(map(_joined, stacks)))


def ungroup(weights: LayerGroups) -> list[tuple[Array, Array]]:
    """(W, b) of every layer, input to output, of weights in the groups of a single stage.

    Weights with further axes in front, as ``jax.vmap`` makes them, keep these axes.
    """
    return [
        (group.W[..., layer, :, :], group.b[..., layer, :])
        for group in (weights.first, *weights.stacks, weights.last)
        for layer in range(group.W.shape[-3])
    ]


def only(stacked: T) -> T:
    """The only one of a group of layers, without the axis of layers."""
    return jax.tree.map(lambda rows: rows[0], stacked)


def each_layer(function: Callable[..., T], *groups: Any) -> T:
    """Applies a function of single layers to all layers of a group."""
    if len(jax.tree.leaves(groups[0])[0]) > 1:
        return jax.vmap(function)(*groups)
    return jax.tree.map(lambda rows: rows[None], function(*map(only, groups)))


def _joined(stacks: Sequence[Any]) -> Any:
    """One group of the layers of several."""
    if len(stacks) == 1:
        return stacks[0]
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *stacks)
