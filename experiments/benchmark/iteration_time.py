"""``python -m experiments time``: how long an iteration or a pass takes, on random data.

As one of several processes too, which is how ``scaling`` uses it.
"""

from __future__ import annotations

import itertools
import json
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

import pdadmm_jax as pdadmm
from experiments import build
from experiments.benchmark.compiled_program import messages, products
from experiments.benchmark.options import TimeConfig
from experiments.options.devices import MessageDtype
from experiments.options.sizes import SizeConfig
from experiments.runtime import cluster
from experiments.runtime import run_directory as runs
from experiments.runtime.errors import usage_errors
from pdadmm_jax.parallel.mesh import exchange_once, shards
from pdadmm_jax.parallel.placement import Placement


class Timing(NamedTuple):
    """One measurement.

    Attributes:
        seconds: per iteration, the median of several runs.
        slowest: the slowest run's.
        message_seconds: one message between stages on its own, sent and received.
        message_bytes: its size.
        messages: messages that every stage sends per iteration.
        slower_in_blocks: times that the products up and down of a batch take longer in blocks; 1
            where batches are not split, or split over several processes.
        always: multiply-adds of the compiled iteration that every stage does.
        branches: multiply-adds that the edge slots of some stages add.
        devices: what it ran on.
    """

    seconds: float
    slowest: float
    message_seconds: float
    message_bytes: int
    messages: int
    slower_in_blocks: float
    always: int
    branches: list[int]
    devices: str


