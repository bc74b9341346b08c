"""Array types of the public signatures, written with jaxtyping where it is installed.

The library needs nothing but jax, jaxlib, optax and chex.  Without jaxtyping the annotations are
documentation; with it (the test suite installs it) they are checked at every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jax import Array

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, PRNGKeyArray, Shaped
else:
    try:
        from jaxtyping import Bool, Float, Int, PRNGKeyArray, Shaped
    except ImportError:

        class _Unchecked:
            """Stands for any array, whatever shape is asked of it."""

            def __class_getitem__(cls, shape: Any) -> Any:
                return Any

        Bool = Float = Int = Shaped = _Unchecked
        PRNGKeyArray = Any

AnyArray = Array | np.ndarray  # for what a user hands in
Scalar = Float[Array, ""]
Number = int | float | np.number | Shaped[Array, ""]
# Names with a leading underscore may differ from pair to pair.
Params = Sequence[tuple[Float[AnyArray, "_n_in _n_out"], Float[AnyArray, " _n_out"]]]
"""(W, b) of every layer, W of shape (n_in, n_out)."""

# What users hand in; the annotations of these say no more than their names.
ArrayLike = Any  # what ``as_array`` takes
ParamsLike = Any  # what ``as_pairs`` takes

__all__ = [
    "AnyArray",
    "Array",
    "ArrayLike",
    "Bool",
    "Float",
    "Int",
    "Number",
    "PRNGKeyArray",
    "Params",
    "ParamsLike",
    "Scalar",
    "Shaped",
]
