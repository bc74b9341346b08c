"""What users hand in as arrays, taken as what is meant or refused by name."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding

from pdadmm_jax._typing import AnyArray, Array


def as_array(name: str, value: Any) -> Array:
    """The value as a JAX array, doubles as singles unless x64 is on.

    Raises:
        TypeError: it makes no array of real numbers.
        ValueError: it is split over a mesh with explicit axes while it is traced, or a whole number
            is beyond 32 bits while x64 is off.
    """
    return jnp.asarray(numeric(name, value))


def numeric(name: str, value: Any) -> Any:
    """The value as an array of real numbers or booleans where it is, on a device or on the host.

    Takes arrays of JAX and NumPy, nested lists, and whatever offers itself to NumPy (``__array__``,
    as data frames and tensors on the CPU do) or by DLPack.  Bytes come in this machine's order,
    extended precision as double.

    Args:
        name: for the messages.
        value: what was handed in.

    Raises:
        TypeError: it makes no array of real numbers.
        ValueError: it is split over a mesh with explicit axes while it is traced, or a whole number
            is beyond 32 bits while x64 is off.
    """
    array = _array_of(name, value)
    if not (array.dtype == bool or jnp.issubdtype(array.dtype, np.number)):
        way = {
            "O": f": {name}.astype('float32')",
            "U": f": number its classes, numpy.unique({name}, return_inverse=True)[1]",
        }.get(getattr(array.dtype, "kind", ""), "")
        raise TypeError(f"{name} has dtype {array.dtype}, but has to hold numbers{way}.")
    if jnp.issubdtype(array.dtype, np.complexfloating):
        raise TypeError(f"{name} has dtype {array.dtype}, but has to hold real numbers.")
    if isinstance(array, jax.Array):
        return _with_implicit_sharding(name, array)
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost: fill it in first.")
    if array.dtype == np.longdouble and np.longdouble != np.float64:
        return array.astype(np.float64)
    _check_range(name, array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_range(name: str, array: np.ndarray) -> None:
    """Refuses whole numbers that JAX would cut off."""
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if dtype != array.dtype and jnp.issubdtype(dtype, np.integer) and array.size:
        limits, low, high = np.iinfo(dtype), int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise ValueError(
                f"{name} runs from {low} to {high}, but {dtype.name} reaches from {limits.min} to "
                f"{limits.max}: give smaller numbers, or switch on jax_enable_x64."
            )


def _array_of(name: str, value: Any) -> AnyArray:
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return value if isinstance(value, jax.Array) else np.asanyarray(value)
    kind = type(value).__name__
    nested = isinstance(value, (list, tuple)) and not hasattr(value, "_fields")
    if nested and any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
        return jnp.asarray(value)
    try:
        if nested or hasattr(value, "__array__"):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return jnp.from_dlpack(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        reason = str(error).partition("\n")[0]
        raise TypeError(f"{name} is a {kind} that makes no array: {reason}") from error
    given = "None" if value is None else f"a {kind}"
    raise TypeError(f"{name} is {given}, but has to be an array.")


def _with_implicit_sharding(name: str, array: Array) -> Array:
    """The same array on the same devices, its sharding no longer a part of its type.

    JAX asks of programs on explicitly sharded arrays to say how each result is split; those of the
    library leave it to the compiler.
    """
    mesh = jax.typeof(array).sharding.mesh
    if AxisType.Explicit not in mesh.axis_types:
        return array
    if isinstance(array, Tracer):
        if not any(jax.typeof(array).sharding.spec):
            return array
        raise ValueError(
            f"{name} is {jax.typeof(array)}, split over explicit axes of a mesh: hand it in "
            "outside of jax.jit, or call this within jax.sharding.auto_axes."
        )
    assert isinstance(array.sharding, NamedSharding)
    if array.sharding.mesh.size == 1:
        return on_its_device(array)
    concrete: Any = array.sharding.mesh
    implicit = Mesh(concrete.devices, concrete.axis_names)
    return jax.device_put(array, NamedSharding(implicit, array.sharding.spec))


def on_its_device(array: Array) -> Array:
    """An array on a mesh of one device as one on that device; any other as it is.

    XLA compiles programs on such a mesh otherwise, and on a CPU without some of their products.
    """
    if isinstance(array, Tracer) or not isinstance(array.sharding, NamedSharding):
        return array
    return array.addressable_data(0) if array.sharding.mesh.size == 1 else array
