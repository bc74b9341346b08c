"""Everything that knows of a mesh: its axes, what is split over which, and every collective.

Two axes, either of which may be 1 or missing: ``layer``, over which the stages of a plan are laid
out, and ``data``, over which samples are split.  Each stage gets its rows of every array and talks
through its ``Mail``; the mathematics is told nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pdadmm_jax._typing import Array
from pdadmm_jax.admm.state import Boundary, Data, Layer, Messages, State, Weights, per_sample
from pdadmm_jax.parallel.compression import exact
from pdadmm_jax.parallel.placement import Placement
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.parallel.sample_reductions import Samples
from pdadmm_jax.parallel.stage import Mail, stage_of

LAYER, DATA = "layer", "data"


def make_mesh(layer: int = 1, data: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of layer x data devices, with neighbouring stages on devices that JAX puts together.

    Args:
        layer: number of stages.
        data: number of devices that share the samples of a stage.
        devices: all of JAX's by default.

    Raises:
        ValueError: there are fewer devices, or more that would lie idle.
    """
    devices = jax.devices() if devices is None else devices
    if layer < 1 or data < 1 or layer * data != len(devices):
        raise ValueError(
            f"a mesh of {layer} stages x {data} data shards takes {layer * data} devices, but "
            f"there are {len(devices)}: change one of them, or pass the devices to use."
        )
    return jax.make_mesh(
        (layer, data), (LAYER, DATA), axis_types=(AxisType.Auto,) * 2, devices=devices
    )


def checked_mesh(mesh: Mesh) -> Mesh:
    """The same mesh, its shardings left to this library.

    Raises:
        ValueError: an axis that nothing would be laid out over.
    """
    unknown = {name: size for name, size in mesh.shape.items() if name not in (LAYER, DATA)}
    if any(size > 1 for size in unknown.values()):
        raise ValueError(
            f"the mesh has axes {dict(mesh.shape)}, but only '{LAYER}' and '{DATA}' are used: "
            "give the others size 1 or leave them out."
        )
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def stages(mesh: Mesh) -> int:
    """Number of stages of a mesh."""
    return mesh.shape.get(LAYER, 1)


def shards(mesh: Mesh) -> int:
    """Number of devices that share the samples of a stage."""
    return mesh.shape.get(DATA, 1)


def state_specs(placement: Placement, stacks: int, dtype: Any) -> State:
    """How a state with so many stacks of hidden layers is split."""
    layer, data = _axes(placement.mesh)
    weights, rows = _spec(layer), _spec(layer, data)
    plan, alone = placement.plan, placement.plan.stages == 1
    first = Layer(weights, weights, rows, rows, None)
    other = first._replace(below=Boundary(rows, rows, rows))
    agreed = None if exact(placement.wire, dtype) else rows
    return State(
        layers=(first, *[other] * (stacks + 1)),
        iteration=_spec(),
        link=Weights(weights, weights) if any(plan.links) else None,
        messages=None if alone else Messages(rows, agreed, agreed),
        placement=placement,
    )


def specs_of(state: State, dtype: Any) -> State | None:
    """How this state, of this dtype, is split; None on a single device."""
    if state.placement is None:
        return None
    return state_specs(state.placement, len(state.layers) - 2, dtype)


def weight_specs(mesh: Mesh, weights: Any) -> Any:
    """How weights, of one row per layer, and single numbers are split."""
    layer, _ = _axes(mesh)
    return jax.tree.map(lambda rows: _spec(layer) if rows.ndim else P(), weights)


def data_specs(mesh: Mesh, data: Data, *, evenly: bool = False) -> Any:
    """How data are split: over samples; only the ends need them, but a stage cannot lack them."""
    layer, axis = _axes(mesh)
    axes = tuple(name for name in (layer, axis) if name)
    return jax.tree.map(lambda _: _spec((axes or None) if evenly else axis), data)


def shardings(mesh: Mesh, specs: Any) -> Any:
    """The specs as shardings of this mesh."""
    return jax.tree.map(partial(NamedSharding, mesh), specs, is_leaf=lambda s: isinstance(s, P))


def abstract_state(state: State) -> State:
    """The shapes of a state, with the shardings it has on its mesh."""
    assert state.placement is not None
    return _abstract(state, state.placement.mesh, specs_of(state, state.layers[0].z.dtype))


