"""Whether an Optax optimizer moves every layer as it would alone, read from its program."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import Literal

Layers = frozenset[int]
Operations = dict[Layers, Counter[tuple[str, ...]]]  # by the layers that they depend on


@functools.lru_cache(maxsize=64)
def separable(optimizer: optax.GradientTransformation, depth: int) -> bool:
    """Whether the optimizer's update of a layer depends on that layer alone, alike for all layers.

    Not so for norms over all layers, masks that name some of them, or noise from one key for all.
    The update of a network of this depth with tiny layers is traced, not run.

    Args:
        optimizer: the optimizer.
        depth: layers of the network.
    """
    shapes = jax.ShapeDtypeStruct((3, 3), jnp.float32), jax.ShapeDtypeStruct((3,), jnp.float32)
    with jax.numpy_dtype_promotion("standard"):
        try:
            jax.eval_shape(optimizer.init, [shapes])
        except (ValueError, TypeError, KeyError, IndexError):
            return False  # made for the whole network: a single layer will not do
        network = depth * [shapes]
        state = jax.eval_shape(optimizer.init, network)
        traced = jax.make_jaxpr(optimizer.update)(network, state, network)

    per_layer = [frozenset([layer]) for layer in range(depth) for _ in shapes]
    kept: list[Layers] = [frozenset()] * len(jax.tree.leaves(state))
    while True:  # what the state depends on, it passes on to the next update
        operations: Operations = {}
        inputs = [*per_layer, *kept, *per_layer]
        outputs = _dependencies(traced.jaxpr, inputs, operations)
        updates, passed_on = outputs[: len(per_layer)], outputs[len(per_layer) :]
        merged = [old | new for old, new in zip(kept, passed_on, strict=True)]
        if merged == kept:
            break
        kept = merged
    names = {name for counted in operations.values() for name, *_ in counted}
    if any(name.startswith(("random", "threefry")) for name in names):
        return False  # every layer alone would draw the same numbers
    own = all(found <= expected for found, expected in zip(updates, per_layer, strict=True))
    work = [operations.get(frozenset([layer]), Counter()) for layer in range(depth)]
    return own and all(one == work[0] for one in work)


def _dependencies(jaxpr: Any, inputs: Sequence[Layers], operations: Operations) -> list[Layers]:
    """Which layers every output of a program depends on, given the same of its inputs.

    Args:
        jaxpr: the program.
        inputs: layers that its inputs depend on.
        operations: counts the program's operations, by the layers that they depend on.
    """
    known: dict[Any, Layers] = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(variable: Any) -> Layers:
        return frozenset() if isinstance(variable, Literal) else known.get(variable, frozenset())

    for equation in jaxpr.eqns:
        sources = [of(variable) for variable in equation.invars]
        inner = equation.params.get("jaxpr") if equation.primitive.name in ("jit", "pjit") else None
        if inner is not None:
            found = _dependencies(inner.jaxpr, sources, operations)
        else:
            together = frozenset[int]().union(*sources)
            found = [together] * len(equation.outvars)
            operations.setdefault(together, Counter())[_signature(equation)] += 1
        known.update(zip(equation.outvars, found, strict=True))
    return [of(variable) for variable in jaxpr.outvars]


def _signature(equation: Any) -> tuple[str, ...]:
    """What an operation does, whatever the names of its variables."""
    numbers = [str(v.val) for v in equation.invars if isinstance(v, Literal)]
    shapes = [str(v.aval) for v in equation.outvars]
    return (equation.primitive.name, *numbers, *shapes)
