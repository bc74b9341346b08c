"""Everything that knows of a mesh: its axes, all PartitionSpecs, and every collective.

Two axes, either of which may be 1 or missing: ``layer``, over which the stages of a plan are laid
out, and ``data``, over which samples are split.  Each stage gets its rows of every array and
communicates through its ``Collectives``; the mathematics is told nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pdadmm_jax._checks import is_concrete
from pdadmm_jax._surroundings import isolated_with_transfers
from pdadmm_jax._typing import Array
from pdadmm_jax.parallel.placement import Placement
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.parallel.sample_reductions import SampleReductions
from pdadmm_jax.parallel.stage import Collectives, stage_of
from pdadmm_jax.problems.data import Data, numeric_data

T = TypeVar("T")

LAYER, DATA = "layer", "data"

_PER_SAMPLE = {"z", "a", "p", "q", "u", "q_above", "f_below", "f_sent"}


def make_mesh(layer: int = 1, data: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of layer x data devices, with neighbouring stages on devices that JAX puts together.

    Args:
        layer: number of stages.
        data: number of devices that share the samples of a stage.
        devices: where to take them from; JAX's by default.  The first layer x data are used.

    Raises:
        ValueError: there are fewer devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if layer < 1 or data < 1 or layer * data > len(devices):
        raise ValueError(
            f"a mesh of {layer} stages x {data} data shards takes {layer * data} devices, but "
            f"there are {len(devices)}: change one of them."
        )
    return jax.make_mesh(
        (layer, data),
        (LAYER, DATA),
        axis_types=(AxisType.Auto,) * 2,
        devices=devices[: layer * data],
    )


def checked_mesh(mesh: Mesh) -> Mesh:
    """The same mesh, its shardings left to this library.

    Raises:
        TypeError: no mesh.
        ValueError: an axis that nothing would be laid out over.
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh is {mesh!r}, but has to be one of devices, as make_mesh makes it.")
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


def per_sample(path: Any) -> bool:
    """Whether the variable at this path of a state has rows of samples."""
    return any(getattr(key, "name", None) in _PER_SAMPLE for key in path)


def state_specs(mesh: Mesh, held: Any) -> Any:
    """How variables of Algorithm 1 are split: over stages, and rows of samples over shards too.

    Args:
        mesh: devices.
        held: arrays, or shapes, by whose names and ranks the split is decided.
    """
    layer, data = _axes(mesh)

    def spec(path: Any, leaf: Any) -> Any:
        return _spec(layer, data if per_sample(path) else None) if leaf.ndim else P()

    return jax.tree_util.tree_map_with_path(spec, held)


def weight_specs(mesh: Mesh, weights: Any) -> Any:
    """How weights, or what belongs to them, are split: over stages; single numbers are not."""
    layer, _ = _axes(mesh)
    return jax.tree.map(lambda rows: _spec(layer) if rows.ndim else P(), weights)


def in_flight_specs(mesh: Mesh, in_flight: Any) -> Any:
    """How blocks in flight are split: over stages, and rows of samples over shards."""
    if in_flight is None:
        return None
    layer, data = _axes(mesh)
    specs = jax.tree.map(
        lambda slots: _spec(layer, None, data) if slots.ndim else P(),
        in_flight._replace(previous=None),
    )
    return specs._replace(previous=weight_specs(mesh, in_flight.previous))


def replicated_specs(tree: Any) -> Any:
    """How arrays are split that every device has all of: not at all."""
    return jax.tree.map(lambda _: P(), tree)


def data_specs(mesh: Mesh, data: Data, *, evenly: bool = False) -> Any:
    """How data are split: over samples; only the ends need them, but a stage cannot lack them."""
    layer, axis = _axes(mesh)
    axes = tuple(name for name in (layer, axis) if name)
    return jax.tree.map(lambda _: _spec((axes or None) if evenly else axis), data)


def sample_specs(mesh: Mesh, held: Any) -> Any:
    """How variables of Algorithm 1 are split over samples alone, by all devices of a mesh."""
    axes = tuple(name for name in _axes(mesh) if name)

    def spec(path: Any, _: Any) -> Any:
        return _spec(None, axes or None) if per_sample(path) else P()

    return jax.tree_util.tree_map_with_path(spec, held)


def shardings(mesh: Mesh, specs: Any) -> Any:
    """The specs as shardings of this mesh."""
    return jax.tree.map(partial(NamedSharding, mesh), specs, is_leaf=lambda s: isinstance(s, P))


def abstract(tree: Any, mesh: Mesh, specs: Any) -> Any:
    """The shapes of arrays, with the shardings they have on a mesh."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        shardings(mesh, specs),
    )


def abstract_data(data: Data, mesh: Mesh) -> Data:
    """The shapes that data have on a mesh, with their shardings."""
    padding = -data.x.shape[0] % shards(mesh)
    valid: Any = jax.ShapeDtypeStruct(data.x.shape[:1], bool) if padding else data.valid
    shapes = jax.tree.map(
        lambda rows: jax.ShapeDtypeStruct((rows.shape[0] + padding, *rows.shape[1:]), rows.dtype),
        data._replace(valid=valid),
    )
    return abstract(shapes, mesh, data_specs(mesh, shapes))


def put(tree: Any, shardings: Any) -> Any:
    """Arrays in the host's memory, the same in every process, as arrays on the mesh."""

    def spread(array: Any, sharding: NamedSharding) -> Array:
        rows = np.asarray(array)
        return jax.make_array_from_callback(rows.shape, sharding, lambda part: rows[part])

    return jax.tree.map(spread, tree, shardings)


@isolated_with_transfers
def shard_data(data: Data, mesh: Mesh, *, evenly: bool = False) -> Data:
    """Puts data onto a mesh, samples split over its ``data`` axis.

    Args:
        data: data in the host's memory or on a single device.
        mesh: devices, with axes ``layer`` and ``data``.
        evenly: split the samples over all devices instead, as ``evaluate`` and other measures of
            the network like it; training needs all samples on every stage.

    Returns:
        The data, filled up by samples that do not count if their number does not divide.

    Raises:
        TypeError: no ``Data``, or what makes no arrays of numbers in it.
    """
    mesh, data = checked_mesh(mesh), numeric_data(data)
    full = data
    if padding := -data.x.shape[0] % (mesh.size if evenly else shards(mesh)):
        valid = np.ones(data.x.shape[0], bool) if data.valid is None else data.valid
        full = jax.tree.map(
            lambda rows: np.pad(rows, [(0, padding), *[(0, 0)] * (rows.ndim - 1)]),
            data._replace(valid=valid),
        )
    return put(full, shardings(mesh, data_specs(mesh, full, evenly=evenly)))


def settled(tree: T, placement: Placement | None) -> T:
    """The same arrays, which a program on the devices of this host's processor may be given.

    XLA runs the programs of such devices on few threads.  If several programs are dispatched before
    the first has ended, devices may work on different ones, each waiting in a collective for the
    others, until XLA ends the process.  So their arrays are waited for; others are not.
    """
    if placement is None or not all(map(is_concrete, jax.tree.leaves(tree))):
        return tree
    devices = placement.mesh.devices.flat
    if placement.mesh.size > 1 and devices[0].platform == "cpu":
        jax.block_until_ready(tree)
    return tree


def key_beside(key: Array | None, x: Array, placement: Placement | None) -> Array | None:
    """A PRNG key where the samples are, if the program has spread it over a mesh of its own."""
    if key is None or not is_concrete(key) or not isinstance(key.sharding, NamedSharding):
        return key
    if placement is not None:
        return jax.device_put(key, NamedSharding(placement.mesh, P()))
    if not is_concrete(x):
        return key
    sharding = x.sharding
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, P())
    return jax.device_put(key, sharding)


def create_on(
    mesh: Mesh, function: Callable[[Any], Any], given: Any, specs: Callable[[Any], Any]
) -> Any:
    """What a function makes of arrays, split over a mesh as it is made.

    Args:
        mesh: devices; the arrays are on the same ones.
        function: makes the result; the same one compiles once for arrays of the same shapes.
        given: what it is made of.
        specs: how a result of these shapes is split.
    """
    places = shardings(mesh, specs(jax.eval_shape(function, given)))
    return jax.jit(function, out_shardings=places)(given)


def apply_by_samples(function: Callable[[Any], Any], held: Any, mesh: Mesh) -> Any:
    """Applies a function that moves rows from layer to layer, sample by sample.

    Every device gets all layers of a few samples of its own shard, for as long as that takes: one
    all-to-all forth and one back.

    Args:
        function: from variables of Algorithm 1, with all their layers, to others.
        held: the variables, split over the mesh.
        mesh: devices.
    """
    layer, _ = _axes(mesh)
    result = jax.eval_shape(function, held)
    rows = next(
        leaf.shape[1] for path, leaf in jax.tree.leaves_with_path(held) if per_sample(path)
    ) // shards(mesh)
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

    def regroup(held: Any) -> Any:
        everything = jax.tree_util.tree_map_with_path(together, held)
        return jax.tree_util.tree_map_with_path(apart, function(everything))

    return jax.shard_map(
        regroup,
        mesh=mesh,
        in_specs=(state_specs(mesh, held),),
        out_specs=state_specs(mesh, result),
    )(held)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """The same arrays with all of each on every device (inside jit)."""
    return lax.with_sharding_constraint(tree, NamedSharding(mesh, P()))


