"""Static mistakes, refused at trace time with one ``ValueError`` that names both values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

T = TypeVar("T")


def look_up(kind: str, name: Any, known: Mapping[str, T]) -> T:
    """The entry of this name.

    Raises:
        ValueError: no name or an unknown one; the message has the nearest known one and the whole
            list.
    """
    if not isinstance(name, str):
        raise ValueError(f"{kind} is {name!r}, but has to be one of {', '.join(known)}.")
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"unknown {kind} {name!r}{hint} known are {', '.join(known)}.")


def is_concrete(value: Any) -> bool:
    """Whether the values can be looked at: no tracer, and all of it on this host."""
    if isinstance(value, jax.Array):
        return not isinstance(value, Tracer) and value.is_fully_addressable
    return isinstance(value, (int, float, np.ndarray, np.generic))


def checked_number(
    name: str, value: Any, *, above: float, allowed: bool = False, below: float = math.inf
) -> Any:
    """A number from a user: refused if not between two bounds; Python's and NumPy's as float.

    Args:
        name: for the message.
        value: a number, or an array of them to map over.
        above: the lower bound.
        allowed: whether the lower bound itself will do.
        below: the upper bound, which itself will not.

    Raises:
        ValueError: naming the value and what it has to be.
    """
    if isinstance(value, Tracer) or (isinstance(value, jax.Array) and not is_concrete(value)):
        return value
    needed = f"a finite number {'of at least' if allowed else 'above'} {above:g}"
    if below < math.inf:
        needed += f" and below {below:g}"
    if not is_concrete(value) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, but has to be {needed}.")
    numbers = np.asarray(value, np.float64)
    high_enough = (numbers >= above) if allowed else (numbers > above)
    if not (np.isfinite(numbers) & high_enough & (numbers < below)).all():
        raise ValueError(f"{name} is {value}, but has to be {needed}.")
    return value if isinstance(value, jax.Array) or numbers.ndim else float(value)


def check_shapes(**shaped: tuple[Any, tuple[int, ...]]) -> None:
    """Refuses arrays of another shape than the one they are paired with."""
    for name, (array, shape) in shaped.items():
        try:
            chex.assert_shape(array, shape)
        except AssertionError:
            raise ValueError(
                f"{name} has shape {jnp.shape(array)}, but the other arguments ask for {shape}."
            ) from None


def check_key(key: Any) -> None:
    """Refuses what is not a PRNG key, such as a seed."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = isinstance(key, (jax.Array, np.ndarray)) and key.dtype == np.uint32 and key.ndim == 1
    if not typed and not raw:
        raise TypeError(f"key is {key!r}, but has to be a PRNG key, such as jax.random.key(0).")


def check_count(name: str, count: Any, least: int = 1) -> int:
    """Refuses what is no whole number, or a smaller one than the least; the number as Python's."""
    if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < least:
        raise ValueError(f"{name} is {count!r}, but has to be a whole number, at least {least}.")
    return int(count)


def check_flag(name: str, value: Any) -> None:
    """Refuses what is neither True nor False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, but has to be True or False.")


def check_widths(widths: Any) -> tuple[int, ...]:
    """Refuses a network without a hidden layer or with an empty one; the widths as a tuple."""
    if not isinstance(widths, Iterable):
        raise TypeError(f"widths is {widths!r}, but has to be (features, hidden, ..., outputs).")
    widths = tuple(widths)
    if len(widths) < 3:
        raise ValueError(
            f"widths {widths} make {max(len(widths) - 1, 0)} layer(s), but pdADMM splits a "
            "network of at least 2: give (features, hidden, ..., outputs)."
        )
    for index, width in enumerate(widths):
        if not isinstance(width, (int, np.integer)) or isinstance(width, bool) or width < 1:
            raise ValueError(
                f"widths[{index}] is {width!r} in {widths}, but every width has to be a "
                "whole number of at least 1."
            )
    return widths


def check_inputs(x: Any, features: int) -> None:
    """Refuses inputs that are not a floating (N, features) array."""
    if x.ndim != 2:
        raise ValueError(
            f"x has shape {x.shape}, but has to be 2-dimensional (samples, features): "
            "flatten each sample, x.reshape(len(x), -1)."
        )
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


def check_training_inputs(x: Any, features: int) -> None:
    """Refuses what ``check_inputs`` refuses, and a dtype too coarse for a state."""
    check_inputs(x, features)
    if jnp.finfo(x.dtype).bits < 32:
        raise ValueError(
            f"x has dtype {x.dtype}, in which sums over samples lose too much: x.astype('float32')."
        )


def check_finite(name: str, array: Any) -> None:
    """Refuses NaN and infinities, with the place of the first."""
    values = np.asarray(array)
    finite = np.isfinite(values)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name}{list(place)} is {values[place]}: replace the {int((~finite).sum())} value(s) "
            "that are not finite."
        )


def check_config(config: Any, kind: type, algorithm: str) -> None:
    """Refuses what is not the configuration of an algorithm.

    Raises:
        TypeError: another kind of object, such as the other algorithm's configuration.
    """
    if not isinstance(config, kind):
        *_, module, _, name = f"...{type(config).__module__}.{type(config).__name__}".split(".")
        given = f"{module}.{name}" if module in ("admm", "sweeps") else name
        raise TypeError(f"config is a {given}, but {algorithm} takes {algorithm}.Config.")


SHARED = ("step", "run", "reshard")  # functions of states that both algorithms have


def check_state(
    state: Any, kinds: tuple[type, ...], algorithm: str, other: str, function: str
) -> None:
    """Refuses what is not a state of an algorithm, or one batched by ``jax.vmap``.

    Args:
        state: what was given.
        kinds: the algorithm's states.
        algorithm: the module of the algorithm.
        other: that of the other one.
        function: what was called.

    Raises:
        TypeError: another kind of state, naming the function for it.
        ValueError: a batched state.
    """
    if not isinstance(state, kinds):
        *_, module, _ = f"..{type(state).__module__}".split(".")
        if module == other:
            way = f"use {other}.{function}, or" if function in SHARED else "it takes that of"
            raise TypeError(
                f"{algorithm}.{function} was given the {type(state).__name__} that {other}.init "
                f"makes: {way} {algorithm}.init."
            )
        raise TypeError(
            f"{algorithm}.{function} was given a {type(state).__name__}, but takes the state that "
            f"{algorithm}.init makes; {algorithm}.from_params makes one of weights (W, b)."
        )
    if axes := jnp.ndim(state.iteration):
        raise ValueError(
            f"the state's arrays have {axes} axes more than {algorithm}.init gives them: a "
            f"batch of states goes through jax.vmap."
        )
