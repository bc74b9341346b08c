"""The network that trained weights make: forward pass, predictions, loss and accuracy.

Every function takes a state of either algorithm or plain weights, a list of (W, b) or what
``params`` makes such a list of.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from pdadmm_jax import admm, sweeps
from pdadmm_jax._checks import check_inputs
from pdadmm_jax._surroundings import isolated, isolated_with_transfers
from pdadmm_jax._typing import Array, ArrayLike, Float, ParamsLike, Scalar
from pdadmm_jax.admm.relayout import nonfinite as _nonfinite_variables
from pdadmm_jax.numerics.products import Precision
from pdadmm_jax.parallel.forward import outputs
from pdadmm_jax.parallel.groups import group, ungroup
from pdadmm_jax.parallel.relayout import nonfinite_rows, numbered, replicated_weights
from pdadmm_jax.problems.activations import Activation
from pdadmm_jax.problems.data import Data, as_arrays, check_targets, numeric_inputs
from pdadmm_jax.problems.first_weights import as_pairs, chained_widths
from pdadmm_jax.problems.losses import ConvexLoss, Loss, SquaredError, has_classes
from pdadmm_jax.problems.problem import Problem, check_problem, check_residual_block

_States = (admm.State, admm.ShardedState, sweeps.State)
StateOrParams = admm.State | admm.ShardedState | sweeps.State | ParamsLike


@isolated_with_transfers
def params(network: StateOrParams) -> list[tuple[Float[Array, "..."], Float[Array, "..."]]]:
    """The weights as plain (W, b) pairs, input to output, for any other library to take.

    Args:
        network: a state of either algorithm, such pairs, of which b is None where a layer has
            none, or Flax's dictionary of ``Dense`` layers.  Of a batch of states, as ``jax.vmap``
            makes them, every W and b has the batch's axes in front.

    Returns:
        (W, b) of every layer, W of shape (n_in, n_out).  Of a state on a mesh, every device gets
        all of them.
    """
    if not isinstance(network, _States):
        return as_pairs(network)
    weights: Any = network.weights
    if network.placement is not None:
        weights = replicated_weights(weights, network.placement)
    return ungroup(weights)


@isolated
def forward(network: StateOrParams, x: ArrayLike, config: Problem) -> Float[Array, "N C"]:
    """Outputs (logits) of the network.

    Args:
        network: a state, or (W, b) of every layer.
        x: inputs, (N, features).
        config: gives the activation, the residual blocks and the precision.

    Raises:
        TypeError: no weights, no array, or no configuration.
        ValueError: weights that do not chain, a batch of networks, or inputs that are not floating
            or of another width than the first layer takes.
    """
    check_problem(config)
    weights = params(network)
    inputs = jnp.asarray(numeric_inputs(x))
    widths = chained_widths(weights)
    check_inputs(inputs, widths[0])
    check_residual_block(config.residual_block, widths)
    return _forward(weights, inputs, config.activation, config.precision, config.residual_block)


@isolated
def predict(network: StateOrParams, x: ArrayLike, config: Problem) -> Array:
    """What the network says of each sample.

    Args:
        network: a state, or (W, b) of every layer.
        x: inputs, (N, features).
        config: gives the activation, the loss and the precision.

    Returns:
        What the loss makes of the outputs: class numbers (N,) of ``softmax_cross_entropy`` and
        ``multiclass_hinge``, 0 or 1 for every output of ``binary_logistic``, the outputs
        themselves of ``squared_error``.

    Raises:
        ValueError: as ``forward``.
    """
    return config.loss.predict(forward(network, x, config))


@isolated
def evaluate(network: StateOrParams, data: Data, config: Problem) -> tuple[Scalar, Scalar]:
    """Mean risk per sample and share of correct predictions, from one forward pass.

    Raises:
        ValueError: inputs or targets that do not fit, or targets that are no classes.
    """
    found, data = _outputs(network, data, config)
    return _mean_loss(found, data, config.loss), _accuracy(found, data, config.loss)


@isolated
def loss(network: StateOrParams, data: Data, config: Problem) -> Scalar:
    """Mean risk per sample of the forward pass.

    Raises:
        ValueError: inputs or targets that do not fit.
    """
    return _mean_loss(*_outputs(network, data, config), config.loss)


@isolated
def accuracy(network: StateOrParams, data: Data, config: Problem) -> Scalar:
    """Share of samples that the forward pass predicts correctly.

    Raises:
        ValueError: inputs or targets that do not fit, or targets that are no classes.
    """
    return _accuracy(*_outputs(network, data, config), config.loss)


@isolated
def r_squared(network: StateOrParams, data: Data, config: Problem) -> Scalar:
    """Share of the targets' variance that the outputs explain, 1 - residuals / variance.

    1 is perfect, 0 as good as the targets' mean.  Of several targets, the mean over those that
    vary; NaN if none does.

    Args:
        network: a state, or (W, b) of every layer.
        data: samples with real targets of shape (N, C).
        config: gives the activation and the precision.

    Raises:
        ValueError: inputs or targets that do not fit, or labels.
    """
    found, data = _outputs(network, data, config)
    if not is_regression(data, config, found.shape[-1]):
        raise ValueError(
            f"y of shape {data.y.shape} and dtype {data.y.dtype} are classes by this loss: report "
            "the accuracy, or give targets of shape (samples, outputs) and 'squared_error'."
        )
    return _r_squared(found, data)


@isolated
def loss_and_score(network: StateOrParams, data: Data, config: Problem) -> tuple[Scalar, Scalar]:
    """``evaluate``, with R^2 in the place of the accuracy where targets are numbers.

    Raises:
        ValueError: inputs or targets that do not fit.
    """
    found, data = _outputs(network, data, config)
    if is_regression(data, config, found.shape[-1]):
        score = _r_squared(found, data)
    else:
        score = _accuracy(found, data, config.loss)
    return _mean_loss(found, data, config.loss), score


def is_regression(data: Data, config: Problem, outputs: int) -> bool:
    """Whether targets are numbers to be met, not classes, for a network of so many outputs."""
    loss = config.loss
    if isinstance(loss, ConvexLoss):
        return not loss.classification
    return isinstance(loss, SquaredError) and not has_classes(jnp.asarray(data.y), outputs)


@isolated
def nonfinite(state: admm.State | admm.ShardedState | sweeps.State) -> list[str]:
    """Which variables hold a NaN or an infinity, as "W of layer 3"; layers count from 1.

    Looks at every value: for the report after ``info.finite`` turned False.

    Raises:
        TypeError: no state.
    """
    if not isinstance(state, _States):
        raise TypeError(
            f"nonfinite was given a {type(state).__name__}, but takes the state of an algorithm."
        )
    if not isinstance(state, sweeps.State):
        return _nonfinite_variables(state)
    if state.placement is not None and not state.plan.alike:
        state = sweeps.reshard(state, None)
    found = nonfinite_rows(numbered(state.weights, state.plan), state.placement)
    return [f"{name} of layer {layer}" for layer, name in sorted(found)]


def _outputs(network: StateOrParams, data: Data, config: Problem) -> tuple[Array, Data]:
    weights, data = params(network), as_arrays(data)
    check_targets(data, weights[-1][1].shape[-1], config)
    return forward(weights, data.x, config), data


@partial(jax.jit, static_argnums=(2, 3, 4))
def _forward(
    weights: list[tuple[Array, Array]],
    x: Array,
    activation: Activation,
    precision: Precision,
    residual_block: int,
) -> Array:
    return outputs(group(weights, x.dtype, unrolled=True), x, activation, precision, residual_block)


@partial(jax.jit, static_argnums=2)
def _mean_loss(outputs: Array, data: Data, loss: Loss) -> Array:
    return data.mean(loss.value(outputs, data.y))


@jax.jit
def _r_squared(outputs: Array, data: Data) -> Array:
    y = data.y.astype(outputs.dtype).reshape(outputs.shape)
    means = jax.vmap(data.mean, in_axes=1)  # over the samples that count, column by column
    centre = means(y)
    rest, variance = means((outputs - y) ** 2), means((y - centre[None]) ** 2)
    # A mean is rounded: the variance that this alone gives a constant target counts as none.
    varies = variance > (8 * jnp.finfo(y.dtype).eps * centre) ** 2
    explained = jnp.where(varies, 1 - rest / jnp.where(varies, variance, 1), 0)
    return jnp.sum(explained) / jnp.sum(varies, dtype=y.dtype)


@partial(jax.jit, static_argnums=2)
def _accuracy(outputs: Array, data: Data, loss: Loss) -> Array:
    # A mean is a product with the rounded 1/N: of ones it may be less than 1, of zeros it is 0.
    wrong = ~loss.correct(outputs, data.y)
    return 1 - data.mean(wrong.astype(outputs.dtype))
