"""What loops over data split among devices ask of their first carry."""

from __future__ import annotations

import jax.numpy as jnp

from pdadmm_jax._typing import Array


def depending(value: Array, on: Array) -> Array:
    """The value, said to depend on another array; compiles to nothing.

    Where arrays differ from device to device, JAX wants a loop's first carry to be known to do so
    from the start, even a constant that only its second turn replaces.

    Args:
        value: a scalar, or an array of the other's shape.
        on: the array that the loop works on.
    """
    same = on == on
    return jnp.where(same if value.ndim else jnp.any(same), value, value)
