"""Synchronised sweeps: ADMM whose samples pass once up and once down the layers, batch by batch.

The auxiliary variables of different samples know of each other through W and b alone.  So they
need not be kept: those of a batch are made anew wherever its samples pass.

    up      p = q = f(z) of the layer below, z = a = p W + b: every constraint holds;
    down    from the last layer to the first, each on its own and given u by the layer above,
                z = argmin (nu/2) ||z - a||^2 - <u, f(z)>       (R(z; y) in place of -<u, f(z)>
                                                                 in the last layer),
                u below = nu (z - a) W^T;
    then    W and b of all layers at once, by a ``Rule``.

Both lines of the way down are Algorithm 1's own, solved together rather than by turns: q is
eliminated from line 4 by Lemma 4, u = nu (q - f(z)), and u is what makes p stationary in line 1's
problem where p = q.  By turns, as in ``run``, a signal is weakened at every boundary, by about 20
where nu = rho, and takes an iteration for each; here it arrives whole.  In the limit of large nu,
nu (z - a) is the negative gradient of the risk by a; nothing is differentiated, though, but f by
its own argument, and every product is one that line 1 or line 2 of Algorithm 1 has.

On several stages samples stream in blocks: while a stage sweeps one block up, the next one sweeps
the block before it, and others come down.  Each tick sends one array up and one down between
neighbouring stages, as an iteration of ``run`` does.

What is left of the paper's guarantees: each subproblem is solved exactly, and nothing moves where
the risk is stationary (for large nu).  Lemma 1 does not apply, for there is no Lagrangian kept from
step to step: that nu is large enough shows in the loss, which falls, or does not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pdadmm_jax._checks import checked_number
from pdadmm_jax._pytree import pytree_dataclass
from pdadmm_jax._typing import Array, Bool, Float, Int, Number, PRNGKeyArray, Shaped
from pdadmm_jax.admm.config import at_precision_of, check_problem
from pdadmm_jax.admm.start import bare_weights, check_params, zero_params
from pdadmm_jax.admm.state import Data, Params, Parts, State, as_arrays, check_data, plan_of
from pdadmm_jax.numerics.products import Precision
from pdadmm_jax.parallel.compression import Wire, check_wire
from pdadmm_jax.parallel.mesh import (
    P,
    abstract_weights,
    checked_mesh,
    made_on,
    on_stages,
    shards,
    weight_specs,
)
from pdadmm_jax.parallel.plan import plan
from pdadmm_jax.parallel.relayout import placement_of, rearranged, rearranged_parts
from pdadmm_jax.parallel.stage import Stage
from pdadmm_jax.problems.activations import Activation, relu
from pdadmm_jax.problems.losses import Loss, softmax_cross_entropy
from pdadmm_jax.sweeps.pipeline import Notes, Pass, memories_of, stream
from pdadmm_jax.sweeps.rules import Proximal, Rule


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Sweeps:
    """How synchronised sweeps go; numbers are pytree leaves, the rest is structure.

    Attributes:
        nu: penalty on z = p W + b and on q = f(z).  The stiffer, the nearer nu (z - a) is to the
            negative gradient; at 100 they can hardly be told apart.  With ``Proximal`` 1/nu is
            also the length of the steps.
        rule: how W and b follow.
        batch: samples between two updates of the weights; None for all of them.
        block: samples that pass through a layer at a time, of the batch or less.  Memory grows
            with it, not with the number of samples.
        pipelined: every block is a batch, and a layer's weights move as soon as it has come down
            to them, while others are on their way.  No stage ever waits; on S stages the weights
            of the lowest move 2 (S - 1) batches late, or 2 S where the last layer is beside the
            first.  On one stage nothing changes.
        activation: f of all hidden layers.
        loss: the risk R.
        precision: of the inputs of matrix products, but for Gram matrices; see ``products``.

    Raises:
        ValueError: a number of the wrong sign or not finite, or a name in place of an object.
    """

    nu: Number = 100.0
    rule: Rule = dataclasses.field(default_factory=Proximal)
    batch: int | None = dataclasses.field(default=None, metadata={"static": True})
    block: int = dataclasses.field(default=1024, metadata={"static": True})
    pipelined: bool = dataclasses.field(default=False, metadata={"static": True})
    activation: Activation = dataclasses.field(default=relu, metadata={"static": True})
    loss: Loss = dataclasses.field(default=softmax_cross_entropy, metadata={"static": True})
    precision: Precision = dataclasses.field(default="float32", metadata={"static": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "nu", checked_number("nu", self.nu, above=0.0))
        check_problem(self)
        if isinstance(self.rule, type) or not isinstance(self.rule, Rule):
            raise ValueError(
                f"rule is {self.rule!r}, but has to be a Rule: Proximal(), Follow() or your own."
            )
        for name, count in (("batch", self.batch), ("block", self.block)):
            if count is None and name == "batch":
                continue
            if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 1:
                raise ValueError(f"{name} is {count!r}, but has to be a whole number, at least 1.")
        if self.pipelined and self.batch is None:
            raise ValueError(
                "pipelined sweeps move weights after every batch, but batch is None, all samples: "
                "give batch a number."
            )

    def replace(self, **changes: Any) -> Sweeps:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


class SweepState(NamedTuple):
    """What is kept from pass to pass: no auxiliary variable, and nothing that grows with N.

    Attributes:
        weights: a state that has nothing but weights; ``params(state.weights)`` takes them away.
            Its ``iteration`` counts the passes.
        memories: what the rule remembers of each layer.
    """

    weights: State
    memories: Parts

    @property
    def iteration(self) -> Int[Array, ""]:
        """How many passes were done."""
        return self.weights.iteration


class SweepInfo(NamedTuple):
    """What a pass reports.

    Attributes:
        loss: mean risk of every batch's samples as they went up, before the weights moved.
        solved: False for a batch with a z-problem that met its bound on iterations.
        finite: False once a weight or a loss is NaN or infinite.
    """

    loss: Float[Array, " updates"]
    solved: Bool[Array, " updates"]
    finite: Bool[Array, ""]


def init_sweeps(
    params: Params, data: Data, hyper: Sweeps, *, mesh: Mesh | None = None, wire: Wire = "full"
) -> SweepState:
    """The state before the first pass.

    Args:
        params: first weights, (W, b) of every layer; ``random_params`` makes some.
        data: training data, which nothing but their width is asked of here.
        hyper: numbers and structure.
        mesh: where the state is to live; the data are put there by ``shard_data``.
        wire: type of the messages between stages, see ``shard``; what is rounded here is f(z) and u
            themselves, for no two messages are about the same samples.

    Raises:
        ValueError: weights, inputs or labels that do not fit each other, or an unknown wire type.
    """
    check_params(params, data, hyper)
    check_wire(wire)
    weights = bare_weights(params, data.x.dtype, mesh, wire=wire)
    return SweepState(weights, _first_memories(weights, hyper.rule))


def sweep(
    state: SweepState, data: Data, hyper: Sweeps, key: Shaped[PRNGKeyArray, ""] | None = None
) -> tuple[SweepState, SweepInfo]:
    """One pass over the data, batch by batch: every sample goes once up and once down.

    Args:
        state: weights, and what the rule remembers.
        data: training data, as many as there are; on a mesh, what ``shard_data`` made of them.
        hyper: numbers and structure.
        key: shuffles the samples; None to take them as they come.  On a mesh each data shard
            shuffles its own.

    Returns:
        The next state, living where the state does, and a report.

    Raises:
        ValueError: data that do not fit the network, or a batch that does not divide over the
            data shards.
    """
    return _sweep(state, as_arrays(data), at_precision_of(hyper, data.x.dtype), key)


def abstract_sweeps(
    widths: Sequence[int],
    hyper: Sweeps,
    dtype: Any,
    mesh: Mesh | None = None,
    *,
    stages: int | None = None,
    wire: Wire = "full",
) -> SweepState:
    """The shapes of a state, with the shardings it has on its mesh.

    For ``jax.jit(sweep).lower(...)``, and for reading what was stored.

    Args:
        widths: (features, hidden, ..., outputs).
        hyper: numbers and structure; its rule says what is remembered.
        dtype: of weights and data.
        mesh: devices, of any kind that JAX can compile for; None for a single one.
        stages: arrange the layers for so many instead of those of the mesh, with all of them on
            every device: what ``moved_sweeps`` takes.
        wire: type of the messages between stages.
    """
    placement = None
    if mesh is not None:
        mesh = checked_mesh(mesh)
        placement = placement_of(0, widths, mesh, wire)
        if stages is not None:
            placement = dataclasses.replace(placement, plan=plan(widths, stages))

    def start() -> SweepState:
        weights = bare_weights(zero_params(widths, dtype), dtype, None)
        if placement is not None:
            weights = rearranged(weights, placement.plan)._replace(placement=placement)
        return SweepState(weights, memories_of(weights, hyper.rule))

    found = jax.eval_shape(start)
    return found if mesh is None else abstract_weights(found, mesh, everywhere=stages is not None)


def moved_sweeps(state: SweepState, mesh: Mesh | None, wire: Wire = "full") -> SweepState:
    """Deals a state out to the stages of another mesh.

    Args:
        state: on a mesh of the same devices; see ``abstract_sweeps``.
        mesh: where it is to live; None for a single device.
        wire: type of the messages between the stages of the mesh.

    Raises:
        ValueError: a mesh or wire type that cannot be used.
    """
    source = plan_of(state.weights)
    target = None if mesh is None else placement_of(0, source.widths, mesh, wire)
    arrangement = plan(source.widths, 1) if target is None else target.plan

    def deal(state: SweepState) -> SweepState:
        weights = rearranged(state.weights, arrangement)._replace(placement=target)
        return SweepState(weights, rearranged_parts(state.memories, source, arrangement))

    if target is None:
        return jax.device_put(jax.jit(deal)(state), jax.devices()[0])
    return made_on(target.mesh, deal, state, partial(weight_specs, target.mesh))


def _first_memories(weights: State, rule: Rule) -> Parts:
    """What the rule remembers before the first batch, where the weights are."""
    remember = partial(memories_of, rule=rule)
    if weights.placement is None:
        return jax.jit(remember)(weights)
    mesh = weights.placement.mesh
    return made_on(mesh, remember, weights, partial(weight_specs, mesh))


@jax.jit
def _sweep(
    state: SweepState, data: Data, hyper: Sweeps, key: Array | None
) -> tuple[SweepState, SweepInfo]:
    placement = state.weights.placement
    widths = plan_of(state.weights).widths
    check_data(data, widths, hyper)
    if data.x.dtype != state.weights.layers[0].W.dtype:
        raise ValueError(
            f"x has dtype {data.x.dtype}, but the weights {state.weights.layers[0].W.dtype}: cast "
            "one of them."
        )
    specs = results = None
    devices = 1
    if placement is not None:
        devices = shards(placement.mesh)
        own = weight_specs(placement.mesh, state)
        specs, results = (own, P()), (own, P())
    batches = batches_of(
        data.x.shape[0], hyper.batch, 0 if hyper.pipelined else hyper.block, devices
    )
    function = partial(_sweep_stage, batches)
    everywhere = on_stages(function, plan_of(state.weights), placement, specs, results)
    return everywhere((state, key), data, hyper)


def _sweep_stage(
    batches: np.ndarray,
    stage: Stage,
    given: tuple[SweepState, Array | None],
    data: Data,
    hyper: Sweeps,
) -> tuple[SweepState, SweepInfo]:
    """One stage's part."""
    (weights, memories), key = given
    rows = jnp.asarray(batches)
    if key is not None:
        order = jax.random.permutation(key, jnp.arange(data.x.shape[0], dtype=jnp.int32))
        rows = jnp.where(rows >= 0, order[rows], -1)
    passing = Pass(data, rows)
    weights, memories, notes = stream(stage, weights, memories, passing, hyper, hyper.pipelined)
    weights = weights._replace(iteration=weights.iteration + 1)
    return SweepState(weights, memories), _info_of(stage, weights, notes)


