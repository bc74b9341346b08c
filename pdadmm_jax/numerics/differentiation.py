"""Which way a step of training may be differentiated."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

T = TypeVar("T")


def forward_mode_only(tree: T) -> T:
    """The same arrays; whoever asks for a gradient of them is told why there is none.

    For results of a step: its inner solves are loops of data-dependent length, which JAX
    differentiates forward only.

    Raises:
        ValueError: while reverse-mode differentiation is traced.
    """

    def guarded(leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return _guarded.bind(leaf) if floating else leaf

    return jax.tree.map(guarded, tree)


def _refuse(cotangent: Any, value: Any) -> Any:
    del cotangent, value
    raise ValueError(
        "a training step has no reverse-mode derivative, because its inner solves are loops of "
        "data-dependent length: use forward mode, jax.jvp or jax.jacfwd."
    )


# The identity, as a linear map without a transpose.
_guarded = Primitive("forward_mode_only")
_guarded.def_impl(lambda value: value)
_guarded.def_abstract_eval(lambda value: value)
ad.deflinear2(_guarded, _refuse)
batching.defvectorized(_guarded)
mlir.register_lowering(_guarded, mlir.lower_fun(lambda value: value, multiple_results=False))
