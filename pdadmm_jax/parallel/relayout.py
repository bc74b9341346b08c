"""The same variables in another arrangement: dealt out to the stages of a mesh, or layer by layer.

The plan of a single stage is the *canonical* arrangement: the first layer, the hidden ones in
order, the last layer.  From plan to plan, rows of layers move between the heads of the stages and
their stacks; which row goes where is a table of layer numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.admm.exchange import first_messages
from pdadmm_jax.admm.state import (
    Boundary,
    Data,
    Layer,
    Parts,
    State,
    Weights,
    boundaries_of,
    dtype_of,
    parts_of,
    per_sample,
    plan_of,
)
from pdadmm_jax.parallel.compression import Wire, check_wire
from pdadmm_jax.parallel.mesh import (
    P,
    checked_mesh,
    data_specs,
    made_on,
    put,
    shardings,
    shards,
    specs_of,
    stages,
    weight_specs,
    whole,
)
from pdadmm_jax.parallel.placement import Placement
from pdadmm_jax.parallel.plan import Plan, plan

Numbers = Sequence[int | None]  # the layer that every row belongs to; None for a row not in use

_VARIABLES = "Wbzapqu"


def params(state: State) -> list[tuple[Float[Array, "_n_in _n_out"], Float[Array, " _n_out"]]]:
    """The weights as plain (W, b) pairs, input to output, for any other library to take.

    If the state lives on a mesh, every device gets all of them.
    """
    stacks = [Weights(layer.W, layer.b) for layer in state.layers]
    if state.placement is not None:
        stacks = _weights_everywhere(state)
    return [(W[i], b[i]) for W, b in stacks for i in range(W.shape[0])]


def shard(state: State, data: Data, mesh: Mesh, wire: Wire = "full") -> tuple[State, Data]:
    """Puts a state and its data onto a mesh; ``step``, ``run`` and all others then work there.

    Depth need not be a multiple of the stages, see ``plan``, nor samples one of the data shards:
    rows that do not count fill up the last one.  The arrays pass through the host's memory; a
    state too large for that is better made on the mesh, by ``init``.

    Args:
        state: a state on a single device.
        data: the data it was made for.
        mesh: devices, with axes ``layer`` and ``data``; see ``make_mesh``.
        wire: type of the messages between stages.  "full" is the state's own; "float32",
            "bfloat16", "int8" and "int4" round what is sent, in such a way that both ends agree
            on the rounded value and the error is made up for later.

    Returns:
        State and data on the mesh.

    Raises:
        ValueError: a mesh or wire type that cannot be used, or a state that is on a mesh already.
    """
    if state.placement is not None:
        raise ValueError(
            f"the state lives on a mesh {dict(state.placement.mesh.shape)} already: unshard it "
            "first."
        )
    placement = placement_of(data.x.shape[0], plan_of(state).widths, mesh, wire)
    data = shard_data(data, mesh)
    padding = data.x.shape[0] - placement.samples

    def padded(path: Any, rows: Array) -> Array:
        return jnp.pad(rows, [(0, 0), (0, padding), (0, 0)]) if per_sample(path) else rows

    with _on_host():
        canonical = jax.tree_util.tree_map_with_path(padded, _to_host(state))
        dealt = dealt_out(canonical, placement)
    return put(dealt, shardings(placement.mesh, specs_of(dealt, dtype_of(state)))), data


def shard_data(data: Data, mesh: Mesh, *, evenly: bool = False) -> Data:
    """Puts data onto a mesh, samples split over its ``data`` axis.

    Args:
        data: data in the host's memory or on a single device.
        mesh: devices, with axes ``layer`` and ``data``.
        evenly: split the samples over all devices instead, as ``loss_and_accuracy`` and other
            measures of the plain network like it; a state's data need all samples on every stage.

    Returns:
        The data, filled up by samples that do not count if their number does not divide.
    """
    mesh = checked_mesh(mesh)
    full = data
    if padding := -data.x.shape[0] % (mesh.size if evenly else shards(mesh)):
        valid = np.ones(data.x.shape[0], bool) if data.valid is None else data.valid
        full = jax.tree.map(
            lambda rows: np.pad(rows, [(0, padding), *[(0, 0)] * (rows.ndim - 1)]),
            data._replace(valid=valid),
        )
    return put(full, shardings(mesh, data_specs(mesh, full, evenly=evenly)))


def unshard(state: State) -> State:
    """Brings a state back from its mesh, for one device: the inverse of ``shard``.

    Every device holds all of it on the way.
    """
    if state.placement is None:
        return state
    everywhere = NamedSharding(state.placement.mesh, P())
    canonical = jax.jit(in_order, out_shardings=everywhere)(state)
    samples = state.placement.samples

    def local(path: Any, leaf: Array) -> Array:
        rows = np.asarray(leaf)
        return jnp.asarray(rows[:, :samples] if per_sample(path) else rows)

    return jax.tree_util.tree_map_with_path(local, canonical)


def moved(state: State, mesh: Mesh | None, samples: int, wire: Wire = "full") -> State:
    """Deals a state that lies as ``abstract_elsewhere`` says out to the stages of a mesh.

    What rounded messages of its former stages had agreed on is forgotten: as at the start of a
    run, the first one brings all of f(z).

    Args:
        state: the state, on devices of the same mesh.
        mesh: where it is to live; None for a single device.
        samples: how many of its rows are samples.
        wire: type of the messages between the stages of the mesh.

    Raises:
        ValueError: a mesh or wire type that cannot be used.
    """
    target = None if mesh is None else placement_of(samples, plan_of(state).widths, mesh, wire)
    rows = samples + (-samples % shards(target.mesh) if target else 0)

    def with_rows(path: Any, leaf: Array) -> Array:
        return leaf[:, :rows] if per_sample(path) else leaf

    def deal(state: State) -> State:
        canonical = jax.tree_util.tree_map_with_path(with_rows, in_order(state))
        return dealt_out(canonical, target) if target else canonical

    if target is None:
        return jax.device_put(jax.jit(deal)(state), jax.devices()[0])
    return made_on(target.mesh, deal, state, partial(specs_of, dtype=dtype_of(state)))


def placement_of(samples: int, widths: Sequence[int], mesh: Mesh, wire: Wire) -> Placement:
    """Where a network of these widths lives on a mesh.

    Raises:
        ValueError: a mesh or wire type that cannot be used.
    """
    check_wire(wire)
    mesh = checked_mesh(mesh)
    return Placement(mesh, plan(widths, stages(mesh)), samples, wire)


def samples_on(mesh: Mesh, data: Data) -> int:
    """How many samples there are, without those that fill up the last shard.

    Raises:
        ValueError: the data have not been put on this mesh.
    """
    if getattr(data.x.sharding, "mesh", None) != checked_mesh(mesh):
        raise ValueError(
            f"x lives on {data.x.sharding}, but the state is to live on the mesh "
            f"{dict(mesh.shape)}: put the data there first, shard_data(data, mesh)."
        )
    rows = data.x.shape[0]
    if data.valid is None:
        return rows
    return int(jnp.max(jnp.where(data.valid, jnp.arange(1, rows + 1), 0)))


def put_weights(state: State, placement: Placement) -> State:
    """Puts a state that has nothing but weights onto a mesh."""
    with _on_host():
        dealt = rearranged(_to_host(state), placement.plan)._replace(placement=placement)
    return put(dealt, shardings(placement.mesh, weight_specs(placement.mesh, dealt)))


def in_order(state: State) -> State:
    """The canonical arrangement of a state, its rows of samples as they are."""
    canonical = plan(plan_of(state).widths, stages=1)
    return rearranged(state, canonical)


def dealt_out(state: State, placement: Placement) -> State:
    """A canonical state in the arrangement of a placement, its stages having heard nothing new."""
    dealt = rearranged(state, placement.plan)._replace(placement=placement)
    if placement.plan.stages == 1:
        return dealt
    q = jnp.concatenate([boundary.q for boundary in boundaries_of(state)])
    q_above = _rows(q, range(2, placement.plan.depth + 1), placement.plan.above)
    return dealt._replace(messages=first_messages(q_above, placement.wire))


def rearranged(state: State, target: Plan) -> State:
    """A state's variables in the arrangement of another plan for the same network."""
    source = plan_of(state)
    bare = State(state.layers, state.iteration)
    if source.stages == target.stages == 1:
        return bare
    first, *stacks, last = state.layers
    no: Any = None
    nothing = Layer(no, no, no, no, Boundary(no, no, no))
    stack = stacks[0] if stacks else nothing
    assert last.below is not None
    assert stack.below is not None

    outputs = partial(_shared, source.outputs, target.outputs, source, target)
    inputs = partial(_shared, source.inputs, target.inputs, source, target)
    (first_z, z), (first_a, a) = outputs(first.z, stack.z), outputs(first.a, stack.a)
    boundaries = zip(*map(inputs, last.below, stack.below), strict=True)
    last_below, below = (Boundary(*variables) for variables in boundaries)

    last_z, last_a = (_rows(rows, source.lasts, target.lasts) for rows in (last.z, last.a))

    (lowest, *middle), top, link = rearranged_parts(parts_of(state), source, target)
    layers = (
        Layer(lowest.W, lowest.b, first_z, first_a, None),
        *(Layer(weights.W, weights.b, z, a, below) for weights in middle),
        Layer(top.W, top.b, last_z, last_a, last_below),
    )
    return State(layers, state.iteration, link)


