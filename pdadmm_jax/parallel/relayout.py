"""From one plan to another: which row of layers goes where.

The plan of a single stage is the *canonical* arrangement: the first layer, the hidden ones in
order, the last layer.  From plan to plan, rows of layers move between the edge slots of the stages
and their stacks; which row goes where is a table of layer numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pdadmm_jax._typing import Array
from pdadmm_jax.parallel.compression import MessageType, check_message_type
from pdadmm_jax.parallel.groups import LayerGroups
from pdadmm_jax.parallel.mesh import checked_mesh, put, replicate, shardings, stages, weight_specs
from pdadmm_jax.parallel.packing import AnyGroups, Packed, pack, unpack
from pdadmm_jax.parallel.placement import Placement
from pdadmm_jax.parallel.plan import Plan, plan

Numbers = Sequence[int | None]  # the layer that every row belongs to; None for a row not in use


def placement_of(
    widths: Sequence[int], mesh: Mesh, message_dtype: MessageType, samples: int = 0
) -> Placement:
    """Where a network of these widths lives on a mesh.

    Raises:
        ValueError: a mesh or message type that cannot be used.
    """
    check_message_type(message_dtype)
    mesh = checked_mesh(mesh)
    return Placement(mesh, plan(widths, stages(mesh)), samples, message_dtype)


def relayout_groups(groups: AnyGroups, source: Plan, target: Plan) -> Any:
    """What belongs to layers, such as weights, in the arrangement of another plan for them.

    Args:
        groups: ``LayerGroups``, or ``Packed`` where the source's stages are unequal.
        source: their arrangement.
        target: that of the result, which is ``Packed`` where its stages are unequal.
    """
    if isinstance(groups, Packed):
        groups, source = unpack(groups), plan(source.widths, stages=1)
    if source.stages == target.stages == 1:
        return groups
    if not target.alike:
        return pack(groups, target)
    kind = jax.tree.structure(groups.last)  # that of all groups

    def leaves(group: Any) -> list[Any]:
        return [None] * kind.num_leaves if group is None else jax.tree.leaves(group)

    stack = groups.stacks[0] if groups.stacks else None
    hidden = partial(exchange_rows, source.edge_hidden, target.edge_hidden, source, target)
    pairs = [hidden(*pair) for pair in zip(leaves(groups.edge), leaves(stack), strict=True)]
    first = [select_rows(rows, source.firsts, target.firsts) for rows in leaves(groups.first)]
    last = [select_rows(rows, source.lasts, target.lasts) for rows in leaves(groups.last)]
    stacks = (kind.unflatten([rows for _, rows in pairs]),) if target.stack else ()
    edge = kind.unflatten([rows for rows, _ in pairs]) if any(target.edge_hidden) else None
    return LayerGroups(kind.unflatten(first), stacks, edge, kind.unflatten(last))


def exchange_rows(
    numbers: Numbers, wanted: Numbers, source: Plan, target: Plan, edges: Any, stacked: Any
) -> tuple[Any, Any]:
    """One variable's rows for edge slots and stacks, out of those of edge slots and stacks.

    Args:
        numbers: the layers of the rows of the old edge slots.
        wanted: those of the new ones.
        source: the old arrangement.
        target: the new one.
        edges: rows of the old edge slots; None if they have none.
        stacked: rows of the old stacks; None if there are none.
    """
    parts = [(edges, numbers), (stacked, source.stack)]
    held = [(rows, numbers) for rows, numbers in parts if rows is not None]
    if not held:
        return None, None
    rows = jnp.concatenate([rows for rows, _ in held])
    layers = [number for _, numbers in held for number in numbers]
    return select_rows(rows, layers, wanted), select_rows(rows, layers, target.stack)


def select_rows(rows: Array | None, layers: Numbers, wanted: Numbers) -> Any:
    """The rows that belong to the wanted layers, zeros for None; None if there are no such rows."""
    if rows is None or not any(wanted):
        return None
    table: dict[int | None, int] = {layer: row for row, layer in enumerate(layers) if layer}
    found = rows[jnp.asarray([table.get(layer, 0) for layer in wanted])]
    if all(wanted):
        return found
    used = jnp.expand_dims(
        jnp.asarray([layer is not None for layer in wanted]), range(1, rows.ndim)
    )
    return jnp.where(used, found, jnp.zeros((), rows.dtype))


def put_weights(weights: LayerGroups, placement: Placement) -> AnyGroups:
    """Puts weights of a single stage onto a mesh."""
    with on_host():
        source = plan(placement.plan.widths, stages=1)
        laid_out = relayout_groups(to_host(weights), source, placement.plan)
    return put(laid_out, shardings(placement.mesh, weight_specs(placement.mesh, laid_out)))


@partial(jax.jit, static_argnums=1)
def replicated_weights(weights: AnyGroups, placement: Placement) -> LayerGroups:
    """Weights on a mesh in the arrangement of a single stage, all of them on every device."""
    canonical = plan(placement.plan.widths, stages=1)
    return replicate(relayout_groups(weights, placement.plan, canonical), placement.mesh)


def numbered(groups: LayerGroups, plan: Plan) -> list[tuple[Any, Numbers]]:
    """Every group of layers with the layers that its rows belong to."""
    stacked = iter(plan.stack)
    stacks = [
        (stack, [next(stacked) for _ in range(jax.tree.leaves(stack)[0].shape[0])])
        for stack in groups.stacks
    ]
    hidden = [] if groups.edge is None else [(groups.edge, plan.edge_hidden)]
    return [(groups.first, plan.firsts), *hidden, *stacks, (groups.last, plan.lasts)]


def nonfinite_rows(
    groups: Sequence[tuple[Any, Numbers]], placement: Placement | None
) -> set[tuple[int, str]]:
    """Which variables hold a NaN or an infinity: (layer from 1, name)."""
    found = set()
    for variables, layers in groups:
        for path, finite in jax.tree.leaves_with_path(_finite_rows(variables, placement)):
            rows = zip(layers, np.asarray(finite), strict=True)
            found |= {(layer, path[-1].name) for layer, ok in rows if layer and not ok}
    return found


@partial(jax.jit, static_argnums=1)
def _finite_rows(variables: Any, placement: Placement | None) -> Any:
    """Whether all is finite, for every variable and row of a group of layers."""
    finite = jax.tree.map(lambda rows: jnp.isfinite(rows).all(range(1, rows.ndim)), variables)
    return finite if placement is None else replicate(finite, placement.mesh)


def on_host() -> AbstractContextManager[Any]:
    """Makes the host's memory the place for new arrays."""
    return jax.default_device(jax.local_devices(backend="cpu")[0])


def to_host(tree: Any) -> Any:
    """The same arrays in the host's memory."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)
