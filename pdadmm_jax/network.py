"""The plain network the weights make: forward pass, loss and accuracy."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import AnyArray, Array, Float, Scalar
from pdadmm_jax.hyperparameters import Hyperparameters
from pdadmm_jax.state import Data, Params
from pdadmm_jax.updates import multiply


@jax.jit
def forward(
    params: Params, x: Float[AnyArray, "N features"], hyper: Hyperparameters
) -> Float[Array, "N C"]:
    """Outputs (logits) of the network.

    Args:
        params: (W, b) of every layer.
        x: inputs.
        hyper: gives the activation and the precision.
    """
    *hidden, (W_out, b_out) = jax.tree.map(jnp.asarray, params)
    p = jnp.asarray(x)
    for W, b in hidden:
        p = hyper.activation(multiply(p, W, hyper.precision) + b)
    return multiply(p, W_out, hyper.precision) + b_out


@jax.jit
def loss_and_accuracy(params: Params, data: Data, hyper: Hyperparameters) -> tuple[Scalar, Scalar]:
    """Mean risk per sample and share of correct answers, from one forward pass.

    Raises:
        ValueError: the loss knows no right and wrong (real-valued targets).
    """
    outputs = forward(params, data.x, hyper)
    value = jnp.mean(hyper.loss.value(outputs, data.y))
    return value, jnp.mean(hyper.loss.correct(outputs, data.y), dtype=value.dtype)


def mean_loss(params: Params, data: Data, hyper: Hyperparameters) -> Scalar:
    """Mean risk per sample of the forward pass."""
    return jnp.mean(hyper.loss.value(forward(params, data.x, hyper), data.y))


def accuracy(params: Params, data: Data, hyper: Hyperparameters) -> Scalar:
    """Share of samples that the forward pass answers correctly.

    Raises:
        ValueError: the loss knows no right and wrong (real-valued targets).
    """
    return loss_and_accuracy(params, data, hyper)[1]