def rearranged_parts(parts: Parts, source: Plan, target: Plan) -> Parts:
    """What belongs to layers, such as weights, in the arrangement of another plan for them."""
    if source.stages == target.stages == 1:
        return parts
    (first, *stacks), last, link = parts
    kind = jax.tree.structure(last)  # that of all groups

    def leaves(group: Any) -> list[Any]:
        return [None] * kind.num_leaves if group is None else jax.tree.leaves(group)

    stack = stacks[0] if stacks else None
    hidden = partial(_shared, source.links, target.links, source, target)
    pairs = [hidden(*pair) for pair in zip(leaves(link), leaves(stack), strict=True)]
    bottom = [_rows(rows, source.firsts, target.firsts) for rows in leaves(first)]
    top = [_rows(rows, source.lasts, target.lasts) for rows in leaves(last)]
    lower = [bottom, [stacked for _, stacked in pairs]][: 2 if target.stack else 1]
    links = kind.unflatten([head for head, _ in pairs]) if any(target.links) else None
    return Parts(tuple(map(kind.unflatten, lower)), kind.unflatten(top), links)


def _shared(
    numbers: Numbers, wanted: Numbers, source: Plan, target: Plan, heads: Any, stacked: Any
) -> tuple[Any, Any]:
    """One variable's rows for heads and stacks, out of those of heads and stacks.

    Args:
        numbers: the layers of the rows of the old heads.
        wanted: those of the new ones.
        source: the old arrangement.
        target: the new one.
        heads: rows of the old heads; None if they have none.
        stacked: rows of the old stacks; None if there are none.
    """
    parts = [(heads, numbers), (stacked, source.stack)]
    held = [(rows, numbers) for rows, numbers in parts if rows is not None]
    if not held:
        return None, None
    rows = jnp.concatenate([rows for rows, _ in held])
    layers = [number for _, numbers in held for number in numbers]
    return _rows(rows, layers, wanted), _rows(rows, layers, target.stack)


