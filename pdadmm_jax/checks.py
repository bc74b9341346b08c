"""Static mistakes, refused at trace time with one ``ValueError`` that names both values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

T = TypeVar("T")


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """The entry of this name.

    Raises:
        ValueError: unknown name; the message has the nearest known one and the whole list.
    """
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"unknown {kind} {name!r}{hint} known are {', '.join(known)}.")


def is_concrete(value: Any) -> bool:
    """Whether the numbers can be looked at now, without tracing."""
    return isinstance(value, (int, float, np.ndarray, np.generic)) or (
        isinstance(value, jax.Array) and not isinstance(value, Tracer)
    )


def check_number(name: str, value: Any, *, positive: bool) -> None:
    """Refuses a penalty that is not a finite number of the right sign.

    Only Python and NumPy numbers are looked at: hyperparameters are rebuilt whenever JAX flattens
    them, and a look at a device array would wait for the device each time.
    """
    if not isinstance(value, (int, float, np.ndarray, np.generic)):
        return
    number = float(value)
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        needed = "a finite number above 0" if positive else "a finite number, 0 or above"
        raise ValueError(f"{name} is {value}, but has to be {needed}.")


def check_shapes(**shaped: tuple[Any, tuple[int, ...]]) -> None:
    """Refuses arrays of another shape than the one they are paired with."""
    for name, (array, shape) in shaped.items():
        try:
            chex.assert_shape(array, shape)
        except AssertionError:
            raise ValueError(
                f"{name} has shape {jnp.shape(array)}, but the other arguments ask for {shape}."
            ) from None


def check_widths(widths: tuple[int, ...]) -> None:
    """Refuses a network without a hidden layer or with an empty one."""
    if len(widths) < 3:
        raise ValueError(
            f"widths {tuple(widths)} make {max(len(widths) - 1, 0)} layer(s), but pdADMM splits a "
            "network of at least 2: give (features, hidden, ..., outputs)."
        )
    for index, width in enumerate(widths):
        if not isinstance(width, (int, np.integer)) or isinstance(width, bool) or width < 1:
            raise ValueError(
                f"widths[{index}] is {width!r} in {tuple(widths)}, but every width has to be a "
                "whole number of at least 1."
            )


def check_inputs(x: Any, features: int) -> None:
    """Refuses inputs that are not a finite floating (N, features) array."""
    if x.ndim != 2:
        raise ValueError(
            f"x has shape {x.shape}, but has to be 2-dimensional (samples, features): "
            "flatten each sample, x.reshape(len(x), -1)."
        )
    if x.shape[0] < 1:
        raise ValueError(f"x has shape {x.shape}: at least 1 sample is needed.")
    if x.shape[1] != features:
        raise ValueError(
            f"x has {x.shape[1]} features, but the network's first width is {features}: "
            "make them equal."
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x has dtype {x.dtype}, but has to be floating, for it sets the precision of the "
            "whole state: x.astype('float32')."
        )
    if is_concrete(x):
        check_finite("x", x)


def check_finite(name: str, array: Any) -> None:
    """Refuses NaN and infinities in data, with the place of the first."""
    finite = np.asarray(jnp.isfinite(array))
    if not finite.all():
        row = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name}{list(row)} is {np.asarray(array)[row]}: replace the {int((~finite).sum())} "
            "value(s) that are not finite."
        )
