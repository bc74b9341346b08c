"""Compressed messages: rounded to few bytes, by values that both ends agree on.

In ``admm`` only the change since the last message is sent, rounded to the message type.
Sender and receiver add the same rounded change to the same last value, so that they agree at all
times; what rounding left out is part of the next change.  As the iteration comes to rest the
changes shrink, and with them the rounding: its scale is taken anew from every row of every message.
Where the values are multiples of one number that both ends know, it is the scale of all messages.

In ``sweeps`` every message is about other samples, and nothing is agreed on: the values themselves
are rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from pdadmm_jax._checks import look_up
from pdadmm_jax._typing import Array

MESSAGE_TYPES = ("full", "float32", "bfloat16", "int8", "int4")
MessageType = str  # one of these

_LEVELS = {"int8": 127, "int4": 7}


def check_message_type(message_dtype: MessageType) -> None:
    """Refuses unknown names."""
    look_up("message_dtype", message_dtype, dict.fromkeys(MESSAGE_TYPES))


def lossless(message_dtype: MessageType, dtype: Any) -> bool:
    """Whether values of this dtype are sent as they are."""
    return message_dtype == "full" or jnp.dtype(dtype).name == message_dtype


def keeps_multiples(message_dtype: MessageType, dtype: Any) -> bool:
    """Whether multiples of a scale that both ends know arrive as such."""
    return message_dtype in _LEVELS or lossless(message_dtype, dtype)


def transfer(value: Array, shift: Callable[[Array], Array], message_dtype: MessageType) -> Array:
    """A value of shape (..., N, width) as the neighbour receives it, rounded by itself.

    Args:
        value: what is sent.
        shift: the collective that sends it.
        message_dtype: type of the message.
    """
    if lossless(message_dtype, value.dtype):
        return shift(value)
    message = shift(encode(value, message_dtype))
    return decode(message, message_dtype, value.shape[-1], value.dtype)


def encode(change: Array, message_dtype: MessageType, scale: float | None = None) -> Array:
    """The message that stands for a change of shape (..., N, width).

    The integer types send round(change / scale) with scale = max |row| / levels, and after the
    codes of a row the four bytes of its scale: one message, one type.  int4 packs column k of the
    row's first half and column k of its second half into one byte.  bfloat16 travels as the
    integers of the same bits: some backends would make singles of it on the way.

    Args:
        change: what is sent.
        message_dtype: type of the message.
        scale: that of the integer types where both ends know it; codes are then all that is sent,
            and entries beyond the largest code arrive as that one.
    """
    if message_dtype == "bfloat16":
        return lax.bitcast_convert_type(change.astype(jnp.bfloat16), jnp.uint16)
    if message_dtype not in _LEVELS:
        return change.astype(message_dtype)
    levels = _LEVELS[message_dtype]
    if scale is not None:
        return _pack(_codes(change, scale, levels), message_dtype)
    scales = jnp.max(jnp.abs(change), axis=-1, keepdims=True).astype(jnp.float32) / levels
    units = jnp.where(scales > 0, scales, 1).astype(change.dtype)
    codes = _pack(_codes(change, units, levels), message_dtype)
    bytes_of_scales = lax.bitcast_convert_type(scales, jnp.int8)[..., 0, :]
    return jnp.concatenate([codes, bytes_of_scales], axis=-1)


def decode(
    message: Array,
    message_dtype: MessageType,
    width: int,
    dtype: Any,
    scale: float | None = None,
) -> Array:
    """The rounded change that a message stands for, shape (..., N, width)."""
    if message_dtype == "bfloat16":
        return lax.bitcast_convert_type(message, jnp.bfloat16).astype(dtype)
    if message_dtype not in _LEVELS:
        return message.astype(dtype)
    if scale is not None:
        return _unpack(message, message_dtype, width).astype(dtype) * scale
    codes, bytes_of_scales = message[..., :-4], message[..., -4:]
    scales = lax.bitcast_convert_type(bytes_of_scales[..., None, :], jnp.float32)
    return _unpack(codes, message_dtype, width).astype(dtype) * scales.astype(dtype)


def _codes(change: Array, units: Array | float, levels: int) -> Array:
    return jnp.clip(jnp.round(change / units), -levels, levels).astype(jnp.int8)


def _pack(codes: Array, message_dtype: MessageType) -> Array:
    if message_dtype != "int4":
        return codes
    half = (codes.shape[-1] + 1) // 2
    low, high = codes[..., :half], codes[..., half:]
    high = jnp.pad(high, [(0, 0)] * (high.ndim - 1) + [(0, half - high.shape[-1])])
    return (low & 15) | (high << 4)


def _unpack(codes: Array, message_dtype: MessageType, width: int) -> Array:
    if message_dtype != "int4":
        return codes
    low, high = (codes << 4) >> 4, codes >> 4  # shifts of signed bytes keep the sign
    return jnp.concatenate([low, high], axis=-1)[..., :width]
