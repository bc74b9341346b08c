"""How a run begins: random weights or given ones, and the forward pass they make."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from pdadmm_jax._checks import check_finite, check_widths, is_concrete
from pdadmm_jax._typing import Array, PRNGKeyArray
from pdadmm_jax.admm.config import Hyperparameters, Problem, at_precision_of
from pdadmm_jax.admm.exchange import first_messages, from_below, join, lowest
from pdadmm_jax.admm.state import (
    Boundary,
    Data,
    Layer,
    Params,
    State,
    Weights,
    as_arrays,
    check_data,
    plan_of,
)
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.compression import Wire
from pdadmm_jax.parallel.mesh import (
    abstract_by_samples,
    abstract_data,
    abstract_state,
    checked_mesh,
    on_stages,
    specs_of,
)
from pdadmm_jax.parallel.placement import Placement
from pdadmm_jax.parallel.plan import plan
from pdadmm_jax.parallel.relayout import dealt_out, placement_of, put_weights, samples_on
from pdadmm_jax.parallel.stage import Stage, choose

Initializer = Callable[[PRNGKeyArray, tuple[int, int], Any], Array]


def init(
    key: PRNGKeyArray,
    data: Data,
    widths: Sequence[int],
    hyper: Hyperparameters,
    initializer: Initializer | None = None,
    *,
    mesh: Mesh | None = None,
    wire: Wire = "full",
) -> State:
    """A start from random weights and the forward pass they make.

    Args:
        key: PRNG key.
        data: training data.
        widths: (features, hidden, ..., outputs), any numbers.
        hyper: hyperparameters.
        initializer: one of ``jax.nn.initializers`` or alike; He's normal by default.  The paper
            has ``normal(0.1)``.
        mesh: where the state is to live, the data having been put there by ``shard_data``; the
            forward pass is done there too, and no device ever holds more than its part.
        wire: type of the messages between the stages of the mesh, see ``shard``.

    Returns:
        The state, every constraint of the problem holding exactly.

    Raises:
        ValueError: widths, inputs, labels or a mesh that do not fit each other.
    """
    data, widths = as_arrays(data), tuple(widths)
    check_widths(widths)
    check_data(data, widths, hyper)
    initializer = initializer or jax.nn.initializers.he_normal()
    return _forward_start(
        random_params(key, widths, initializer, data.x.dtype), data, hyper, mesh, wire
    )


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
            sqrt(2), which keep the size of what ReLU halves and lose no direction on the way.
        dtype: of the weights.

    Raises:
        ValueError: widths that make no network.
    """
    check_widths(tuple(widths))
    initializer = initializer or jax.nn.initializers.orthogonal(2**0.5)
    keys = jax.random.split(key, len(widths) - 1)
    shapes = itertools.pairwise(widths)
    return [
        (initializer(k, shape, dtype), jnp.zeros(shape[1], dtype))
        for k, shape in zip(keys, shapes, strict=True)
    ]


def from_params(
    params: Params,
    data: Data,
    hyper: Hyperparameters,
    *,
    mesh: Mesh | None = None,
    wire: Wire = "full",
) -> State:
    """The way back in: the state whose forward pass the given weights make, duals zero.

    Args:
        params: (W, b) of every layer, W of shape (n_in, n_out).
        data: training data.
        hyper: hyperparameters.
        mesh: where the state is to live, see ``init``.
        wire: type of the messages between its stages.

    Returns:
        The state, every constraint of the problem holding exactly.

    Raises:
        ValueError: weights, inputs or labels that do not fit each other.
    """
    data = as_arrays(data)
    check_params(params, data, hyper)
    return _forward_start(params, data, hyper, mesh, wire)


