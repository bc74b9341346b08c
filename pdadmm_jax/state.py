"""The variables of the problem, the data they belong to, and the weights to take away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import AnyArray, Array, Float, Int, Shaped
from pdadmm_jax.checks import check_inputs
from pdadmm_jax.hyperparameters import Hyperparameters, check_representable

# Names with a leading underscore may differ from pair to pair.
Params = Sequence[tuple[Float[AnyArray, "_n_in _n_out"], Float[AnyArray, " _n_out"]]]


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
