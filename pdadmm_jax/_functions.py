"""Frozen objects that hold functions of the user's, or of JAX, and go to other processes."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple, TypeVar

Self = TypeVar("Self", bound="HoldsFunction")

# Compiled functions of JAX name the private module that they were written in.
_PUBLIC = ("jax.numpy", "jax.nn", "jax.lax", "jax.scipy.special")


class _Name(NamedTuple):
    """Where a function is imported from."""

    module: str
    name: str


class HoldsFunction:
    """Pickles functions by the name that they can be imported by, which pickle does not find for

    those that ``jax.jit`` has compiled.  Being frozen, such an object is its own copy.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {field: _named(value) for field, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for field, value in state.items():
            object.__setattr__(self, field, _imported(value))

    def __copy__(self: Self) -> Self:
        return self

    def __deepcopy__(self: Self, memo: Any) -> Self:
        return self


def _named(value: Any) -> Any:
    """The name of a function that can be imported, anything else as it is."""
    name = getattr(value, "__name__", None)
    for module in (getattr(value, "__module__", None), *_PUBLIC):
        if name and getattr(sys.modules.get(str(module)), name, None) is value:
            return _Name(str(module), name)
    return value


def _imported(value: Any) -> Any:
    if isinstance(value, _Name):
        return getattr(importlib.import_module(value.module), value.name)
    return value
