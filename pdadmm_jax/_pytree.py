"""Frozen dataclasses as pytrees."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax
from jax.tree_util import GetAttrKey

T = TypeVar("T")


def pytree_dataclass(cls: type[T]) -> type[T]:
    """Registers a dataclass whose fields are leaves, but for those with metadata ``static``.

    JAX rebuilds pytrees around tracers, specifications and placeholders.  It does so past
    ``__init__`` here, so that ``__post_init__`` sees, and may refuse, what users construct and
    nothing else.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    leaves = [f.name for f in fields if not f.metadata.get("static")]
    static = [f.name for f in fields if f.metadata.get("static")]

    def flatten(tree: Any) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        children = [(GetAttrKey(name), getattr(tree, name)) for name in leaves]
        return children, tuple(getattr(tree, name) for name in static)

    def unflatten(structure: tuple[Any, ...], children: Any) -> T:
        tree = object.__new__(cls)
        for name, value in zip((*static, *leaves), (*structure, *children), strict=True):
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls
