"""The variables of the problem, and how a run begins and ends: init, params and back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import AnyArray, Array, Float, Int, PRNGKeyArray, Shaped
from pdadmm_jax.checks import check_finite, check_inputs, check_widths, is_concrete
from pdadmm_jax.hyperparameters import Hyperparameters, at_precision_of, check_representable
from pdadmm_jax.updates import multiply

# Names with a leading underscore may differ from pair to pair.
Params = Sequence[tuple[Float[AnyArray, "_n_in _n_out"], Float[AnyArray, " _n_out"]]]
Initializer = Callable[[PRNGKeyArray, tuple[int, int], Any], Array]


class Data(NamedTuple):
    """What is learnt from; full batch, rows are samples.  NumPy arrays will do.

    Attributes:
        x: inputs, p_1 of the paper.  Their dtype is that of the whole state.
        y: integer labels, or rows of targets or label distributions.
    """

    x: Float[Array, "N features"]
    y: Shaped[Array, "N"] | Shaped[Array, "N C"]


class Boundary(NamedTuple):
    """The input side of n stacked layers: the constraint p = q to the layer below each.

    The layer holds it all, so that neighbours exchange nothing but f(z) upward and q downward.
    """

    p: Float[Array, "n N n_in"]  # input of the layer
    q: Float[Array, "n N n_in"]  # activation variable of the layer below
    u: Float[Array, "n N n_in"]  # dual variable of p = q


class Layer(NamedTuple):
    """Variables of n consecutive layers of one shape n_in -> n_out, stacked along the first axis.

    The updates themselves see one layer, without that axis.
    """

    W: Float[Array, "n n_in n_out"]
    b: Float[Array, "n n_out"]
    z: Float[Array, "n N n_out"]
    a: Float[Array, "n N n_out"]  # p W + b, carried
    below: Boundary | None  # None for the first layer, whose input is the data


class State(NamedTuple):
    """All variables, from input to output.

    Attributes:
        layers: the first layer, the hidden ones, the output layer.  Consecutive hidden layers of
            one shape share a stack; the first and the last layer have a stack of one each.
        iteration: how many iterations were done.
    """

    layers: tuple[Layer, ...]
    iteration: Int[Array, ""]


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


def params(state: State) -> list[tuple[Float[Array, "_n_in _n_out"], Float[Array, " _n_out"]]]:
    """The weights as plain (W, b) pairs, input to output, for any other library to take."""
    return [(stack.W[i], stack.b[i]) for stack in state.layers for i in range(stack.W.shape[0])]


def dtype_of(state: State) -> Any:
    """The floating dtype of all variables."""
    return state.layers[0].z.dtype


def widths(state: State) -> tuple[int, ...]:
    """(features, hidden, ..., outputs)."""
    first, *_ = state.layers
    outputs = (stack.W.shape[2] for stack in state.layers for _ in range(stack.W.shape[0]))
    return (first.W.shape[1], *outputs)


def as_arrays(data: Data) -> Data:
    """The data as JAX arrays, doubles as singles unless x64 is on."""
    return Data(*map(jnp.asarray, data))


def check_data(data: Data, widths: Sequence[int], hyper: Hyperparameters) -> None:
    """Refuses data that do not fit the network or the loss, and penalties beyond the data's dtype.

    Values are looked at where they are known: outside jit.

    Raises:
        ValueError: naming both values and the way out.
    """
    check_inputs(data.x, widths[0])
    check_targets(data, widths[-1], hyper)
    check_representable(hyper, data.x.dtype)


def check_targets(data: Data, outputs: int, hyper: Hyperparameters) -> None:
    """Refuses targets that fit neither the inputs nor the loss."""
    x, y = data
    if y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise ValueError(
            f"x holds {x.shape[0]} samples, y has shape {y.shape}: y has to be (samples,) or "
            "(samples, outputs) with as many samples."
        )
    hyper.loss.check(y, outputs)


def check_match(state: State, data: Data, hyper: Hyperparameters) -> None:
    """Refuses data of other samples, width or dtype than the state was made for, or other y."""
    first = state.layers[0]
    expected = (first.z.shape[1], first.W.shape[1])
    if data.x.shape != expected:
        raise ValueError(
            f"x has shape {data.x.shape}, but the state was made for {expected}: the auxiliary "
            "variables belong to their samples; use the same data, or init for these."
        )
    if data.x.dtype != first.z.dtype:
        raise ValueError(
            f"x has dtype {data.x.dtype}, but the state {first.z.dtype}: cast one of them."
        )
    check_targets(data, widths(state)[-1], hyper)


def nonfinite(state: State) -> list[str]:
    """Which variables hold a NaN or an infinity, as "W of layer 3"; layers count from 1.

    Looks at every value, on the host: for the report after ``info.finite`` turned False.
    """
    bad, layer = [], 1
    for stack in state.layers:
        for i in range(stack.W.shape[0]):
            for path, array in jax.tree.leaves_with_path(stack):
                if not bool(jnp.isfinite(array[i]).all()):
                    bad.append(f"{path[-1].name} of layer {layer}")
            layer += 1
    return bad


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