def abstract_data(data: Data, mesh: Mesh) -> Data:
    """The shapes that data have on a mesh, with their shardings."""
    padding = -data.x.shape[0] % shards(mesh)
    valid: Any = jax.ShapeDtypeStruct(data.x.shape[:1], bool) if padding else data.valid
    shapes = jax.tree.map(
        lambda rows: jax.ShapeDtypeStruct((rows.shape[0] + padding, *rows.shape[1:]), rows.dtype),
        data._replace(valid=valid),
    )
    return _abstract(shapes, mesh, data_specs(mesh, shapes))


def abstract_weights(weights: Any, mesh: Mesh, *, everywhere: bool = False) -> Any:
    """The shapes of weights on a mesh, with their shardings: split, or whole on every device."""
    specs = jax.tree.map(lambda _: P(), weights) if everywhere else weight_specs(mesh, weights)
    return _abstract(weights, mesh, specs)


def abstract_by_samples(state: State, mesh: Mesh) -> State:
    """The shapes of a state, split over samples alone, by all devices of a mesh."""
    layer, data = _axes(mesh)
    axes = tuple(name for name in (layer, data) if name)

    def spec(path: Any, _: Any) -> Any:
        return _spec(None, axes or None) if per_sample(path) else P()

    return _abstract(state, mesh, jax.tree_util.tree_map_with_path(spec, state))


def _abstract(tree: Any, mesh: Mesh, specs: Any) -> Any:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        shardings(mesh, specs),
    )


def put(tree: Any, shardings: Any) -> Any:
    """Arrays in the host's memory, the same in every process, as arrays on the mesh."""

    def spread(array: Any, sharding: NamedSharding) -> Array:
        rows = np.asarray(array)
        return jax.make_array_from_callback(rows.shape, sharding, lambda part: rows[part])

    return jax.tree.map(spread, tree, shardings)


def made_on(
    mesh: Mesh, function: Callable[[Any], Any], given: Any, specs: Callable[[Any], Any]
) -> Any:
    """What a function makes of arrays, split over a mesh as it is made.

    Args:
        mesh: devices; the arrays are on the same ones.
        function: makes the result.
        given: what it is made of.
        specs: how a result of these shapes is split.
    """
    places = shardings(mesh, specs(jax.eval_shape(function, given)))
    return jax.jit(function, out_shardings=places)(given)


def regrouped(function: Callable[[State], State], state: State, target: Placement) -> State:
    """Applies a function that moves rows from layer to layer, sample by sample.

    Every device gets all layers of a few samples of its own shard, for as long as that takes: one
    all-to-all forth and one back.

    Args:
        function: from a state with all its layers to one in the target's arrangement.
        state: the state.
        target: where the result lives, on the same mesh.
    """
    mesh, dtype = target.mesh, state.layers[0].z.dtype
    layer, _ = _axes(mesh)
    shape = jax.eval_shape(function, state)
    rows = state.layers[0].z.shape[1] // shards(mesh)
    padding = -rows % stages(mesh)

    def together(path: Any, leaf: Array) -> Array:
        if layer is None or not leaf.ndim:
            return leaf
        if not per_sample(path):
            return lax.all_gather(leaf, layer, tiled=True)
        padded = jnp.pad(leaf, [(0, 0), (0, padding), (0, 0)])
        return lax.all_to_all(padded, layer, split_axis=1, concat_axis=0, tiled=True)

    def apart(path: Any, leaf: Array) -> Array:
        if layer is None or not leaf.ndim:
            return leaf
        if not per_sample(path):
            own = leaf.shape[0] // stages(mesh)
            return lax.dynamic_slice_in_dim(leaf, lax.axis_index(layer) * own, own)
        back = lax.all_to_all(leaf, layer, split_axis=0, concat_axis=1, tiled=True)
        return back[:, :rows]

    def regroup(state: State) -> State:
        whole = jax.tree_util.tree_map_with_path(together, state)
        return jax.tree_util.tree_map_with_path(apart, function(whole))

    return jax.shard_map(
        regroup,
        mesh=mesh,
        in_specs=(specs_of(state, dtype),),
        out_specs=state_specs(target, len(shape.layers) - 2, dtype),
    )(state)


def whole(tree: Any, mesh: Mesh) -> Any:
    """The same arrays with all of each on every device (inside jit)."""
    return lax.with_sharding_constraint(tree, NamedSharding(mesh, P()))