def on_stages(
    function: Callable[..., Any],
    plan: Plan,
    placement: Placement | None,
    specs: Any = None,
    results: Any = None,
) -> Callable[[Any, Data, Any], Any]:
    """Makes what one stage does into what the whole network does.

    Args:
        function: (stage, variables, data, config) -> results, for one stage and its samples.
        plan: which layers each stage holds.
        placement: where they live; None for a single device, where nothing is split.
        specs: how the variables are split.
        results: how the results are split.

    Returns:
        The function (variables, data, config) -> results of everything.
    """

    def alone(variables: Any, data: Data, config: Any) -> Any:
        collectives = Collectives(samples=SampleReductions(number=data.number))
        stage = stage_of(plan, 0, collectives, jax.default_backend())
        return function(stage, variables, data, config)

    def together(variables: Any, data: Data, config: Any) -> Any:
        assert placement is not None
        index = lax.axis_index(LAYER) if plan.stages > 1 else 0
        platform = placement.mesh.devices.flat[0].platform
        stage = stage_of(plan, index, _collectives(placement, data), platform)
        return function(stage, variables, data, config)

    def split(variables: Any, data: Data, config: Any) -> Any:
        assert placement is not None
        mesh = placement.mesh
        mapped = jax.shard_map(
            together,
            mesh=mesh,
            in_specs=(specs, data_specs(mesh, data), P()),
            out_specs=results,
        )
        return mapped(variables, data, config)

    return alone if placement is None else split


def exchange_once(value: Array, placement: Placement, *, at_once: bool) -> tuple[Array, Array]:
    """One message up and one down between all stages and nothing else, for measurements.

    Args:
        value: what every stage sends, (stages, rows, width), rows split over shards.
        placement: where the stages live.
        at_once: whether two stages swap theirs, as in ``sweeps``; in ``admm`` a message up and one
            down are of different times.
    """
    layer, data = _axes(placement.mesh)
    swap = _swap(placement) if at_once else None

    def exchange(value: Array) -> tuple[Array, Array]:
        if swap is not None:
            received = swap(value)
            return received, received
        pairs = placement.plan.upward, placement.plan.downward
        return _shift(layer, pairs[0], value), _shift(layer, pairs[1], value)

    rows = _spec(layer, data)
    return jax.shard_map(exchange, mesh=placement.mesh, in_specs=(rows,), out_specs=(rows, rows))(
        value
    )


def _collectives(placement: Placement, data: Data) -> Collectives:
    """How the stage that this device belongs to reaches the others."""
    mesh, plan = placement.mesh, placement.plan
    layer, axis = _axes(mesh)
    return Collectives(
        shift_up=partial(_shift, layer, plan.upward),
        shift_down=partial(_shift, layer, plan.downward),
        swap=_swap(placement),
        samples=_samples(axis, shards(mesh), data),
        sum_over_stages=(
            partial(lax.psum, axis_name=layer) if layer else Collectives().sum_over_stages
        ),
        vary=partial(_vary, tuple(name for name in (layer, axis) if name)),
        vary_by_stage=partial(_vary, (layer,) if layer else ()),
        message_dtype=placement.message_dtype,
    )


def _swap(placement: Placement) -> Callable[[Array], Array] | None:
    """How two stages hand each other a message at the same time; None for more of them."""
    if placement.plan.upward != ((0, 1),):
        return None
    return partial(_shift, _axes(placement.mesh)[0], ((0, 1), (1, 0)))


def _shift(axis: str | None, pairs: tuple[tuple[int, int], ...], message: Array) -> Array:
    """Hands a message from stage to stage; zeros where none arrives."""
    return lax.ppermute(message, axis, pairs) if axis and pairs else message


def _samples(axis: str | None, shards: int, data: Data) -> SampleReductions:
    """The samples that the other devices of a stage hold."""
    if axis is None:
        return SampleReductions(number=data.number)
    total = partial(lax.psum, axis_name=axis)
    number = data.x.shape[0] * shards if data.number is None else total(data.number)
    greatest = partial(lax.pmax, axis_name=axis)
    return SampleReductions(total, greatest, jnp.asarray(number, data.x.dtype))


def _vary(axes: tuple[str, ...], tree: Any) -> Any:
    """Declares values to differ from device to device along the axes, as conditionals need it."""
    old: Any = getattr(lax, "pvary", None)  # up to JAX 0.9, where pcast was not there yet
    cast = partial(lax.pcast, to="varying") if old is None else old

    def vary(array: Array) -> Array:
        for axis in axes:
            with contextlib.suppress(ValueError):  # it is known to differ along this one
                array = cast(array, axis)
        return array

    return jax.tree.map(vary, tree)


def _spec(*axes: str | tuple[str, ...] | None) -> Any:
    """The spec as JAX itself writes it down for its results, without None at the end."""
    while axes and axes[-1] is None:
        axes = axes[:-1]
    return P(*axes)


def _axes(mesh: Mesh) -> tuple[str | None, str | None]:
    """The names of the axes that have more than one device."""
    return (LAYER if stages(mesh) > 1 else None, DATA if shards(mesh) > 1 else None)
