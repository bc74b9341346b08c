"""Messages in few bytes, and values that both ends agree on.

In ``run`` only the change since the last message crosses the wire, rounded to the wire's type.
Sender and receiver add the same rounded change to the same last value, so that they agree at all
times; what rounding left out is part of the next change.  As the iteration comes to rest the
changes shrink, and with them the rounding: its scale is taken anew from every row of every message.

In ``sweep`` every message is about other samples, and nothing is agreed on: the values themselves
are rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from pdadmm_jax._checks import look_up
from pdadmm_jax._typing import Array

WIRES = ("full", "float32", "bfloat16", "int8", "int4")
Wire = str  # one of these

_LEVELS = {"int8": 127, "int4": 7}


def check_wire(wire: Wire) -> None:
    """Refuses unknown names."""
    look_up("wire type", wire, dict.fromkeys(WIRES))


def exact(wire: Wire, dtype: Any) -> bool:
    """Whether values of this dtype cross the wire as they are."""
    return wire == "full" or jnp.dtype(dtype).name == wire


def through(value: Array, pass_on: Callable[[Array], Array], wire: Wire) -> Array:
    """A value of shape (..., N, width) as it arrives at the other end, by itself."""
    if exact(wire, value.dtype):
        return pass_on(value)
    return decode(pass_on(encode(value, wire)), wire, value.shape[-1], value.dtype)


def encode(change: Array, wire: Wire) -> Array:
    """The message that stands for a change of shape (..., N, width).

    The integer types send round(change / scale) with scale = max |row| / levels, and after the
    codes of a row the four bytes of its scale: one message, one type.  int4 packs column k of the
    row's first half and column k of its second half into one byte.  bfloat16 travels as the
    integers of the same bits: some backends would make singles of it on the way.
    """
    if wire == "bfloat16":
        return lax.bitcast_convert_type(change.astype(jnp.bfloat16), jnp.uint16)
    if wire not in _LEVELS:
        return change.astype(wire)
    levels = _LEVELS[wire]
    scale = jnp.max(jnp.abs(change), axis=-1, keepdims=True).astype(jnp.float32) / levels
    unit = jnp.where(scale > 0, scale, 1).astype(change.dtype)
    codes = jnp.clip(jnp.round(change / unit), -levels, levels).astype(jnp.int8)
    if wire == "int4":
        half = (codes.shape[-1] + 1) // 2
        low, high = codes[..., :half], codes[..., half:]
        high = jnp.pad(high, [(0, 0)] * (high.ndim - 1) + [(0, half - high.shape[-1])])
        codes = (low & 15) | (high << 4)
    bytes_of_scale = lax.bitcast_convert_type(scale, jnp.int8)[..., 0, :]
    return jnp.concatenate([codes, bytes_of_scale], axis=-1)


def decode(message: Array, wire: Wire, width: int, dtype: Any) -> Array:
    """The rounded change that a message stands for, shape (..., N, width)."""
    if wire == "bfloat16":
        return lax.bitcast_convert_type(message, jnp.bfloat16).astype(dtype)
    if wire not in _LEVELS:
        return message.astype(dtype)
    codes, bytes_of_scale = message[..., :-4], message[..., -4:]
    scale = lax.bitcast_convert_type(bytes_of_scale[..., None, :], jnp.float32)
    if wire == "int4":
        low, high = (codes << 4) >> 4, codes >> 4  # shifts of signed bytes keep the sign
        codes = jnp.concatenate([low, high], axis=-1)[..., :width]
    return codes.astype(dtype) * scale.astype(dtype)
