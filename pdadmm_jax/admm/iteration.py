"""One iteration of Algorithm 1 over all layers, and many of them in one dispatch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pdadmm_jax._typing import Array
from pdadmm_jax.admm import stacked as layers
from pdadmm_jax.admm.config import Hyperparameters, at_precision_of
from pdadmm_jax.admm.exchange import (
    News,
    bottoms_of,
    from_above,
    from_below,
    hand_down,
    hand_up,
    heard_from_above,
    tops_of,
)
from pdadmm_jax.admm.info import (
    CoupleNotes,
    Effort,
    Info,
    Notes,
    SolveNotes,
    couple_notes,
    info_of,
    solve_notes,
)
from pdadmm_jax.admm.stacked import Moved, OutputNotes, Turn
from pdadmm_jax.admm.state import (
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
from pdadmm_jax.admm.updates import pull_on_p
from pdadmm_jax.parallel.mesh import P, on_stages, specs_of
from pdadmm_jax.parallel.stage import Stage, when


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
    return _everywhere(partial(_iterate, iterations), state)(state, data, hyper)


def _everywhere(function: Callable[..., Any], state: State) -> Callable[..., Any]:
    """What one stage does, done by all stages of the state."""
    specs = specs_of(state, dtype_of(state))
    return on_stages(function, plan_of(state), state.placement, specs, (specs, P()))


def _iterate_once(
    stage: Stage, state: State, data: Data, hyper: Hyperparameters
) -> tuple[State, Info]:
    state, solves, _ = _solve(stage, state, None, data, hyper)
    state, couples = _couple(stage, state, data, hyper)
    return state, info_of(stage, (solves, couples), hyper)


def _iterate(
    iterations: int, stage: Stage, state: State, data: Data, hyper: Hyperparameters
) -> tuple[State, Info]:
    """Many iterations, cut between solves and messages.

    Inside the loop lines 5 and 6 come first.  Line 1 of the next iteration goes on with what they
    have at hand, and messages travel while it does: f(z) during r W^T, which does not need it, and
    q during all four products.  Notes leave the stages once, after the last iteration.
    """

    def body(carry: tuple[State, SolveNotes], _: None) -> tuple[tuple[State, SolveNotes], Notes]:
        state, solves = carry
        state, next_solves, couples = _solve(stage, *_meet(stage, state, data, hyper), data, hyper)
        return (state, next_solves), (solves, couples)

    state, solves, _ = _solve(stage, state, None, data, hyper)
    (state, solves), history = lax.scan(body, (state, solves), length=iterations - 1)
    state, couples = _couple(stage, state, data, hyper)
    notes = jax.tree.map(
        lambda many, one: jnp.append(many, one[None], 0), history, (solves, couples)
    )
    return state, info_of(stage, notes, hyper)


def _meet(
    stage: Stage, state: State, data: Data, hyper: Hyperparameters
) -> tuple[State, list[News]]:
    """A stage's messages to the others, and what they tell its stacks and its head."""
    tops = tops_of(state, data, hyper)
    arrived, messages = hand_up(tops, state.messages, stage)
    f = from_below(tops, arrived, stage)

    if messages is None:
        return state._replace(iteration=state.iteration + 1), [News(below, None) for below in f]
    boundaries = boundaries_of(state)
    new_q = partial(layers.lowest_q, hyper=hyper, block_bytes=stage.block_bytes)
    q = list(map(new_q, boundaries, f))
    q, messages = hand_down(bottoms_of(boundaries), q, messages, stage)
    news = list(map(News, f, q))
    return state._replace(messages=messages, iteration=state.iteration + 1), news


def _couple(
    stage: Stage, state: State, data: Data, hyper: Hyperparameters
) -> tuple[State, CoupleNotes]:
    """Lines 5-6 of Algorithm 1 on all boundaries of a stage, and nothing after them."""
    state, news = _meet(stage, state, data, hyper)
    first, *upper = state.layers
    couple = partial(layers.couple, data=data, hyper=hyper, block_bytes=stage.block_bytes)
    upper, sums = zip(*map(couple, upper, news), strict=True)
    return state._replace(layers=(first, *upper)), couple_notes(stage, sums, hyper)


