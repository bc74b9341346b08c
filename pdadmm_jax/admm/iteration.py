"""One iteration of Algorithm 1 over all layers, and many of them in one dispatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pdadmm_jax._checks import check_count
from pdadmm_jax._surroundings import isolated
from pdadmm_jax._typing import Array, PRNGKeyArray, Shaped
from pdadmm_jax.admm import stacked, unequal
from pdadmm_jax.admm.config import Config
from pdadmm_jax.admm.exchange import (
    BoundaryInputs,
    bottoms_of,
    from_above,
    from_below,
    received_from_above,
    send_down,
    send_up,
    tops_of,
)
from pdadmm_jax.admm.info import (
    BoundaryMetrics,
    Effort,
    Info,
    Metrics,
    SolveMetrics,
    boundary_metrics,
    info_of,
    solve_metrics,
)
from pdadmm_jax.admm.packed import change
from pdadmm_jax.admm.stacked import AfterLine3, OutputMetrics, PendingUpdate
from pdadmm_jax.admm.state import (
    AnyState,
    Held,
    Layer,
    Output,
    PackedVariables,
    StageVariables,
    check_match,
    check_state,
    dtype_of,
    join,
    split,
)
from pdadmm_jax.admm.updates import pull_on_p
from pdadmm_jax.numerics.differentiation import forward_mode_only
from pdadmm_jax.parallel.groups import Weights
from pdadmm_jax.parallel.mesh import P, on_stages, settled, state_specs
from pdadmm_jax.parallel.stage import Stage, when
from pdadmm_jax.problems.data import Data, as_arrays
from pdadmm_jax.problems.problem import at_precision_of


@isolated
def step(
    state: AnyState, data: Data, config: Config, key: Shaped[PRNGKeyArray, ""] | None = None
) -> tuple[Any, Info]:
    """One iteration of Algorithm 1: lines 1-4 on every layer, then lines 5-6 on every boundary.

    Args:
        state: current variables.
        data: the data the state was made for.
        config: penalties, solvers and structure.
        key: not used; here because ``sweeps.step`` has one.

    Returns:
        The next state, living where the state does, and its info.

    Raises:
        TypeError: another kind of state.
        ValueError: data of another shape or dtype than the state's, or reverse-mode
            differentiation through the step; forward mode works.
    """
    del key
    check_state(state, "step")
    state = settled(state, state.placement)
    return _step(state, as_arrays(data), at_precision_of(config, dtype_of(state)))


@isolated
def run(
    state: AnyState,
    data: Data,
    config: Config,
    key: Shaped[PRNGKeyArray, ""] | None = None,
    *,
    steps: int,
) -> tuple[Any, Info]:
    """Many iterations in one dispatch.

    Args:
        state: current variables.
        data: the data the state was made for.
        config: penalties, solvers and structure.
        key: not used; here because ``sweeps.run`` has one.
        steps: how many, at least 1; a new number compiles again.

    Returns:
        The last state, and the info of all iterations stacked along a new first axis.

    Raises:
        TypeError: another kind of state.
        ValueError: data of another shape or dtype than the state's, or no steps.
    """
    del key
    check_state(state, "run")
    steps = check_count("steps", steps)
    state = settled(state, state.placement)
    return _run(state, as_arrays(data), at_precision_of(config, dtype_of(state)), steps)


# Numbers reach these two as arrays of the state's dtype, whatever kind the user wrote, so that no
# mixture of kinds compiles again.


@jax.jit
def _step(state: AnyState, data: Data, config: Config) -> tuple[Any, Info]:
    check_match(state, data, config)
    held, info = _on_all_stages(_iterate_once, state)(split(state), data, config)
    return forward_mode_only((join(held, state, state.iteration + 1), info))


@partial(jax.jit, static_argnums=3)
def _run(state: AnyState, data: Data, config: Config, steps: int) -> tuple[Any, Info]:
    check_match(state, data, config)
    held, info = _on_all_stages(partial(_iterate, steps), state)(split(state), data, config)
    return forward_mode_only((join(held, state, state.iteration + steps), info))


def _on_all_stages(function: Callable[..., Any], state: AnyState) -> Callable[..., Any]:
    """What one stage does, done by all stages of the state."""
    if state.placement is None:
        return on_stages(function, state.plan, None)
    specs = state_specs(state.placement.mesh, split(state))
    return on_stages(function, state.plan, state.placement, specs, (specs, P()))


def _iterate_once(stage: Stage, held: Held, data: Data, config: Config) -> tuple[Held, Info]:
    variables, solves, _ = _solve(stage, held, None, data, config)
    held, boundaries = _lines_5_and_6(stage, held._replace(variables=variables), data, config)
    return held, info_of(stage, Metrics(solves, boundaries), data, config)


def _iterate(steps: int, stage: Stage, held: Held, data: Data, config: Config) -> tuple[Held, Info]:
    """Many iterations, cut between solves and messages.

    Inside the loop lines 5 and 6 come first.  Line 1 of the next iteration goes on with what they
    have at hand, and messages travel while it does: f(z) during r W^T, which does not need it, and
    q during all four products.  Metrics leave the stages once, after the last iteration.
    """

    def body(carry: tuple[Held, SolveMetrics], _: None) -> tuple[Any, Metrics]:
        held, solves = carry
        messages, inputs = _exchange(stage, held, data, config)
        held = held._replace(messages=messages)
        variables, next_solves, boundaries = _solve(stage, held, inputs, data, config)
        held = held._replace(variables=variables)
        return (held, next_solves), Metrics(solves, boundaries)

    variables, solves, _ = _solve(stage, held, None, data, config)
    held = held._replace(variables=variables)
    (held, solves), history = lax.scan(body, (held, solves), length=steps - 1)
    held, boundaries = _lines_5_and_6(stage, held, data, config)
    metrics = jax.tree.map(
        lambda many, one: jnp.append(many, one[None], 0), history, Metrics(solves, boundaries)
    )
    return held, info_of(stage, metrics, data, config)


def _exchange(stage: Stage, held: Held, data: Data, config: Config) -> tuple[Any, unequal.Inputs]:
    """A stage's messages to the others, and its stacks' and edge slot's boundary inputs."""
    if stage.unequal:
        return unequal.exchange(stage, held, data, config)
    variables, messages = held
    tops = tops_of(variables, data, config)
    received, messages = send_up(tops, messages, stage, config)
    f = from_below(tops, received, stage)
    if messages is None:
        return messages, [BoundaryInputs(below, None) for below in f]
    boundaries = variables.boundaries
    new_q = partial(stacked.lowest_q, config=config, block_bytes=stage.block_bytes)
    q = list(map(new_q, boundaries, f))
    q, messages = send_down(bottoms_of(boundaries), q, messages, stage, config)
    return messages, list(map(BoundaryInputs, f, q))


