"""How good a network is: mean loss, and accuracy or, where targets are numbers, R^2."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

import pdadmm_jax as pdadmm


def evaluate(network: Any, data: pdadmm.Data, config: Any) -> tuple[Any, Any]:
    """Mean loss of the forward pass, and its accuracy, or R^2 where targets are numbers.

    Args:
        network: a state, or (W, b) of every layer.
        data: y holds class numbers, (N,), or floats, (N, targets).
        config: gives activation, loss and precision.
    """
    if not jnp.issubdtype(data.y.dtype, jnp.floating):
        return pdadmm.evaluate(network, data, config)
    loss = pdadmm.loss(network, data, config)
    return loss, pdadmm.r_squared(network, data, config)