def on_stages(
    function: Callable[..., Any], plan: Plan, placement: Placement | None, specs: Any, results: Any
) -> Callable[[Any, Data, Any], Any]:
    """Makes what one stage does into what the whole network does.

    Args:
        function: (stage, variables, data, hyper) -> results, for one stage and its samples.
        plan: which layers each stage holds.
        placement: where they live; None for a single device, where nothing is split.
        specs: how the variables are split.
        results: how the results are split.

    Returns:
        The function (variables, data, hyper) -> results of everything.
    """

    def alone(variables: Any, data: Data, hyper: Any) -> Any:
        mail = Mail(samples=Samples(number=data.number))
        return function(stage_of(plan, 0, mail, jax.default_backend()), variables, data, hyper)

    def together(variables: Any, data: Data, hyper: Any) -> Any:
        assert placement is not None
        index = lax.axis_index(LAYER) if plan.stages > 1 else 0
        platform = placement.mesh.devices.flat[0].platform
        stage = stage_of(plan, index, _mail(placement, data), platform)
        return function(stage, variables, data, hyper)

    def split(variables: Any, data: Data, hyper: Any) -> Any:
        assert placement is not None
        mesh = placement.mesh
        mapped = jax.shard_map(
            together,
            mesh=mesh,
            in_specs=(specs, data_specs(mesh, data), P()),
            out_specs=results,
        )
        return mapped(variables, data, hyper)

    return alone if placement is None else split


def message_alone(state: State) -> Any:
    """Nothing but a message up and one down, for measurements: what the neighbours heard last."""
    placement = state.placement
    assert placement is not None
    assert state.messages is not None
    layer, data = _axes(placement.mesh)

    def exchange(value: Array) -> tuple[Array, Array]:
        pairs = placement.plan.upward, placement.plan.downward
        return _pass_on(layer, pairs[0], value), _pass_on(layer, pairs[1], value)

    rows = _spec(layer, data)
    return jax.shard_map(exchange, mesh=placement.mesh, in_specs=(rows,), out_specs=(rows, rows))(
        state.messages.q_above
    )


def _mail(placement: Placement, data: Data) -> Mail:
    """How the stage that this device belongs to reaches the others."""
    mesh, plan = placement.mesh, placement.plan
    layer, axis = _axes(mesh)
    return Mail(
        upward=partial(_pass_on, layer, plan.upward),
        downward=partial(_pass_on, layer, plan.downward),
        samples=_samples(axis, shards(mesh), data),
        stages=partial(lax.psum, axis_name=layer) if layer else Mail().stages,
        vary=partial(_vary, tuple(name for name in (layer, axis) if name)),
        wire=placement.wire,
    )


def _pass_on(axis: str | None, pairs: tuple[tuple[int, int], ...], message: Array) -> Array:
    """Hands a message from stage to stage; zeros where none arrives."""
    return lax.ppermute(message, axis, pairs) if axis and pairs else message


def _samples(axis: str | None, shards: int, data: Data) -> Samples:
    """The samples that the other devices of a stage hold."""
    if axis is None:
        return Samples(number=data.number)
    total = partial(lax.psum, axis_name=axis)
    number = data.x.shape[0] * shards if data.number is None else total(data.number)
    return Samples(total, partial(lax.pmax, axis_name=axis), jnp.asarray(number, data.x.dtype))


def _vary(axes: tuple[str, ...], tree: Any) -> Any:
    """Declares values to differ from device to device along the axes, as conditionals need it.

    No one function does so in all supported versions of JAX (``lax.pvary``, then ``lax.pcast``); a
    selection that depends on the device in name only does, and compiles to nothing.
    """
    always = jnp.asarray(True)
    for axis in axes:
        always &= lax.axis_index(axis) >= 0
    return jax.tree.map(lambda array: jnp.where(always, array, array), tree)


def _spec(*axes: str | tuple[str, ...] | None) -> Any:
    """The spec as JAX itself writes it down for its results, without None at the end."""
    while axes and axes[-1] is None:
        axes = axes[:-1]
    return P(*axes)


def _axes(mesh: Mesh) -> tuple[str | None, str | None]:
    """The names of the axes that have more than one device."""
    return (LAYER if stages(mesh) > 1 else None, DATA if shards(mesh) > 1 else None)