def _lines_5_and_6(
    stage: Stage, held: Held, data: Data, config: Config
) -> tuple[Held, BoundaryMetrics]:
    """Lines 5-6 of Algorithm 1 on all boundaries of a stage, and nothing after them."""
    messages, inputs = _exchange(stage, held, data, config)
    update = partial(stacked.lines_5_and_6, data=data, config=config, block_bytes=stage.block_bytes)

    def on_own(own: Stage, variables: StageVariables) -> tuple[StageVariables, BoundaryMetrics]:
        *stack_inputs, edge_inputs = unequal.inputs_of(own, variables, inputs, data, config)
        stacks, sums = _unzip(map(update, variables.stacks, stack_inputs))
        edge, edge_sums = update(variables.last_layer, edge_inputs)
        assert edge.below is not None
        variables = variables._replace(stacks=stacks, edge_input=edge.below)
        return variables, boundary_metrics(own, [*sums, edge_sums], config)

    variables, metrics = change(stage, on_own, held.variables)
    return Held(variables, messages), metrics


def _solve(
    stage: Stage, held: Held, inputs: unequal.Inputs | None, data: Data, config: Config
) -> tuple[StageVariables | PackedVariables, SolveMetrics, BoundaryMetrics]:
    """Lines 1-4 of Algorithm 1 on all layers of a stage; nothing leaves it."""

    def on_own(own: Stage, variables: StageVariables) -> tuple[StageVariables, Any]:
        own_inputs = None
        if inputs is not None:
            own_inputs = unequal.inputs_of(own, variables, inputs, data, config)
        own_held = Held(variables, unequal.cut(own, held.messages))
        variables, *metrics = _solve_stage(own, own_held, own_inputs, data, config)
        return variables, metrics

    variables, (solves, boundaries) = change(stage, on_own, held.variables)
    return variables, solves, boundaries


