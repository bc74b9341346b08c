"""The variables of the problem, the data they belong to, and the weights to take away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pdadmm_jax._checks import check_inputs
from pdadmm_jax._typing import AnyArray, Array, Bool, Float, Int, Shaped
from pdadmm_jax.admm.config import Hyperparameters, Problem, check_representable
from pdadmm_jax.parallel.placement import Placement
from pdadmm_jax.parallel.plan import Plan, plan

# Names with a leading underscore may differ from pair to pair.
Params = Sequence[tuple[Float[AnyArray, "_n_in _n_out"], Float[AnyArray, " _n_out"]]]


class Data(NamedTuple):
    """What is learnt from; full batch, rows are samples.  NumPy arrays will do.

    Attributes:
        x: inputs, p_1 of the paper.  Their dtype is that of the whole state.
        y: integer labels, or rows of targets or label distributions.
        valid: which samples count, None for all.  The others, x = 0, make up the numbers where
            samples have to divide evenly; they take part in no sum and no mean.
    """

    x: Float[Array, "N features"]
    y: Shaped[Array, "N"] | Shaped[Array, "N C"]
    valid: Bool[Array, "N"] | None = None

    def keep(self, rows: Array, otherwise: Array | float = 0.0) -> Array:
        """The rows of the samples that count; zero, or what is given, in place of the others."""
        if self.valid is None:
            return rows
        valid = jnp.expand_dims(self.valid, range(1, rows.ndim))
        return jnp.where(valid, rows, jnp.asarray(otherwise, rows.dtype))

    def mean(self, rows: Array) -> Array:
        """The mean over the samples that count, one number."""
        number = self.number
        return jnp.sum(self.keep(rows)) / (rows.shape[0] if number is None else number)

    @property
    def number(self) -> Array | None:
        """How many of the rows at hand count; None for all."""
        return None if self.valid is None else jnp.sum(self.valid, dtype=self.x.dtype)


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


class Weights(NamedTuple):
    """Weights of the hidden layers that lie in the heads of n stages."""

    W: Float[Array, "n h h"]
    b: Float[Array, "n h"]


class Messages(NamedTuple):
    """What each of n stages has heard from its neighbours."""

    q_above: Float[Array, "n N h"]  # q of the boundary above its topmost layer
    # Where messages are rounded, the values both ends have agreed on:
    f_below: Float[Array, "n N h"] | None  # f(z) of the layer below, as heard
    f_sent: Float[Array, "n N h"] | None  # f(z) of its own topmost layer, as sent


class State(NamedTuple):
    """All variables, from input to output.

    On a mesh every array has a leading axis over stages, and the layers of a stage are those of
    its plan: ``layers`` holds the output sides of the heads, the stacks, and the input sides of
    the heads with the output layer's weights.  What a stage has no use for is zero.

    Attributes:
        layers: the first layer, the hidden ones, the output layer.  Consecutive hidden layers of
            one shape share a stack; the first and the last layer have a stack of one each.
        iteration: how many iterations were done.
        link: weights of hidden layers in heads; None where there are none.
        messages: what stages have heard from each other; None if there is only one.
        placement: where the state lives; None for a single device.
    """

    layers: tuple[Layer, ...]
    iteration: Int[Array, ""]
    link: Weights | None = None
    messages: Messages | None = None
    placement: Placement | None = None


class Parts(NamedTuple):
    """One thing of each group of layers, such as their weights; arrays have a first axis of layers.

    Attributes:
        lower: the first layer, then the stacks of hidden ones.
        last: the last layer.
        link: the hidden layer in the head, where the plan has such heads.
    """

    lower: tuple[Any, ...]
    last: Any
    link: Any


def parts_of(weights: State) -> Parts:
    """The weights of a state, group by group."""
    *lower, last = (Weights(layer.W, layer.b) for layer in weights.layers)
    return Parts(tuple(lower), last, weights.link)


def with_parts(weights: State, parts: Parts) -> State:
    """A state with these weights."""
    layers = zip(weights.layers, (*parts.lower, parts.last), strict=True)
    layers = tuple(layer._replace(W=new.W, b=new.b) for layer, new in layers)
    return weights._replace(layers=layers, link=parts.link)


def boundaries_of(state: State) -> list[Boundary]:
    """The boundaries of all stacks, from below; on a mesh the heads' come last."""
    return [layer.below for layer in state.layers if layer.below is not None]


def per_sample(path: Any) -> bool:
    """Whether the variable at this path of a state has rows of samples."""
    return path[-1].name not in ("W", "b", "iteration")


def dtype_of(state: State) -> Any:
    """The floating dtype of all variables."""
    return state.layers[0].z.dtype


def widths(state: State) -> tuple[int, ...]:
    """(features, hidden, ..., outputs)."""
    return plan_of(state).widths


def plan_of(state: State) -> Plan:
    """Which stage holds which layers."""
    if state.placement is not None:
        return state.placement.plan
    first, *_ = state.layers
    outputs = (stack.W.shape[2] for stack in state.layers for _ in range(stack.W.shape[0]))
    return plan((first.W.shape[1], *outputs), stages=1)


def as_arrays(data: Data) -> Data:
    """The data as JAX arrays, doubles as singles unless x64 is on."""
    return jax.tree.map(jnp.asarray, data)


def check_data(data: Data, widths: Sequence[int], hyper: Problem) -> None:
    """Refuses data that do not fit the network or the loss, and penalties beyond the data's dtype.

    Values are looked at where they are known: outside jit.

    Raises:
        ValueError: naming both values and the way out.
    """
    check_inputs(data.x, widths[0])
    check_targets(data, widths[-1], hyper)
    check_representable(hyper, data.x.dtype)


def check_targets(data: Data, outputs: int, hyper: Problem) -> None:
    """Refuses targets that fit neither the inputs nor the loss."""
    x, y, valid = data
    if y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise ValueError(
            f"x holds {x.shape[0]} samples, y has shape {y.shape}: y has to be (samples,) or "
            "(samples, outputs) with as many samples."
        )
    if valid is not None and (valid.shape != x.shape[:1] or valid.dtype != bool):
        raise ValueError(
            f"valid has shape {valid.shape} and dtype {valid.dtype}, but x holds {x.shape[0]} "
            "samples: give one bool for each."
        )
    hyper.loss.check(y, outputs)


def check_match(state: State, data: Data, hyper: Hyperparameters) -> None:
    """Refuses data of other samples, width or dtype than the state was made for, or other y."""
    first = state.layers[0]
    expected = (first.z.shape[1], first.W.shape[1])
    if data.x.shape != expected:
        mesh = "" if state.placement is None else " (on a mesh, what shard_data made of them)"
        raise ValueError(
            f"x has shape {data.x.shape}, but the state was made for {expected}: the auxiliary "
            f"variables belong to their samples; use the same data{mesh}, or init for these."
        )
    if data.x.dtype != first.z.dtype:
        raise ValueError(
            f"x has dtype {data.x.dtype}, but the state {first.z.dtype}: cast one of them."
        )
    check_targets(data, widths(state)[-1], hyper)
