"""Stages whose layers differ in shape: one program, of which each runs a branch of its own.

All devices of a mesh run one program on arrays of one shape.  Where hidden widths differ, so do the
layers of the stages.  What a stage keeps of them then lies in arrays as long as the stage with most
of them needs, and in the program a conditional has a branch for every stage, which takes out of
these arrays what its stage holds and works on that, each layer in its own shape:

* weights and what belongs to them lie one after the other (``Packed``), zeros at the end;
* rows of samples lie side by side (``side_by_side``), zeros on the right;
* messages are as wide as the widest hidden layer (``fit``).

So padding takes memory, never products.  The program has the layers of all stages, and a branch
copies what it takes out.  Collectives stay outside of the conditionals, for all stages take part in
them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pdadmm_jax._pytree import pytree_dataclass
from pdadmm_jax._typing import Array, Float, Shaped
from pdadmm_jax.parallel.groups import LayerGroups, join_stacks, split_stacks
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.parallel.stage import Stage


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

    def lengths(self, stage: int) -> dict[str, int]:
        """How many numbers of every dtype belong to the layers of a stage."""
        found = dict.fromkeys((array.dtype.name for array in self.shapes[0]), 0)
        for layer in self.plan.layers[stage]:
            for array in self.shapes[layer - 1]:
                found[array.dtype.name] += array.size
        return found

    @property
    def length(self) -> dict[str, int]:
        """The same of the stage that has most."""
        every = list(map(self.lengths, range(self.plan.stages)))
        return {dtype: max(one[dtype] for one in every) for dtype in every[0]}


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
    """What belongs to layers, such as their weights, packed stage by stage.

    Attributes:
        rows: of every dtype, a row for each stage; inside of a mesh's program a stage's own.
        layout: what lies where.
    """

    rows: Mapping[str, Shaped[Array, "stages length"]]
    layout: Layout = dataclasses.field(metadata={"static": True})


AnyGroups = LayerGroups | Packed


def pack(groups: LayerGroups, target: Plan) -> Packed:
    """What belongs to layers, in the groups of a single stage, packed for the stages of a plan."""
    split = split_stacks(groups, heights_of(target))
    layers = [split.first, *split.stacks, split.last]
    shapes = [tuple(map(_shape, jax.tree.leaves(layer))) for layer in layers]
    layout = Layout(target, jax.tree.structure(layers[0]), tuple(shapes))
    rows = [
        _row(layout, [layers[number - 1] for number in held], layout.length)
        for held in target.layers
    ]
    return Packed(jax.tree.map(lambda *rows: jnp.stack(rows), *rows), layout)


def unpack(packed: Packed) -> LayerGroups:
    """What belongs to layers, in the groups of a single stage."""
    plan = packed.layout.plan
    held = [
        layer
        for stage in range(plan.stages)
        for layer in _held(packed.layout, stage, _own_row(packed, stage))
    ]
    first, *hidden, last = held
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
    held = _held(layout, stage, _own_row(packed, 0))
    numbers = layout.plan.layers[stage]
    if numbers and numbers[0] == 1:
        first = held.pop(0)
    if numbers and numbers[-1] == layout.plan.depth:
        last = held.pop()
    return LayerGroups(first, tuple(held), None, last)


def closed(groups: LayerGroups, layout: Layout, stage: int) -> Packed:
    """``opened``, reversed."""
    plan = layout.plan
    first = [groups.first] * (plan.firsts[stage] is not None)
    last = [groups.last] * (plan.lasts[stage] is not None)
    row = _row(layout, [*first, *groups.stacks, *last], layout.length)
    return Packed(jax.tree.map(lambda numbers: numbers[None], row), layout)


def zeros_of(function: Callable[[Any], Any], packed: Packed) -> Packed:
    """Zeros of the shapes that a function of what belongs to a layer returns, packed likewise."""
    layout = packed.layout
    found = [jax.eval_shape(function, layout.kind.unflatten(one)) for one in layout.shapes]
    shapes = tuple(tuple(map(_shape, jax.tree.leaves(one))) for one in found)
    layout = Layout(layout.plan, jax.tree.structure(found[0]), shapes)
    stages = len(jax.tree.leaves(packed)[0])
    rows = {dtype: jnp.zeros((stages, length), dtype) for dtype, length in layout.length.items()}
    return Packed(rows, layout)


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
            opened = _opened_in((carry, given), own.known_index)
            new, results = function(own, opened[0], *opened[1])
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
        return plan.widths[-2], plan.widths[-2]
    upper, lower = plan.upper[stage.known_index], plan.lower[stage.known_index]
    below = plan.n_in(upper[0]) if upper else plan.n_out(1)
    return below, plan.n_out(lower[-1]) if lower else plan.n_in(plan.depth)


def widest(layers: Sequence[Sequence[int]], width: Callable[[int], int]) -> int:
    """Columns for the layers of any stage, side by side.

    Args:
        layers: of every stage.
        width: of a layer.
    """
    return max(sum(map(width, held)) for held in layers)


def fit(rows: Shaped[Array, "*rows _width"], width: int) -> Shaped[Array, "*rows width"]:
    """The same rows so many columns wide: zeros are added, or columns left out."""
    missing = width - rows.shape[-1]
    if missing == 0:
        return rows
    if missing < 0:
        return rows[..., :width]
    return jnp.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)])


def side_by_side(
    rows: Sequence[Float[Array, "*rows _width"]], width: int
) -> Float[Array, "*rows width"]:
    """Rows of samples of several layers, side by side, and zeros up to the width."""
    return fit(jnp.concatenate(rows, -1), width)


def apart(
    rows: Float[Array, "*rows width"], widths: Sequence[int]
) -> list[Float[Array, "*rows _width"]]:
    """``side_by_side``, reversed."""
    return jnp.split(rows, np.cumsum(widths), -1)[:-1]


def _own_row(packed: Packed, row: int) -> dict[str, Array]:
    return {dtype: rows[row] for dtype, rows in packed.rows.items()}


def _row(layout: Layout, layers: Sequence[Any], length: Mapping[str, int]) -> dict[str, Array]:
    """What belongs to layers, one after the other, of every dtype apart."""
    parts: dict[str, list[Array]] = {dtype: [] for dtype in length}
    for layer in layers:
        for array in jax.tree.leaves(layer):
            parts[array.dtype.name].append(array.ravel())
    return {
        dtype: fit(jnp.concatenate([jnp.zeros(0, dtype), *arrays]), length[dtype])
        for dtype, arrays in parts.items()
    }


def _held(layout: Layout, stage: int, row: Mapping[str, Array]) -> list[Any]:
    """What belongs to every layer of a stage, out of its row."""
    begin = dict.fromkeys(row, 0)
    layers = []
    for number in layout.plan.layers[stage]:
        arrays = []
        for array in layout.shapes[number - 1]:
            dtype = array.dtype.name
            end = begin[dtype] + array.size
            arrays.append(row[dtype][begin[dtype] : end].reshape(array.shape))
            begin[dtype] = end
        layers.append(layout.kind.unflatten(arrays))
    return layers


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