def main(options: TimeConfig) -> int:
    """Measures and prints a line; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    with cluster.exit_on_error():
        with usage_errors():
            if options.distributed:
                cluster.initialize(options.cluster)
            mesh = build.mesh(options.mesh)
        found = measure(options, mesh)
        if cluster.is_main_process():
            print(json.dumps(found._asdict()) if options.json else describe(options, found))
    return 0


def measure(options: TimeConfig, mesh: Any) -> Timing:
    """Times runs of a few iterations, after one that warms up."""
    algorithm: Any = pdadmm.admm if options.batch is None else pdadmm.sweeps
    if options.batch is None:
        config: Any = pdadmm.admm.Config(loss=options.loss)
    else:
        config = pdadmm.sweeps.recommended(
            options.widths,
            options.batch,
            rule="adam",  # the same of all schedules
            schedule=options.schedule,
            microbatches=options.microbatches,
            block=options.block,
            loss=options.loss,
        )
    state, data = problem(options, config, mesh, options.mesh.message_dtype)
    run = jax.jit(partial(algorithm.run, steps=options.iterations), donate_argnums=0)
    with usage_errors():
        compiled = run.lower(state, data, config).compile()
    seconds = []
    for _ in range(options.repeats + 1):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, data, config))
        seconds.append((time.perf_counter() - begin) / options.iterations)
    once = jax.jit(algorithm.step).lower(state, data, config).compile().as_text() or ""
    sent = [one for one in messages(once) if one.kind == "collective-permute"]
    message_seconds = 0.0
    if sent:
        swapped = options.batch is not None
        message_seconds = time_message(state.placement, sent[0].bytes, at_once=swapped)
    slower = 1.0
    if mesh is None and options.batch is not None and options.block < options.batch:
        slower = time_blocks(options.widths, options.batch, options.block)
    done = products(once)
    return Timing(
        seconds=float(np.median(seconds[1:])),
        slowest=max(seconds[1:]),
        message_seconds=message_seconds,
        message_bytes=sent[0].bytes if sent else 0,
        messages=len(sent),
        slower_in_blocks=slower,
        always=done.always,
        branches=done.branches,
        devices=runs.environment()["devices"],
    )


def problem(
    options: SizeConfig,
    config: pdadmm.admm.Config | pdadmm.sweeps.Config,
    mesh: Any = None,
    dtype: MessageDtype = "full",
) -> Any:
    """A random problem of the asked-for shape: state and data.

    Raises:
        UsageError: its state alone is larger than the memory of the devices.
    """
    sweeps = isinstance(config, pdadmm.sweeps.Config)
    held = min(options.samples, config.batch or config.block) if sweeps else options.samples
    with usage_errors():
        build.check_fits(options.widths, held, 1 if mesh is None else mesh.size)
    rng = np.random.default_rng(0)
    x: Any = rng.random((options.samples, options.features), np.float32)
    y: Any = rng.integers(0, options.classes, options.samples).astype(np.int32)
    data = pdadmm.Data(x, y)
    if mesh is not None:
        data = pdadmm.shard_data(data, mesh)
    init: Any = pdadmm.sweeps.init if sweeps else pdadmm.admm.init
    with usage_errors():
        state = init(
            jax.random.key(0), data, options.widths, config, mesh=mesh, message_dtype=dtype
        )
    return state, jax.tree.map(jax.numpy.asarray, data)


def time_message(placement: Placement, size: int, *, at_once: bool) -> float:
    """Seconds that messages of so many bytes take which nothing hides, one up and one down.

    Exchanges follow each other in one program, as those of a pass do.

    Args:
        placement: of the stages.
        size: bytes of a message.
        at_once: whether two stages swap theirs, as in sweeps.
    """
    exchanges, repeats = 20, 5
    shape = placement.plan.stages, shards(placement.mesh), size // 4

    @jax.jit
    def exchanged(number: jax.Array) -> Any:
        def exchange(sent: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jax.numpy.maximum(*exchange_once(sent, placement, at_once=at_once)), None

        return lax.scan(exchange, jax.numpy.full(shape, number), length=exchanges)

    seconds = []
    for turn in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(exchanged(jax.numpy.float32(turn)))
        seconds.append((time.perf_counter() - begin) / exchanges)
    return float(np.median(seconds[1:]))


def time_blocks(widths: tuple[int, ...], batch: int, block: int) -> float:
    """Times that the products up and down of batches take longer in blocks, and nothing else.

    Args:
        widths: (features, hidden, ..., outputs).
        batch: samples.
        block: of them at a time.
    """
    batches, repeats = max(1, 2560 // batch), 7
    rng = np.random.default_rng(0)
    weights = [
        jax.numpy.asarray(rng.normal(0, n_in**-0.5, (n_in, n_out)), jax.numpy.float32)
        for n_in, n_out in itertools.pairwise(widths)
    ]

    @jax.jit
    def passed(weights: list[jax.Array], blocks: jax.Array) -> jax.Array:
        def up_and_down(_: None, p: jax.Array) -> tuple[None, jax.Array]:
            saved = []
            for w in weights:
                p = jax.nn.relu(p @ w)
                saved.append(p)
            r = p
            for w, p in zip(weights[:0:-1], saved[-2::-1], strict=True):
                r = jax.numpy.where(p > 0, r @ w.T, 0)
            return None, jax.numpy.sum(r)

        return lax.scan(up_and_down, None, blocks)[1]

    split = []
    for number in (1, -(-batch // block)):  # as batches are split: the last rows may be too many
        shape = batches * number, -(-batch // number), widths[0]
        split.append(jax.numpy.asarray(rng.random(shape, np.float32)))
    seconds = []
    for _ in range(repeats + 1):
        for blocks in split:
            begin = time.perf_counter()
            jax.block_until_ready(passed(weights, blocks))
            seconds.append(time.perf_counter() - begin)
    whole, parts = seconds[2::2], seconds[3::2]
    return float(np.median(parts) / np.median(whole))


def describe(options: TimeConfig, found: Timing) -> str:
    """The measurement in words."""
    done = found.always + sum(found.branches)
    what = "iteration" if options.batch is None else f"pass of sweeps in batches of {options.batch}"
    text = (
        f"{options.layers} layers x {options.neurons}, {options.samples} samples on "
        f"{found.devices}: {found.seconds:.4f} s per {what} (slowest {found.slowest:.4f} s), "
        f"{2 * done / found.seconds / 1e9:.1f} GFLOP/s per device in products"
    )
    if not found.messages:
        return text
    return f"{text}; a message of {found.message_bytes:,} bytes takes {found.message_seconds:.4f} s"
