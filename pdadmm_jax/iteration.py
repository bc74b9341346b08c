"""One iteration of Algorithm 1 over all layers, and many of them in one dispatch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pdadmm_jax import layers
from pdadmm_jax._typing import Array
from pdadmm_jax.hyperparameters import Hyperparameters, at_precision_of
from pdadmm_jax.layers import Ratios
from pdadmm_jax.mesh import P, on_stages, specs_of
from pdadmm_jax.neighbours import (
    from_above,
    from_below,
    hand_down,
    hand_up,
    heard_from_above,
    outputs_of,
)
from pdadmm_jax.report import (
    CoupleNotes,
    Effort,
    Info,
    Notes,
    SolveNotes,
    couple_notes,
    info_of,
    solve_notes,
)
from pdadmm_jax.stage import Stage, when
from pdadmm_jax.state import (
    Data,
    Layer,
    State,
    Weights,
    as_arrays,
    boundaries_of,
    check_match,
    dtype_of,
    plan_of,
)
from pdadmm_jax.updates import pull_on_p, update_q

SolveHalf = Callable[[State], tuple[State, SolveNotes]]
CoupleHalf = Callable[[State], tuple[State, CoupleNotes]]


def step(state: State, data: Data, hyper: Hyperparameters) -> tuple[State, Info]:
    """One iteration of Algorithm 1: lines 1-4 on every layer, then lines 5-6 on every boundary.

    Args:
        state: current variables.
        data: the data the state was made for.
        hyper: hyperparameters.

    Returns:
        The next state, living where the state does, and a report on it.

    Raises:
        ValueError: data of another shape or dtype than the state's.
    """
    return _step(state, as_arrays(data), at_precision_of(hyper, dtype_of(state)))


def run(state: State, data: Data, hyper: Hyperparameters, iterations: int) -> tuple[State, Info]:
    """Many iterations in one dispatch.

    Args:
        state: current variables.
        data: the data the state was made for.
        hyper: hyperparameters.
        iterations: how many, at least 1; a new number compiles anew.

    Returns:
        The last state, and the reports of all iterations stacked along a new first axis.

    Raises:
        ValueError: data of another shape or dtype than the state's, or no iterations.
    """
    if not isinstance(iterations, (int, np.integer)) or iterations < 1:
        raise ValueError(f"iterations is {iterations}, but has to be a whole number, at least 1.")
    return _run(state, as_arrays(data), at_precision_of(hyper, dtype_of(state)), int(iterations))


# Numbers reach these two as arrays of the state's dtype, whatever kind the user wrote, so that no
# mixture of kinds compiles anew.


@jax.jit
def _step(state: State, data: Data, hyper: Hyperparameters) -> tuple[State, Info]:
    check_match(state, data, hyper)
    return _everywhere(_iterate_once, state)(state, data, hyper)


@partial(jax.jit, static_argnums=3)
def _run(state: State, data: Data, hyper: Hyperparameters, iterations: int) -> tuple[State, Info]:
    check_match(state, data, hyper)
    # The loop that hides messages holds more copies, so a stage without any does without it.
    iterate = partial(_iterate, bool(plan_of(state).upward), iterations)
    return _everywhere(iterate, state)(state, data, hyper)


def _everywhere(function: Callable[..., Any], state: State) -> Callable[..., Any]:
    """What one stage does, done by all stages of the state."""
    specs = specs_of(state, dtype_of(state))
    return on_stages(function, plan_of(state), state.placement, specs, (specs, P()))


def _iterate_once(
    stage: Stage, state: State, data: Data, hyper: Hyperparameters
) -> tuple[State, Info]:
    state, solves = solve(stage, state, data, hyper)
    state, boundaries = couple(stage, state, data, hyper)
    return state, info_of(stage, (solves, boundaries), hyper)


def _iterate(
    overlap: bool, iterations: int, stage: Stage, state: State, data: Data, hyper: Hyperparameters
) -> tuple[State, Info]:
    """Many iterations; what is noted about them leaves the stages once, after the last."""

    def half(state: State) -> tuple[State, SolveNotes]:
        return solve(stage, state, data, hyper, ahead=overlap)

    def other_half(state: State) -> tuple[State, CoupleNotes]:
        return couple(stage, state, data, hyper)

    loop = _overlapped if overlap else _in_turn
    state, history = loop(half, other_half, state, iterations)
    return state, info_of(stage, history, hyper)


def _in_turn(
    solve: SolveHalf, couple: CoupleHalf, state: State, iterations: int
) -> tuple[State, Notes]:
    """Iterations as they are written down."""

    def body(state: State, _: None) -> tuple[State, Notes]:
        state, solves = solve(state)
        state, boundaries = couple(state)
        return state, (solves, boundaries)

    return lax.scan(body, state, length=iterations)


def _overlapped(
    solve: SolveHalf, couple: CoupleHalf, state: State, iterations: int
) -> tuple[State, Notes]:
    """The same iterations, cut between solves and messages.

    Inside the loop the messages come first, so that they travel while the products of the next
    iteration are computed: f(z) during r W^T, which does not need it, and q during the other three.
    """

    def body(solved: tuple[State, SolveNotes], _: None) -> tuple[tuple[State, SolveNotes], Notes]:
        state, solves = solved
        state, boundaries = couple(state)
        return solve(state), (solves, boundaries)

    (state, solves), history = lax.scan(body, solve(state), length=iterations - 1)
    state, boundaries = couple(state)
    last = (solves, boundaries)
    return state, jax.tree.map(lambda many, one: jnp.append(many, one[None], 0), history, last)


def solve(
    stage: Stage, state: State, data: Data, hyper: Hyperparameters, *, ahead: bool = False
) -> tuple[State, SolveNotes]:
    """Lines 1-4 of Algorithm 1 on all layers of a stage; nothing leaves it.

    What a head does depends on the stage, and a conditional waits for all that it is given.  So
    the heads' lines come in pieces, by what they need from other stages: lines 1-3 f(z) from
    below, line 4 q from above.

    Args:
        stage: the stage.
        state: its variables.
        data: its samples.
        hyper: hyperparameters.
        ahead: whether f(z) may still be on its way.  Then the first product of the heads, which
            needs nothing, is a piece of its own, at the price of an array to keep it in.
    """
    pull = _head_pull(stage, state, data, hyper) if ahead else None
    state, ratios = _move(stage, state, pull, data, hyper)
    state, converged = _settle(stage, state, data, hyper)
    efforts = tuple(Effort(*pair, done) for pair, done in zip(ratios, converged, strict=True))
    return state, solve_notes(stage, state, efforts, data, hyper)


def _head_pull(stage: Stage, state: State, data: Data, hyper: Hyperparameters) -> Array:
    """(z - a) W^T of the head, be it a hidden layer or the last."""

    def pull(layer: Layer, _: Array) -> Array:
        z = jax.vmap(data.keep)(layer.z, layer.a)
        return jax.vmap(partial(pull_on_p, precision=hyper.precision))(layer.W, layer.a, z)

    last = state.layers[-1]
    found = stage.mail.vary(jnp.zeros_like(boundaries_of(state)[-1].p))
    if state.link is not None:
        found = when(stage.linked, partial(pull, _linked(state)), found)
    return when(stage.last, partial(pull, last), found)


def _move(
    stage: Stage, state: State, pull: Array | None, data: Data, hyper: Hyperparameters
) -> tuple[State, list[Ratios]]:
    """Lines 1-3 on the head, the stacks and the last layer."""

    def move(layer: Layer, pull: Array | None = None) -> tuple[Layer, Ratios]:
        samples, rows = stage.mail.samples, stage.rows_at_once
        layer, ratios = layers.move(layer, pull, data, hyper, samples, rows)
        return layer, stage.mail.vary(ratios)

    first, *stacks, last = state.layers
    none = stage.mail.vary(2 * (jnp.zeros(1, first.W.dtype),))
    first, ratios = when(stage.first, lambda old: move(old[0]), (first, none))
    link = state.link
    if link is not None:
        head = _linked(state)._replace(a=first.a)
        head, ratios = when(stage.linked, lambda old: move(old[0], pull), (head, ratios))
        link = Weights(head.W, head.b)
        first, last = first._replace(a=head.a), last._replace(below=head.below)
    last, last_ratios = when(stage.last, lambda old: move(old[0], pull), (last, none))

    moved = [(first, ratios), *map(move, stacks), (last, last_ratios)]
    state = state._replace(layers=tuple(layer for layer, _ in moved), link=link)
    return state, [ratios for _, ratios in moved]


def _settle(
    stage: Stage, state: State, data: Data, hyper: Hyperparameters
) -> tuple[State, list[Array]]:
    """Line 4 on the head, the stacks and the last layer."""

    def settle(layer: Layer, q_above: Array | None) -> tuple[Layer, Array]:
        layer, converged = layers.settle(layer, q_above, data, hyper)
        return layer, stage.mail.vary(converged)

    inputs = [boundary.q for boundary in boundaries_of(state)]
    arrived = heard_from_above(inputs, state.messages, stage)
    above_head, *above_stacks = from_above(inputs, arrived, stage)
    first, *stacks, last = state.layers
    idle = stage.mail.vary(jnp.ones(1, bool))
    settled = [
        when(stage.emits, lambda old: settle(old[0], above_head), (first, idle)),
        *map(settle, stacks, above_stacks),
        when(stage.last, lambda old: settle(old[0], None), (last, idle)),
    ]
    state = state._replace(layers=tuple(layer for layer, _ in settled))
    return state, [converged for _, converged in settled]


def _linked(state: State) -> Layer:
    """The hidden layer whose two sides the head is."""
    first, last = state.layers[0], state.layers[-1]
    assert state.link is not None
    return Layer(*state.link, first.z, first.a, last.below)


def couple(
    stage: Stage, state: State, data: Data, hyper: Hyperparameters
) -> tuple[State, CoupleNotes]:
    """Lines 5-6 of Algorithm 1 on all boundaries of a stage, and its messages to the others."""
    first, *upper = state.layers
    outputs = outputs_of(state, data, hyper)
    arrived, messages = hand_up(outputs, state.messages, stage)
    f_below = from_below(outputs, arrived, stage)

    old = boundaries_of(state)
    new_q = jax.vmap(partial(update_q, nu=hyper.nu, rho=hyper.rho))
    q = [new_q(b.p, b.u, f) for b, f in zip(old, f_below, strict=True)]
    q, messages = hand_down([b.q for b in old], q, messages, stage)
    new = [b._replace(q=q) for b, q in zip(old, q, strict=True)]
    ascend = partial(layers.ascend, hyper=hyper, rows_at_once=stage.rows_at_once)
    new, sums = zip(*map(ascend, new, f_below), strict=True)

    upper = (stack._replace(below=b) for stack, b in zip(upper, new, strict=True))
    state = state._replace(layers=(first, *upper), messages=messages, iteration=state.iteration + 1)
    return state, couple_notes(stage, sums, hyper)
