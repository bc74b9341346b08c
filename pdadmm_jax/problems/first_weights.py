"""First weights of a network."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
from pdadmm_jax.problems.activations import ACTIVATIONS, Activation
from pdadmm_jax.problems.data import Data, check_data
from pdadmm_jax.problems.problem import ActivationLike, Problem, check_residual_block, resolved
from pdadmm_jax.problems.residual import ends_block

Initializer = Callable[[PRNGKeyArray, tuple[int, int], Any], Array]
InitializerLike = Initializer | str | None  # a function, the name of one of ours, or the default

INITIALIZERS = ("orthogonal", "looks_linear")
DEEP = 8  # layers from which "looks_linear" is the default


@isolated_with_transfers
def random_params(
    key: PRNGKeyArray,
    widths: Sequence[int],
    initializer: InitializerLike = None,
    dtype: Any = jnp.float32,
    *,
    activation: ActivationLike = "relu",
    residual_block: int = 0,
) -> list[tuple[Array, Array]]:
    """Random W, and b = 0, of every layer.

    "orthogonal" matrices times sqrt(2) keep the size of what ReLU halves and lose no direction on
    the way.  But through many layers ReLU makes all samples alike.  With "looks_linear" (Balduzzi
    et al., 2017, arXiv:1702.08591) hidden neurons come in pairs of opposite z, whose f(z) - f(-z)
    is linear in z: every W is made of an orthogonal O as (O, -O; -O, O), and the network is a
    product of orthogonal matrices until it learns, however deep it is.

    Args:
        key: PRNG key.
        widths: (features, hidden, ..., outputs).
        initializer: "orthogonal", "looks_linear", or one of ``jax.nn.initializers`` or alike,
            called for each layer; the paper has ``normal(0.1)``.  By default "looks_linear" from 8
            layers on, where f(z) - f(-z) is linear, as that of ReLU and its smooth relatives is,
            and "orthogonal" for other networks.
        dtype: of the weights.
        activation: f of the hidden layers.
        residual_block: hidden layers of a residual block (``sweeps.Config``).  W of its last layer
            is divided by the square root of the number of blocks, unless the initializer is a
            function; so that what all of them add is as large as what they add to.

    Raises:
        ValueError: widths that make no network or no residual blocks, an unknown activation,
            weights of another shape than asked for, or "looks_linear" for an activation that is
            not.
        TypeError: no PRNG key, or an initializer that is neither a function nor a name.
    """
    widths = check_widths(widths)
    check_key(key)
    check_residual_block(residual_block, widths)
    f: Activation = resolved("activation", activation, Activation, ACTIVATIONS)
    depth = len(widths) - 1
    if initializer is None:
        initializer = default_initializer(depth, f)
    slope = slope_of_pairs(f) if initializer == "looks_linear" else 0.0
    if not callable(initializer) and initializer not in INITIALIZERS:
        raise TypeError(
            f"initializer is {initializer!r}, but has to be one of {', '.join(INITIALIZERS)}, or a "
            "function of (key, shape, dtype), such as jax.nn.initializers.he_normal()."
        )
    if initializer == "looks_linear" and not slope:
        raise ValueError(
            f"initializer is 'looks_linear', but f(z) - f(-z) of {f} is not linear: "
            "choose 'orthogonal'."
        )
    keys = jax.random.split(on_its_device(key), depth)
    weights = []
    for layer, shape in enumerate(itertools.pairwise(widths)):
        if callable(initializer):
            W = initializer(keys[layer], shape, dtype)
        elif initializer == "orthogonal":
            W = jax.nn.initializers.orthogonal(2**0.5)(keys[layer], shape, dtype)
        else:
            pairs = layer > 0, layer < depth - 1
            W = _of_pairs(keys[layer], shape, pairs, dtype) / (slope if layer else 1)
        hidden = 0 < layer < depth - 1
        if not callable(initializer) and residual_block and hidden:
            blocks = math.ceil((depth - 2) / residual_block)
            W = W / blocks**0.5 if ends_block(layer, depth, residual_block) else W
        check_shapes(W=(W, shape))
        weights.append((W, jnp.zeros(shape[1], dtype)))
    return weights


def default_initializer(depth: int, activation: Activation, *, deep: int = DEEP) -> str:
    """The name of first weights that suit: "looks_linear" for deep networks, else "orthogonal".

    Args:
        depth: layers of the network.
        activation: f of the hidden layers; "orthogonal" where f(z) - f(-z) is not linear.
        deep: layers from which a network is deep.
    """
    return "looks_linear" if depth >= deep and slope_of_pairs(activation) else "orthogonal"


def slope_of_pairs(f: Activation) -> float:
    """c where f(z) - f(-z) = c z and f is no odd function; else 0.

    Neurons of opposite z are of use together only if f(z) and f(-z) differ by more than a sign.
    """
    with jax.ensure_compile_time_eval():
        z = jnp.asarray([0.0, 0.25, 0.5, 1.0, 2.0])
        up, down = np.asarray(f(z)), np.asarray(f(-z))
    slope = float(up[-1] - down[-1]) / 2
    linear = np.allclose(up - down, slope * np.asarray(z), atol=1e-5)
    odd = np.allclose(up + down, up[0] + down[0], atol=1e-5)
    return slope if linear and not odd else 0.0


def _of_pairs(
    key: PRNGKeyArray, shape: tuple[int, int], pairs: tuple[bool, bool], dtype: Any
) -> Array:
    """A matrix that takes pairs of opposite neurons, gives such pairs, or both.

    Pairs are a half of the width apart; of an odd width one neuron has no opposite.
    """
    sides = zip(shape, pairs, strict=True)
    smaller = tuple(-(-width // 2) if paired else width for width, paired in sides)
    W = jax.nn.initializers.orthogonal()(key, smaller, dtype)
    for axis, paired in enumerate(pairs):
        if paired:
            W = jnp.concatenate([W, -W], axis)
    return W[: shape[0], : shape[1]]


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