def _solve(
    stage: Stage, state: State, news: list[News] | None, data: Data, hyper: Hyperparameters
) -> tuple[State, SolveNotes, CoupleNotes]:
    """Lines 1-4 of Algorithm 1 on all layers of a stage; nothing leaves it.

    What a head does depends on the stage, and a conditional waits for all that it is given.  So
    the heads' lines come in pieces, by what they need from other stages: r W^T nothing, lines 1-3
    f(z) from below, line 4 q from above.

    Args:
        stage: the stage.
        state: its variables.
        news: what its stacks and its head have to know for lines 5-6, which then come first; None
            if they were done.
        data: its samples.
        hyper: hyperparameters.
    """
    on_its_way = news is not None and stage.hops > 0
    pull = _head_pull(stage, state, data, hyper) if on_its_way else None
    state, moved = _move(stage, state, news, pull, data, hyper)
    state, settled = _settle(stage, state, [one.turn for one in moved], data, hyper)
    efforts = tuple(
        Effort(one.tau, one.theta, *notes) for one, notes in zip(moved, settled, strict=True)
    )
    _, *stacks, last = moved
    sums = [one.boundaries for one in (*stacks, last)]
    return state, solve_notes(stage, state, efforts, data, hyper), couple_notes(stage, sums, hyper)


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
    stage: Stage,
    state: State,
    news: list[News] | None,
    pull: Array | None,
    data: Data,
    hyper: Hyperparameters,
) -> tuple[State, list[Moved]]:
    """Lines 1-3 on the head, the stacks and the last layer, with lines 5-6 if there are news."""
    samples, block_bytes = stage.mail.samples, stage.block_bytes

    def varying(moved: Moved) -> Moved:
        return stage.mail.vary(moved)._replace(layer=moved.layer)

    def move(layer: Layer, news: News | None = None, pull: Array | None = None) -> Moved:
        return varying(layers.move(layer, news, pull, data, hyper, samples, block_bytes))

    def move_head(old: Moved, news: News | None = None, pull: Array | None = None) -> Moved:
        # What leaves a conditional takes memory of its own, so nothing is left for later.
        return layers.turned(move(old.layer, news, pull))

    def at_rest(layer: Layer) -> Moved:
        return varying(layers.at_rest(layer))

    first, *stacks, last = state.layers
    *stack_news, head_news = news or [None] * (len(stacks) + 1)
    move_upper = partial(move_head, news=head_news, pull=pull)
    head = when(stage.first, move_head, at_rest(first))
    first, top, link = head.layer, at_rest(last), state.link
    if link is not None:
        linked = _linked(state)._replace(a=first.a)
        head = when(
            stage.linked,
            move_upper,
            head._replace(layer=linked, boundaries=top.boundaries),
        )
        W, b, _, a, below = head.layer
        link, first = Weights(W, b), first._replace(a=a)
        top = top._replace(layer=last._replace(below=below), boundaries=head.boundaries)
    top = when(stage.last, move_upper, top)

    moved = [head._replace(layer=first), *map(move, stacks, stack_news), top]
    state = state._replace(layers=tuple(one.layer for one in moved), link=link)
    return state, moved


def _settle(
    stage: Stage, state: State, turns: list[Turn | None], data: Data, hyper: Hyperparameters
) -> tuple[State, list[OutputNotes]]:
    """The end of lines 2-3, and line 4, on the head, the stacks and the last layer."""

    def settle(layer: Layer, turn: Turn | None, q_above: Array | None) -> tuple[Layer, OutputNotes]:
        layer, notes = layers.settle(layer, turn, q_above, data, hyper, stage.block_bytes)
        return layer, stage.mail.vary(notes)

    bottoms = bottoms_of(boundaries_of(state))
    arrived = heard_from_above(bottoms, state.messages, stage)
    above_head, *above_stacks = from_above(bottoms, arrived, stage)
    first, *stacks, last = state.layers
    turn, *stack_turns, last_turn = turns
    idle = stage.mail.vary(layers.nothing_settled(first))
    settled = [
        when(stage.emits, lambda old: settle(old[0], turn, above_head), (first, idle)),
        *map(settle, stacks, stack_turns, above_stacks),
        when(stage.last, lambda old: settle(old[0], last_turn, None), (last, idle)),
    ]
    state = state._replace(layers=tuple(layer for layer, _ in settled))
    return state, [notes for _, notes in settled]


def _linked(state: State) -> Layer:
    """The hidden layer whose two sides the head is."""
    first, last = state.layers[0], state.layers[-1]
    assert state.link is not None
    return Layer(*state.link, first.z, first.a, last.below)