def _on_host() -> AbstractContextManager[Any]:
    """Makes the host's memory the place for new arrays."""
    return jax.default_device(jax.local_devices(backend="cpu")[0])


def _to_host(state: State) -> State:
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state)


def _rows(rows: Array | None, layers: Numbers, wanted: Numbers) -> Any:
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


@jax.jit
def _weights_everywhere(state: State) -> list[Weights]:
    assert state.placement is not None
    weights = [Weights(layer.W, layer.b) for layer in in_order(state).layers]
    return whole(weights, state.placement.mesh)


def nonfinite(state: State) -> list[str]:
    """Which variables hold a NaN or an infinity, as "W of layer 3"; layers count from 1.

    Looks at every value: for the report after ``info.finite`` turned False.
    """
    plan = plan_of(state)
    first, *stacks, last = state.layers
    stacked = iter(plan.stack)
    held: list[tuple[Any, Numbers]] = [
        (first._replace(z=None, a=None), plan.firsts),
        (first._replace(W=None, b=None), plan.outputs),
        (state.link, plan.links),
        (last.below, plan.inputs),
        (last._replace(below=None), plan.lasts),
        *((stack, tuple(itertools.islice(stacked, stack.W.shape[0]))) for stack in stacks),
    ]
    bad = set()
    for variables, layers in held:
        for path, finite in jax.tree.leaves_with_path(_finite_rows(variables, state.placement)):
            broken = [
                layer
                for layer, ok in zip(layers, np.asarray(finite), strict=True)
                if layer and not ok
            ]
            bad |= {(layer, _VARIABLES.index(path[-1].name)) for layer in broken}
    return [f"{_VARIABLES[variable]} of layer {layer}" for layer, variable in sorted(bad)]


@partial(jax.jit, static_argnums=1)
def _finite_rows(variables: Any, placement: Placement | None) -> Any:
    """Whether all is finite, for every variable and layer at hand."""
    finite = jax.tree.map(lambda rows: jnp.isfinite(rows).all(range(1, rows.ndim)), variables)
    return finite if placement is None else whole(finite, placement.mesh)