def _solve_stage(
    stage: Stage, held: Held, inputs: list[BoundaryInputs] | None, data: Data, config: Config
) -> tuple[StageVariables, SolveMetrics, BoundaryMetrics]:
    """Lines 1-4 of Algorithm 1 on all layers of a stage; nothing leaves it.

    What an edge slot does depends on the stage, and a conditional waits for all that it is given.
    So the edge slots' lines come in pieces, by what they need from other stages: r W^T nothing,
    lines 1-3 f(z) from below, line 4 q from above.

    Args:
        stage: the stage.
        held: its variables, and what it has received.
        inputs: of its stacks' and its edge slot's boundaries for lines 5-6, which then come first;
            None if they were done.
        data: its samples.
        config: penalties, solvers and structure.
    """
    in_transit = inputs is not None and stage.hops > 0
    pull = _edge_pull(stage, held.variables, data, config) if in_transit else None
    moved = _lines_1_to_3(stage, held.variables, inputs, pull, data, config)
    held = held._replace(variables=moved.variables)
    variables, edge, stacks, last = _line_4(stage, held, moved, data, config)
    efforts = [
        Effort(one.tau, one.theta, *metrics)
        for one, metrics in zip(
            (moved.edge, *moved.stacks, moved.last), (edge, *stacks, last), strict=True
        )
    ]
    sums = [one.boundaries for one in (*moved.stacks, moved.last)]
    return (
        variables,
        solve_metrics(stage, variables, efforts, data, config),
        boundary_metrics(stage, sums, config),
    )


def _edge_pull(stage: Stage, variables: StageVariables, data: Data, config: Config) -> Array:
    """(z - a) W^T of the layer whose input side the edge slot holds, hidden or last."""

    def pull(layer: Layer, _: Array) -> Array:
        z = jax.vmap(data.keep)(layer.z, layer.a)
        return jax.vmap(partial(pull_on_p, precision=config.precision))(layer.W, layer.a, z)

    found = stage.collectives.vary(jnp.zeros_like(variables.edge_input.p))
    if variables.edge is not None:
        found = when(stage.holds_edge, partial(pull, variables.edge_layer), found)
    return when(stage.holds_last, partial(pull, variables.last_layer), found)


class Moved(NamedTuple):
    """A stage after lines 1-3.

    ``edge`` speaks of the layer whose output side the edge slot holds, the first or a hidden one.
    The boundary sums of a hidden one stand in ``last``, with the input side of the edge slot.
    """

    variables: StageVariables
    edge: AfterLine3
    stacks: tuple[AfterLine3, ...]
    last: AfterLine3


