"""Stages whose layers differ in shape: one program, of which each runs a branch of its own.

All devices of a mesh run one program on arrays of one shape.  Where hidden widths differ, so do the
layers of the stages.  So a stage's layers are counted from below, and what belongs to the k-th
layer of any stage lies in arrays as large as the largest k-th layer needs.  In the program a
conditional has a branch for every stage, which takes out of these arrays what its stage holds and
works on that, each layer in its own shape:

* weights and what belongs to them are flat, zeros at the end (``Packed``);
* rows of samples have zeros on the right (``padded``);
* messages are as wide as the widest hidden layer (``fit``).

So padding takes memory, never products.  The program has the layers of all stages.  XLA copies most
of what a branch is given and returns.  Collectives stay outside of the conditionals, for all stages
take part in them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._pytree import pytree_dataclass
from pdadmm_jax._typing import Array, Float, Shaped
from pdadmm_jax.parallel.groups import LayerGroups, join_stacks, split_stacks
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.parallel.stage import Stage

Rows = tuple[Float[Array, "..."], ...]  # of samples, in the k-th layers of stages


@dataclasses.dataclass(frozen=True)
class Layout:
    """What is packed.

    Attributes:
        plan: which stage holds which layers.
        kind: the structure of what belongs to a layer.
        shapes: of the arrays of every layer.
    """

    plan: Plan
    kind: Any
    shapes: tuple[tuple[jax.ShapeDtypeStruct, ...], ...]

    @property
    def lengths(self) -> tuple[tuple[int, ...], ...]:
        """How long the arrays of the k-th layers of all stages are."""
        levels = itertools.zip_longest(*self.plan.layers)
        return tuple(
            tuple(max(array.size for array in arrays) for arrays in zip(*of_level, strict=True))
            for of_level in ([self.shapes[n - 1] for n in level if n] for level in levels)
        )


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
    """What belongs to layers, such as their weights, packed stage by stage.

    Attributes:
        levels: for every k the arrays of the k-th layers, flat, a row for each stage; inside of a
            mesh's program a stage's own row.
        layout: what lies where.
    """

    levels: tuple[tuple[Shaped[Array, "stages _length"], ...], ...]
    layout: Layout = dataclasses.field(metadata={"static": True})


AnyGroups = LayerGroups | Packed


def pack(groups: LayerGroups, target: Plan) -> Packed:
    """What belongs to layers, in the groups of a single stage, packed for the stages of a plan."""
    split = split_stacks(groups, heights_of(target))
    layers = [split.first, *split.stacks, split.last]
    shapes = [tuple(map(_shape, jax.tree.leaves(layer))) for layer in layers]
    layout = Layout(target, jax.tree.structure(layers[0]), tuple(shapes))
    stages = [_closed([layers[n - 1] for n in held], layout) for held in target.layers]
    return jax.tree.map(lambda *rows: jnp.concatenate(rows), *stages)


def unpack(packed: Packed) -> LayerGroups:
    """What belongs to layers, in the groups of a single stage."""
    plan = packed.layout.plan
    first, *hidden, last = (
        layer for stage in range(plan.stages) for layer in _held(packed, stage, row=stage)
    )
    return join_stacks(LayerGroups(first, tuple(hidden), None, last), heights_of(plan))


def opened(packed: Packed, stage: int) -> LayerGroups:
    """What belongs to the layers of a stage, each in a group of its own.

    The first and the last layer of the network are zero where the stage does not hold them.

    Args:
        packed: with the row of this stage alone.
        stage: its index.
    """
    layout = packed.layout
    first, last = (
        layout.kind.unflatten([jnp.zeros(one.shape, one.dtype) for one in layout.shapes[end]])
        for end in (0, -1)
    )
    held = _held(packed, stage, row=0)
    if layout.plan.firsts[stage]:
        first = held.pop(0)
    if layout.plan.lasts[stage]:
        last = held.pop()
    return LayerGroups(first, tuple(held), None, last)


def closed(groups: LayerGroups, layout: Layout, stage: int) -> Packed:
    """``opened``, reversed."""
    first = [groups.first] * bool(layout.plan.firsts[stage])
    last = [groups.last] * bool(layout.plan.lasts[stage])
    return _closed([*first, *groups.stacks, *last], layout)


def zeros_of(function: Callable[[Any], Any], packed: Packed) -> Packed:
    """Zeros of the shapes that a function of what belongs to a layer returns, packed likewise."""
    layout = packed.layout
    found = [jax.eval_shape(function, layout.kind.unflatten(one)) for one in layout.shapes]
    shapes = tuple(tuple(map(_shape, jax.tree.leaves(one))) for one in found)
    layout = Layout(layout.plan, jax.tree.structure(found[0]), shapes)
    return _closed([], layout, len(jax.tree.leaves(packed)[0]))


def on_stage(
    stage: Stage, function: Callable[..., tuple[Any, Any]], carry: Any, *given: Any
) -> tuple[Any, Any]:
    """Calls a function of what a stage holds, in a branch for every stage where they differ.

    Args:
        stage: the stage.
        function: (stage, carry, *given) -> (new carry, results).  It has no collectives over
            stages, and its results are of the same shapes on all of them, declared to vary alike.
        carry: pytree; what is ``Packed`` in it comes ``opened``, and is ``closed`` afterwards.
        *given: pytrees, which come ``opened`` too.
    """
    if not stage.unequal:
        return function(stage, carry, *given)

    def branch_of(own: Stage) -> Callable[[Any, Any], Any]:
        def branch(carry: Any, given: Any) -> Any:
            own_carry, own_given = _opened_in((carry, given), own.known_index)
            new, results = function(own, own_carry, *own_given)
            new = _closed_like(carry, new, own.known_index)
            # Branches have to agree on what differs from device to device: what did so before.
            new = jax.tree.map(lambda new, old: jnp.where(True, new, old), new, carry)
            return new, results

        return branch

    return lax.switch(stage.position, list(map(branch_of, stage.unequal)), carry, given)


def message_widths(stage: Stage) -> tuple[int, int]:
    """How wide the arrays are that a stage receives: of f(z) from below, of u or q from above."""
    plan = stage.plan
    if plan.alike:
        return plan.message_width, plan.message_width
    upper, lower = plan.upper[stage.known_index], plan.lower[stage.known_index]
    below = plan.n_in(upper[0]) if upper else plan.n_out(1)
    return below, plan.n_out(lower[-1]) if lower else plan.n_in(plan.depth)


def widest(layers: Sequence[Sequence[int]], width: Callable[[int], int]) -> tuple[int, ...]:
    """How wide the k-th layers of all stages are at most, for every k.

    Args:
        layers: of every stage.
        width: of a layer.
    """
    levels = itertools.zip_longest(*layers)
    return tuple(max(width(layer) for layer in level if layer) for level in levels)


def fit(rows: Shaped[Array, "*rows _width"], width: int) -> Shaped[Array, "*rows width"]:
    """The same rows so many columns wide: zeros are added, or columns left out."""
    missing = width - rows.shape[-1]
    if missing == 0:
        return rows
    if missing < 0:
        return rows[..., :width]
    return jnp.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)])


def padded(
    rows: Sequence[Float[Array, "*rows _width"]],
    widths: Sequence[int],
    like: Float[Array, "*rows _any"],
) -> Rows:
    """Rows of samples of a stage's layers, as wide as those of any stage.

    Args:
        rows: of every layer that the stage holds.
        widths: of the result.
        like: an array with as many rows, for the layers that it does not hold.
    """
    missing = [like[..., :0]] * (len(widths) - len(rows))
    return tuple(map(fit, [*rows, *missing], widths))


def unpadded(
    rows: Rows, layers: Sequence[int], width: Callable[[int], int]
) -> list[Float[Array, "*rows _width"]]:
    """``padded``, reversed.

    Args:
        rows: of the layers of a stage.
        layers: their numbers.
        width: of a layer.
    """
    return list(map(fit, rows, map(width, layers)))


def _held(packed: Packed, stage: int, row: int) -> list[Any]:
    """What belongs to every layer of a stage, which has this row."""
    layout = packed.layout
    return [
        layout.kind.unflatten(
            [
                fit(array[row], shape.size).reshape(shape.shape)
                for array, shape in zip(arrays, layout.shapes[number - 1], strict=True)
            ]
        )
        for arrays, number in zip(packed.levels, layout.plan.layers[stage], strict=False)
    ]


def _closed(layers: Sequence[Any], layout: Layout, rows: int = 1) -> Packed:
    """What belongs to the layers of a stage, packed; zeros for those it has less than others."""
    dtypes = [array.dtype for array in layout.shapes[0]]
    levels = []
    for layer, lengths in itertools.zip_longest(layers, layout.lengths):
        if layer is None:
            arrays = [jnp.zeros((rows, 0), dtype) for dtype in dtypes]
        else:
            arrays = [array.reshape(rows, -1) for array in jax.tree.leaves(layer)]
        levels.append(tuple(map(fit, arrays, lengths)))
    return Packed(tuple(levels), layout)


def heights_of(plan: Plan) -> list[int]:
    """How many layers each stack of a single stage has."""
    shapes = itertools.groupby(itertools.pairwise(plan.widths[1:-1]))
    return [len(list(same)) for _, same in shapes]


def _shape(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _is_packed(tree: Any) -> bool:
    return isinstance(tree, Packed)


def _opened_in(tree: Any, stage: int) -> Any:
    return jax.tree.map(
        lambda one: opened(one, stage) if _is_packed(one) else one, tree, is_leaf=_is_packed
    )


def _closed_like(old: Any, new: Any, stage: int) -> Any:
    leaves, structure = jax.tree.flatten(old, is_leaf=_is_packed)
    pairs = zip(leaves, structure.flatten_up_to(new), strict=True)
    return structure.unflatten(
        [closed(one, before.layout, stage) if _is_packed(before) else one for before, one in pairs]
    )
