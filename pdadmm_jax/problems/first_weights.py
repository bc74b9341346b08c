"""First weights of a network."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pdadmm_jax._arrays import as_array, on_its_device
from pdadmm_jax._checks import (
    check_finite,
    check_key,
    check_shapes,
    check_widths,
    is_concrete,
)
from pdadmm_jax._surroundings import isolated_with_transfers
from pdadmm_jax._typing import Array, Params, PRNGKeyArray
from pdadmm_jax.problems.data import Data, check_data
from pdadmm_jax.problems.problem import Problem

Initializer = Callable[[PRNGKeyArray, tuple[int, int], Any], Array]


@isolated_with_transfers
def random_params(
    key: PRNGKeyArray,
    widths: Sequence[int],
    initializer: Initializer | None = None,
    dtype: Any = jnp.float32,
) -> list[tuple[Array, Array]]:
    """Random W, and b = 0, of every layer.

    Args:
        key: PRNG key.
        widths: (features, hidden, ..., outputs).
        initializer: one of ``jax.nn.initializers`` or alike; by default orthogonal matrices times
            sqrt(2), which keep the size of what ReLU halves and lose no direction on the way.  The
            paper has ``normal(0.1)``.
        dtype: of the weights.

    Raises:
        ValueError: widths that make no network, or weights of another shape than asked for.
        TypeError: no PRNG key, or an initializer that is no function.
    """
    widths = check_widths(widths)
    check_key(key)
    initializer = initializer or jax.nn.initializers.orthogonal(2**0.5)
    if not callable(initializer):
        raise TypeError(
            f"initializer is {initializer!r}, but has to be a function of (key, shape, dtype), "
            "such as jax.nn.initializers.he_normal()."
        )
    keys = jax.random.split(on_its_device(key), len(widths) - 1)
    weights = []
    for k, shape in zip(keys, itertools.pairwise(widths), strict=True):
        W = initializer(k, shape, dtype)
        check_shapes(W=(W, shape))
        weights.append((W, jnp.zeros(shape[1], dtype)))
    return weights


def zero_params(widths: Sequence[int], dtype: Any) -> Params:
    """Weights of zeros, for their shapes."""
    shapes = itertools.pairwise(widths)
    return [(jnp.zeros(shape, dtype), jnp.zeros(shape[1], dtype)) for shape in shapes]


def as_pairs(params: Any) -> list[tuple[Array, Array]]:
    """The weights as JAX arrays.

    Args:
        params: pairs (W, b), of which b is None where a layer has none; or Flax's dictionary of
            ``Dense`` layers.

    Raises:
        TypeError: they are neither, naming the layer.
        ValueError: there are none.
    """
    if isinstance(params, Mapping):
        params = _pairs_of_flax(params)
    if not isinstance(params, Sequence) or hasattr(params, "_fields"):
        raise TypeError(
            f"weights are a {type(params).__name__}, but have to be a list of (W, b), as "
            "params(state) gives it."
        )
    if not params:
        raise ValueError("weights are an empty list, but a network has at least 2 layers.")
    pairs = []
    for layer, pair in enumerate(params, start=1):
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(f"layer {layer} is a {type(pair).__name__}, but has to be (W, b).")
        W = as_array(f"W of layer {layer}", pair[0])
        no_intercept = pair[1] is None
        b = jnp.zeros(W.shape[-1:], W.dtype) if no_intercept else pair[1]
        pairs.append((W, as_array(f"b of layer {layer}", b)))
    return pairs


def _pairs_of_flax(variables: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """(W, b) of Flax's ``Dense`` layers, in the order of the numbers that end their names.

    Args:
        variables: {"params": {"Dense_0": {"kernel": W, "bias": b}, ...}}, or what is in "params".

    Raises:
        TypeError: there are other layers, or names that tell no order.
    """
    layers = variables.get("params", variables)
    if not isinstance(layers, Mapping):
        raise TypeError(f"'params' is a {type(layers).__name__}, but has to be a dictionary.")
    numbers = {name: re.findall(r"\d+$", str(name)) for name in layers}
    if not layers or not all(numbers.values()):
        raise TypeError(
            f"weights are a dictionary of {list(layers)}, but have to be a list of (W, b), or "
            "Flax's {'params': {'Dense_0': {'kernel': W, 'bias': b}, ...}}, in the order of the "
            "numbers."
        )
    for name, layer in layers.items():
        known = isinstance(layer, Mapping) and "kernel" in layer
        if not known or not set(layer) <= {"kernel", "bias"}:
            parts = list(layer) if isinstance(layer, Mapping) else type(layer).__name__
            raise TypeError(f"layer {name!r} has {parts}, but has to have 'kernel' and 'bias'.")
    ordered = sorted(layers, key=lambda name: int(numbers[name][0]))
    return [(layers[name]["kernel"], layers[name].get("bias")) for name in ordered]


def chained_widths(params: Params) -> tuple[int, ...]:
    """Widths that the (W, b) pairs chain to.

    Raises:
        ValueError: pairs that do not fit each other, naming the layer.
    """
    for index, (W, b) in enumerate(params):
        if W.ndim != 2 or b.shape != (W.shape[1],):
            raise ValueError(
                f"layer {index + 1} has W of shape {W.shape} and b of shape {b.shape}, but needs "
                "(n_in, n_out) and (n_out,); a batch of networks goes through jax.vmap."
            )
        if index and W.shape[0] != params[index - 1][0].shape[1]:
            raise ValueError(
                f"layer {index + 1} takes {W.shape[0]} inputs, but layer {index} gives "
                f"{params[index - 1][0].shape[1]}: W has shape (n_in, n_out); transpose it?"
            )
    found = tuple(W.shape[0] for W, _ in params[:1]) + tuple(W.shape[1] for W, _ in params)
    return check_widths(found)


def check_params(params: Params, data: Data, problem: Problem) -> tuple[int, ...]:
    """Refuses weights that are not finite or fit neither each other nor the data.

    Returns:
        The network's widths.

    Raises:
        ValueError: naming the layer.
    """
    widths = chained_widths(params)
    check_data(data, widths, problem)
    for layer, (W, b) in enumerate(params, start=1):
        for name, array in (("W", W), ("b", b)):
            if is_concrete(array):
                check_finite(f"{name} of layer {layer}", array)
    return widths
