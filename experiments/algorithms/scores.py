"""How good a network is: mean loss, and accuracy or, where targets are numbers, R^2."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import pdadmm_jax as pdadmm
from pdadmm_jax._typing import Array


def evaluate(network: Any, data: pdadmm.Data, config: Any) -> tuple[Any, Any]:
    """Mean loss of the forward pass, and its accuracy, or R^2 where targets are numbers.

    Args:
        network: a state, or (W, b) of every layer.
        data: y holds class numbers, (N,), or floats, (N, targets).
        config: gives activation, loss and precision.
    """
    if not jnp.issubdtype(data.y.dtype, jnp.floating):
        return pdadmm.evaluate(network, data, config)
    return _fit(pdadmm.forward(network, data.x, config), data, config.loss)


@partial(jax.jit, static_argnums=2)
def _fit(outputs: Array, data: pdadmm.Data, loss: pdadmm.Loss) -> tuple[Array, Array]:
    """Mean loss, and 1 - squared error / variance, the mean over the targets that vary.

    The variance is that of these samples; without any R^2 is NaN.
    """

    def means(rows: Array) -> Array:
        number = data.number
        return jnp.sum(data.keep(rows), 0) / (len(rows) if number is None else number)

    y = data.y
    center = means(y)
    error, variance = means((outputs - y) ** 2), means((y - center) ** 2)
    # A mean is rounded: the variance that this alone gives a constant target counts as none.
    varies = variance > (8 * jnp.finfo(y.dtype).eps * center) ** 2
    explained = jnp.where(varies, 1 - error / jnp.where(varies, variance, 1), 0)
    return data.mean(loss.value(outputs, y)), jnp.sum(explained) / jnp.sum(varies, dtype=y.dtype)