def abstract(
    data: Data,
    widths: Sequence[int],
    hyper: Hyperparameters,
    mesh: Mesh | None = None,
    *,
    wire: Wire = "full",
) -> tuple[State, Data]:
    """A state and its data in name only: shapes, dtypes and, on a mesh, shardings.

    For ``jax.jit(step).lower(...)``, which compiles for devices and sizes that need not be there.

    Args:
        data: training data, or ``jax.ShapeDtypeStruct`` in their place.
        widths: (features, hidden, ..., outputs).
        hyper: hyperparameters.
        mesh: devices, of any kind that JAX can compile for; None for a single one.
        wire: type of the messages between stages.
    """
    if mesh is None:
        return _abstract_start(data, widths, hyper, None), data
    placement = placement_of(data.x.shape[0], widths, mesh, wire)
    data = abstract_data(data, placement.mesh)
    return abstract_state(_abstract_start(data, widths, hyper, placement)), data


def abstract_elsewhere(
    data: Data,
    widths: Sequence[int],
    hyper: Hyperparameters,
    mesh: Mesh,
    *,
    stages: int,
    wire: Wire = "full",
) -> State:
    """A state arranged for another mesh, in name only, as this mesh can hold it on the way.

    Its layers are dealt out to the other mesh's stages, but every device has all of them, of a
    share of the samples; what is missing for even shares is made up by rows that do not count.
    Arrays of these shapes and shardings are what ``moved`` takes.

    Args:
        data: training data without rows that do not count, or ``jax.ShapeDtypeStruct``.
        widths: (features, hidden, ..., outputs).
        hyper: hyperparameters.
        mesh: devices to hold it.
        stages: stages of the other mesh; 1 for a single device.
        wire: type of the messages between them.
    """
    mesh = checked_mesh(mesh)
    samples = data.x.shape[0]
    placement = Placement(mesh, plan(widths, stages), samples, wire)
    data = jax.tree.map(
        lambda rows: jax.ShapeDtypeStruct(
            (-(-samples // mesh.size) * mesh.size, *rows.shape[1:]), rows.dtype
        ),
        data,
    )
    return abstract_by_samples(_abstract_start(data, widths, hyper, placement), mesh)


def _abstract_start(
    data: Data, widths: Sequence[int], hyper: Hyperparameters, placement: Placement | None
) -> State:
    """The shapes of a state with these rows of samples."""

    def start(data: Data) -> State:
        state = _forward_start(zero_params(widths, data.x.dtype), data, hyper, None, "full")
        return state if placement is None else dealt_out(state, placement)

    return jax.eval_shape(start, data)


def zero_params(widths: Sequence[int], dtype: Any) -> Params:
    """Weights of zeros, for their shapes."""
    shapes = itertools.pairwise(widths)
    return [(jnp.zeros(shape, dtype), jnp.zeros(shape[1], dtype)) for shape in shapes]


def widths_of(params: Params) -> tuple[int, ...]:
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


def _forward_start(
    params: Params, data: Data, hyper: Hyperparameters, mesh: Mesh | None, wire: Wire
) -> State:
    """State with z = a = p W + b, p = q = f(z of the layer below) and u = 0."""
    dtype = data.x.dtype
    samples = 0 if mesh is None else samples_on(mesh, data)
    state = bare_weights(params, dtype, mesh, samples, wire)
    return _forward_pass(state, data, at_precision_of(hyper, dtype))


def bare_weights(
    params: Params, dtype: Any, mesh: Mesh | None, samples: int = 0, wire: Wire = "full"
) -> State:
    """A state that has nothing but weights.

    Args:
        params: (W, b) of every layer.
        dtype: of the state.
        mesh: where it is to live; None for a single device.
        samples: how many it will be about.
        wire: type of the messages between stages.
    """
    weights = [Weights(jnp.asarray(W, dtype), jnp.asarray(b, dtype)) for W, b in params]
    first, *others = map(_only_weights, _stack(weights))
    layers = (first._replace(below=None), *others)
    state = State(layers, jnp.asarray(0, jnp.int32))
    if mesh is None:
        return state
    return put_weights(state, placement_of(samples, widths_of(params), mesh, wire))


def check_params(params: Params, data: Data, hyper: Problem) -> None:
    """Refuses weights that are not finite or fit neither each other nor the data.

    Raises:
        ValueError: naming the layer.
    """
    check_data(data, widths_of(params), hyper)
    for layer, (W, b) in enumerate(params, start=1):
        for name, array in (("W", W), ("b", b)):
            if is_concrete(array):
                check_finite(f"{name} of layer {layer}", array)


def _only_weights(weights: Weights) -> Layer:
    no: Any = None
    return Layer(*weights, no, no, Boundary(no, no, no))


def _stack(singles: Sequence[Weights]) -> tuple[Weights, ...]:
    """Groups consecutive hidden layers of one shape; first and last stay alone."""
    last = len(singles) - 1
    groups: list[list[Weights]] = []
    for index, layer in enumerate(singles):
        joins = 1 < index < last and layer.W.shape == groups[-1][-1].W.shape
        if joins:
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return tuple(jax.tree.map(lambda *arrays: jnp.stack(arrays), *group) for group in groups)


@jax.jit
def _forward_pass(weights: State, data: Data, hyper: Hyperparameters) -> State:
    """The state that a forward pass makes of one that has nothing but weights."""
    specs = specs_of(weights, data.x.dtype)
    given = None if specs is None else specs._replace(messages=None)
    function = on_stages(_forward, plan_of(weights), weights.placement, given, specs)
    return function(weights, data, hyper)


def _forward(stage: Stage, weights: State, data: Data, hyper: Hyperparameters) -> State:
    """One stage's part of the forward pass, which takes one hop for every boundary of stages."""
    first, *stacks, last = weights.layers
    mail = stage.mail

    def affine(p: Array, W: Array, b: Array) -> Array:
        return multiply(p, W) + b

    def emit(z: Array) -> Array:
        return data.keep(hyper.activation(z))

    def layer(p: Array, weights: tuple[Array, Array]) -> tuple[Array, Array]:
        a = affine(p, *weights)
        return emit(a), a

    def climb(arrived: Array) -> list[Array]:
        """a of the head's output side and of the stacks, given f(z) of the stage below."""
        a = affine(data.x, first.W[0], first.b[0])
        if weights.link is not None:
            link_W, link_b = weights.link
            a = choose(stage.linked, affine(arrived[0], link_W[0], link_b[0]), a)
        p = choose(stage.bypass, arrived[0], emit(a))
        climbed = [a[None]]
        for stack in stacks:
            if stack.W.shape[0] == 1:  # the only kind of stack that may change the width
                p, a = layer(p, (stack.W[0], stack.b[0]))
                climbed.append(a[None])
            else:
                p, a = lax.scan(layer, p, (stack.W, stack.b))
                climbed.append(a)
        return climbed

    def hop(_: Array, arrived: Array) -> Array:
        return mail.upward(emit_all(climb(arrived)[-1][-1:]))

    emit_all = jax.vmap(emit)
    nothing = mail.vary(jnp.zeros((1, data.x.shape[0], last.W.shape[1]), data.x.dtype))
    a = climb(lax.fori_loop(0, stage.hops, hop, nothing))
    outputs = [emit_all(rows) for rows in a]
    tops = [rows[-1:] for rows in outputs]
    *lows, p_last = from_below(tops, mail.upward(tops[-1]), stage)
    p = [*(join(low, rows[:-1]) for low, rows in zip(lows, outputs[1:], strict=True)), p_last]
    a.append(affine(p[-1][0], last.W[0], last.b[0])[None])

    below = [None, *(Boundary(rows, rows, jnp.zeros_like(rows)) for rows in p)]
    layers = [
        held._replace(z=rows, a=rows, below=boundary)
        for held, rows, boundary in zip(weights.layers, a, below, strict=True)
    ]
    state = weights._replace(layers=tuple(layers))
    if not stage.hops:
        return state
    messages = first_messages(mail.downward(lowest([rows[:1] for rows in p], stage)), mail.wire)
    return state._replace(messages=messages)
