"""The plain network the weights make: forward pass, loss and accuracy."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import AnyArray, Array, Float, Scalar
from pdadmm_jax.admm.config import Problem
from pdadmm_jax.admm.state import Data, Params, as_arrays, check_targets
from pdadmm_jax.numerics.products import Precision, multiply
from pdadmm_jax.problems.activations import Activation
from pdadmm_jax.problems.losses import Loss


def forward(
    params: Params, x: Float[AnyArray, "N features"], hyper: Problem
) -> Float[Array, "N C"]:
    """Outputs (logits) of the network.

    Args:
        params: (W, b) of every layer.
        x: inputs.
        hyper: gives the activation and the precision.

    Raises:
        ValueError: inputs of another width than the first layer takes.
    """
    if x.ndim != 2 or x.shape[1] != params[0][0].shape[0]:
        raise ValueError(
            f"x has shape {x.shape}, but the first layer takes (samples, "
            f"{params[0][0].shape[0]}): flatten or choose the features."
        )
    return _forward(params, jnp.asarray(x), hyper.activation, hyper.precision)


def loss_and_accuracy(params: Params, data: Data, hyper: Problem) -> tuple[Scalar, Scalar]:
    """Mean risk per sample and share of correct answers, from one forward pass.

    Raises:
        ValueError: inputs or targets that do not fit, or targets that know no right and wrong.
    """
    outputs, data = _outputs(params, data, hyper)
    return _mean_loss(outputs, data, hyper.loss), _accuracy(outputs, data, hyper.loss)


def mean_loss(params: Params, data: Data, hyper: Problem) -> Scalar:
    """Mean risk per sample of the forward pass.

    Raises:
        ValueError: inputs or targets that do not fit.
    """
    return _mean_loss(*_outputs(params, data, hyper), hyper.loss)


def accuracy(params: Params, data: Data, hyper: Problem) -> Scalar:
    """Share of samples that the forward pass answers correctly.

    Raises:
        ValueError: inputs or targets that do not fit, or targets that know no right and wrong.
    """
    return _accuracy(*_outputs(params, data, hyper), hyper.loss)


def _outputs(params: Params, data: Data, hyper: Problem) -> tuple[Array, Data]:
    data = as_arrays(data)
    check_targets(data, params[-1][1].shape[0], hyper)
    return forward(params, data.x, hyper), data


@partial(jax.jit, static_argnums=(2, 3))
def _forward(params: Params, x: Array, activation: Activation, precision: Precision) -> Array:
    *hidden, (W_out, b_out) = jax.tree.map(jnp.asarray, params)
    for W, b in hidden:
        x = activation(multiply(x, W, precision) + b)
    return multiply(x, W_out, precision) + b_out


@partial(jax.jit, static_argnums=2)
def _mean_loss(outputs: Array, data: Data, loss: Loss) -> Array:
    return data.mean(loss.value(outputs, data.y))


@partial(jax.jit, static_argnums=2)
def _accuracy(outputs: Array, data: Data, loss: Loss) -> Array:
    # A mean is a product with the rounded 1/N: of ones it may be less than 1, of zeros it is 0.
    wrong = ~loss.correct(outputs, data.y)
    return 1 - data.mean(wrong.astype(outputs.dtype))
