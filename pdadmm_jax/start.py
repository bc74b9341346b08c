"""How a run begins: random weights or given ones, and the forward pass they make."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Array, PRNGKeyArray
from pdadmm_jax.checks import check_finite, check_widths, is_concrete
from pdadmm_jax.hyperparameters import Hyperparameters, at_precision_of
from pdadmm_jax.state import Boundary, Data, Layer, Params, State, as_arrays, check_data
from pdadmm_jax.updates import multiply

Initializer = Callable[[PRNGKeyArray, tuple[int, int], Any], Array]


def init(
    key: PRNGKeyArray,
    data: Data,
    widths: Sequence[int],
    hyper: Hyperparameters,
    initializer: Initializer | None = None,
) -> State:
    """A start from random weights and the forward pass they make.

    Args:
        key: PRNG key.
        data: training data.
        widths: (features, hidden, ..., outputs), any numbers.
        hyper: hyperparameters.
        initializer: one of ``jax.nn.initializers`` or alike; He's normal by default.  The paper
            has ``normal(0.1)``.

    Returns:
        The state, every constraint of the problem holding exactly.

    Raises:
        ValueError: widths, inputs or labels that do not fit each other.
    """
    widths = tuple(widths)
    data = as_arrays(data)
    check_widths(widths)
    check_data(data, widths, hyper)
    initializer = initializer or jax.nn.initializers.he_normal()
    keys = jax.random.split(key, len(widths) - 1)
    shapes = list(itertools.pairwise(widths))
    params = [
        (initializer(k, shape, data.x.dtype), jnp.zeros(shape[1], data.x.dtype))
        for k, shape in zip(keys, shapes, strict=True)
    ]
    return _forward_start(params, data, hyper)


def from_params(params: Params, data: Data, hyper: Hyperparameters) -> State:
    """The way back in: the state whose forward pass the given weights make, duals zero.

    Args:
        params: (W, b) of every layer, W of shape (n_in, n_out).
        data: training data.
        hyper: hyperparameters.

    Returns:
        The state, every constraint of the problem holding exactly.

    Raises:
        ValueError: weights, inputs or labels that do not fit each other.
    """
    data = as_arrays(data)
    check_data(data, _widths_of(params), hyper)
    for layer, (W, b) in enumerate(params, start=1):
        for name, array in (("W", W), ("b", b)):
            if is_concrete(array):
                check_finite(f"{name} of layer {layer}", array)
    return _forward_start(params, data, hyper)


def _widths_of(params: Params) -> tuple[int, ...]:
    """Widths the (W, b) pairs chain to."""
    for index, (W, b) in enumerate(params):
        if W.ndim != 2 or b.shape != (W.shape[1],):
            raise ValueError(
                f"layer {index + 1} has W of shape {W.shape} and b of shape {b.shape}, but needs "
                "(n_in, n_out) and (n_out,)."
            )
        if index and W.shape[0] != params[index - 1][0].shape[1]:
            raise ValueError(
                f"layer {index + 1} takes {W.shape[0]} inputs, but layer {index} gives "
                f"{params[index - 1][0].shape[1]}: W has shape (n_in, n_out); transpose it?"
            )
    found = tuple(W.shape[0] for W, _ in params[:1]) + tuple(W.shape[1] for W, _ in params)
    check_widths(found)
    return found


def _forward_start(params: Params, data: Data, hyper: Hyperparameters) -> State:
    """State with z = a = p W + b, p = q = f(z of the layer below) and u = 0."""
    hyper = at_precision_of(hyper, data.x.dtype)
    singles, p, below = [], data.x, None
    for W, b in params:
        W, b = jnp.asarray(W, data.x.dtype), jnp.asarray(b, data.x.dtype)
        a = multiply(p, W, hyper.precision) + b
        singles.append(Layer(W, b, a, a, below))
        p = hyper.activation(a)
        below = Boundary(p, p, jnp.zeros_like(p))
    return State(_stack(singles), jnp.asarray(0, jnp.int32))


def _stack(singles: Sequence[Layer]) -> tuple[Layer, ...]:
    """Groups consecutive hidden layers of one shape; first and last stay alone."""
    last = len(singles) - 1
    groups: list[list[Layer]] = []
    for index, layer in enumerate(singles):
        joins = 1 < index < last and layer.W.shape == groups[-1][-1].W.shape
        if joins:
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return tuple(jax.tree.map(lambda *arrays: jnp.stack(arrays), *group) for group in groups)