def _lines_1_to_3(
    stage: Stage,
    variables: StageVariables,
    inputs: list[BoundaryInputs] | None,
    pull: Array | None,
    data: Data,
    config: Config,
) -> Moved:
    """Lines 1-3 on all layers of a stage, after lines 5-6 if there are boundary inputs."""
    collectives, block_bytes = stage.collectives, stage.block_bytes

    def varying(after: AfterLine3) -> AfterLine3:
        return collectives.vary(after)._replace(layer=after.layer)

    def move(
        layer: Layer, inputs: BoundaryInputs | None = None, pull: Array | None = None
    ) -> AfterLine3:
        samples = collectives.samples
        return varying(
            stacked.lines_1_to_3(layer, inputs, pull, data, config, samples, block_bytes)
        )

    def move_edge(
        before: AfterLine3, inputs: BoundaryInputs | None = None, pull: Array | None = None
    ) -> AfterLine3:
        # What leaves a conditional takes memory of its own, so nothing is left pending.
        return stacked.applied(move(before.layer, inputs, pull))

    def unmoved(layer: Layer) -> AfterLine3:
        return varying(stacked.unmoved(layer))

    *stack_inputs, edge_inputs = inputs or [None] * (len(variables.stacks) + 1)
    move_upper = partial(move_edge, inputs=edge_inputs, pull=pull)

    edge = when(stage.holds_first, move_edge, unmoved(variables.first_layer))
    first = Weights(edge.layer.W, edge.layer.b)
    variables = variables._replace(first=first, edge_output=Output(edge.layer.z, edge.layer.a))
    last = unmoved(variables.last_layer)
    if variables.edge is not None:
        before = edge._replace(layer=variables.edge_layer, boundaries=last.boundaries)
        edge = when(stage.holds_edge, move_upper, before)
        W, b, z, a, below = edge.layer
        assert below is not None
        variables = variables._replace(
            edge=Weights(W, b), edge_output=Output(z, a), edge_input=below
        )
        last = last._replace(layer=variables.last_layer, boundaries=edge.boundaries)
    last = when(stage.holds_last, move_upper, last)
    W, b, z, a, below = last.layer
    assert below is not None

    stacks = tuple(map(move, variables.stacks, stack_inputs))
    variables = variables._replace(
        stacks=tuple(one.layer for one in stacks),
        edge_input=below,
        last=Weights(W, b),
        last_output=Output(z, a),
    )
    return Moved(variables, edge, stacks, last)


def _line_4(
    stage: Stage, held: Held, moved: Moved, data: Data, config: Config
) -> tuple[StageVariables, OutputMetrics, Sequence[OutputMetrics], OutputMetrics]:
    """The pending updates of a, and line 4, on the edge slot, the stacks and the last layer."""
    variables, messages = held

    def settle(
        layer: Layer, pending: PendingUpdate | None, q_above: Array | None
    ) -> tuple[Layer, OutputMetrics]:
        layer, metrics = stacked.line_4(layer, pending, q_above, data, config, stage.block_bytes)
        return layer, stage.collectives.vary(metrics)

    bottoms = bottoms_of(variables.boundaries)
    received = received_from_above(bottoms, messages, stage)
    above_edge, *above_stacks = from_above(bottoms, received, stage)
    idle = stage.collectives.vary(stacked.no_output_metrics(variables.first_layer))

    # Line 4 looks at z, a and the q above: the first layer's shape serves a hidden one too.
    edge, edge_metrics = when(
        stage.edge_has_output,
        lambda old: settle(old[0], moved.edge.pending, above_edge),
        (variables.first_layer, idle),
    )
    pending = [one.pending for one in moved.stacks]
    stacks, stack_metrics = _unzip(map(settle, variables.stacks, pending, above_stacks))
    last, last_metrics = when(
        stage.holds_last,
        lambda old: settle(old[0], moved.last.pending, None),
        (variables.last_layer, idle),
    )
    variables = variables._replace(
        edge_output=Output(edge.z, edge.a),
        stacks=stacks,
        last_output=Output(last.z, last.a),
    )
    return variables, edge_metrics, stack_metrics, last_metrics


def _unzip(pairs: Any) -> tuple[tuple[Any, ...], Sequence[Any]]:
    """Two tuples of a sequence of pairs, which may be empty."""
    pairs = list(pairs)
    return tuple(one for one, _ in pairs), tuple(other for _, other in pairs)