def _info_of(stage: Stage, weights: State, notes: Notes) -> SweepInfo:
    notes = Notes(*map(stage.mail.stages, stage.mail.samples.total(jnp.stack(notes))))
    broken = [~jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)]
    finite = stage.mail.stages(jnp.sum(jnp.stack(broken), dtype=jnp.int32)) == 0
    loss = notes.loss / notes.number
    return SweepInfo(loss, notes.unsolved == 0, finite & jnp.isfinite(loss).all())


def batches_of(samples: int, batch: int | None, block: int, devices: int) -> np.ndarray:
    """Which rows pass together, on each of the devices that share the samples.

    Args:
        samples: rows of all devices.
        batch: samples of all devices between two updates; None for all.
        block: samples of all devices that pass at a time; 0 for whole batches.
        devices: how many share the samples.

    Returns:
        Numbers of a device's own rows, (updates, blocks, rows); -1 for none.

    Raises:
        ValueError: a batch of which not every device has as many.
    """
    if batch is not None and batch % devices:
        raise ValueError(
            f"batch is {batch}, but {devices} data shards have to share it evenly: give a multiple."
        )
    own = samples // devices
    batch = min(own if batch is None else batch // devices, own)
    blocks = 1 if not block else math.ceil(batch / math.ceil(block / devices))
    height = math.ceil(batch / blocks)
    updates = math.ceil(own / batch)
    within = np.arange(blocks * height)
    rows = np.arange(updates)[:, None] * batch + within
    rows = np.where((within < batch) & (rows < own), rows, -1)
    return rows.reshape(updates, blocks, height).astype(np.int32)
