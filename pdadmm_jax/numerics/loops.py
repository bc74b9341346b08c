"""What loops over data split among devices ask of their first carry."""

from __future__ import annotations

import jax.numpy as jnp

from pdadmm_jax._typing import Array


def varying_with(value: Array, on: Array) -> Array:
    """The value, declared to differ between devices where another array does; compiles to nothing.

    Where arrays differ from device to device, JAX wants a loop's first carry to be known to do so
    from the start, even a constant that only its second turn replaces.

    Args:
        value: an array of any shape.
        on: the array that the loop works on.
    """
    return jnp.where(jnp.any(on == on), value, value)
