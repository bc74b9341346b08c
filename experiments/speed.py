"""``python -m experiments speed``: an iteration against its products alone, and against Adam.

All three run in turn, in one process, on the same shapes and in the same precision.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import runs, timing
from experiments.compiled import products
from experiments.config import SpeedConfig
from experiments.errors import usage_errors
from pdadmm_jax.updates import multiply


class Program(NamedTuple):
    """A compiled program that makes some iterations of a carry, whose memory it takes over.

    Attributes:
        name: what it does.
        call: carry -> carry.
        carry: where it starts.
        compile_seconds: how long compiling took.
    """

    name: str
    call: Callable[[Any], Any]
    carry: Any
    compile_seconds: float


class Memory(NamedTuple):
    """Bytes of one compiled step.

    Attributes:
        state: held by the state.
        in_place: of these, handed over to the next state.
        peak: state, data and all that a step needs besides.
    """

    state: int
    in_place: int
    peak: int


def main(config: SpeedConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    console = Console(highlight=False, soft_wrap=True)
    with usage_errors():
        directory = runs.create(config.out, "speed", config)
    hyper = pdadmm.Hyperparameters()
    state, data = timing.problem(config, hyper)
    memory, multiply_adds = of_a_step(state, data, hyper)
    console.print(
        f"{config.layers} layers x {config.neurons}, {config.features} features, "
        f"{config.samples} samples on {runs.environment()['devices']}"
    )

    programs = [
        products_alone(config),
        admm(config, state, data, hyper),
        adam(config, jax.tree.map(jnp.array, pdadmm.params(state)), data, hyper),
    ]
    seconds = timed_in_turn(programs, config.iterations, config.repeats)
    needed = multiply_adds_needed(config)
    console.print(_table(programs, seconds, needed))
    console.print(
        f"multiply-adds of a compiled step: {multiply_adds / needed:.3f} times those of the "
        "products"
    )
    console.print(
        f"memory of a step: {memory.peak / 1e9:.3f} GB, {memory.peak / memory.state:.2f} times the "
        f"state's {memory.state / 1e9:.3f} GB, of which {memory.in_place / memory.state:.0%} are "
        "updated in place"
    )
    found = {
        "seconds": seconds,
        "compile_seconds": {program.name: program.compile_seconds for program in programs},
        "multiply_adds": {"needed": needed, "compiled": multiply_adds},
        "memory": memory._asdict(),
    }
    runs.write_json(directory / "speed.json", found)
    console.print(f"saved to {directory}: config.json, speed.json")
    return 0


def of_a_step(
    state: pdadmm.State, data: pdadmm.Data, hyper: pdadmm.Hyperparameters
) -> tuple[Memory, int]:
    """Memory and multiply-adds of one compiled step that takes over its state."""
    compiled = jax.jit(pdadmm.step, donate_argnums=0).lower(state, data, hyper).compile()
    found: Any = compiled.memory_analysis()
    done = products(compiled.as_text() or "")
    given, kept = found.argument_size_in_bytes, found.alias_size_in_bytes
    peak = given + found.output_size_in_bytes + found.temp_size_in_bytes - kept
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return Memory(held, kept, peak), done.always + sum(done.branches)


def multiply_adds_needed(config: SpeedConfig) -> int:
    """Those of four products per layer, and two of the first one, whose input never moves."""
    first, *upper = zip(config.widths, config.widths[1:], strict=False)
    once = 2 * math.prod(first) + 4 * sum(map(math.prod, upper))
    return config.samples * once


def products_alone(config: SpeedConfig) -> Program:
    """The four products of every layer, in a chain: the r W^T, g W, p^T r and p G of an iteration.

    p has orthonormal columns and W the longer of rows and columns orthonormal, so that nothing
    grows or fades however often it goes around.
    """
    keys = iter(jax.random.split(jax.random.key(0), 9))
    features, h, classes, samples = config.features, config.neurons, config.classes, config.samples
    hidden = config.layers - 2

    def orthonormal(rows: int, columns: int) -> jax.Array:
        tall = jax.random.normal(next(keys), (max(rows, columns), min(rows, columns)))
        found = jnp.linalg.qr(tall)[0]
        return found if rows >= columns else found.T

    def chain(r: jax.Array, p: jax.Array, W: jax.Array | None) -> jax.Array:
        image = r if W is None else multiply(multiply(r, W.T), W)
        return multiply(p, multiply(p.T, image))

    p_first, p = orthonormal(samples, features), orthonormal(samples, h)
    stack = jnp.stack([p] * hidden), jnp.stack([orthonormal(h, h)] * hidden)
    fixed = [(p_first[None], None), stack, (p[None], orthonormal(h, classes)[None])]
    counts = ((1, h), (hidden, h), (1, classes))
    rs = [jax.random.normal(next(keys), (n, samples, width)) for n, width in counts]

    def once(rs: list[jax.Array], fixed: Any) -> list[jax.Array]:
        return [jax.vmap(chain)(r, *others) for r, others in zip(rs, fixed, strict=True)]

    return _program("products", once, rs, (fixed,), config.iterations)


def admm(
    config: SpeedConfig, state: pdadmm.State, data: pdadmm.Data, hyper: pdadmm.Hyperparameters
) -> Program:
    """Iterations of pdADMM, with all that they report."""
    begin = time.perf_counter()
    run = jax.jit(partial(pdadmm.run, iterations=config.iterations), donate_argnums=0)
    compiled = run.lower(state, data, hyper).compile()
    seconds = time.perf_counter() - begin
    return Program("pdADMM", lambda state: compiled(state, data, hyper)[0], state, seconds)


def adam(
    config: SpeedConfig, params: pdadmm.Params, data: pdadmm.Data, hyper: pdadmm.Hyperparameters
) -> Program:
    """Full-batch steps of Adam on the same network: value, gradient and update."""
    optimizer = optax.adam(1e-3)

    def once(carry: Any, data: pdadmm.Data) -> Any:
        params, moments = carry
        slope = jax.grad(pdadmm.mean_loss)(params, data, hyper)
        updates, moments = optimizer.update(slope, moments)
        return optax.apply_updates(params, updates), moments

    carry = (params, optimizer.init(params))
    return _program("Adam", once, carry, (data,), config.iterations)


def _program(
    name: str, once: Callable[..., Any], carry: Any, fixed: tuple[Any, ...], iterations: int
) -> Program:
    def many(carry: Any, *fixed: Any) -> Any:
        return lax.scan(lambda old, _: (once(old, *fixed), None), carry, length=iterations)[0]

    begin = time.perf_counter()
    compiled = jax.jit(many, donate_argnums=0).lower(carry, *fixed).compile()
    seconds = time.perf_counter() - begin
    return Program(name, lambda carry: compiled(carry, *fixed), carry, seconds)


def timed_in_turn(programs: list[Program], iterations: int, repeats: int) -> dict[str, list[float]]:
    """Seconds per iteration of every round but the first, which warms up."""
    carries = {program.name: program.carry for program in programs}
    seconds: dict[str, list[float]] = {name: [] for name in carries}
    for _ in range(repeats + 1):
        for program in programs:
            begin = time.perf_counter()
            done = jax.block_until_ready(program.call(carries[program.name]))
            seconds[program.name].append((time.perf_counter() - begin) / iterations)
            carries[program.name] = done
    return {name: rounds[1:] for name, rounds in seconds.items()}


def _table(programs: list[Program], seconds: dict[str, list[float]], needed: int) -> Table:
    alone = np.median(seconds[programs[0].name])
    table = Table(box=None)
    for name in ("", "s per iteration", "fastest", "slowest", "GFLOP/s", "of the products"):
        table.add_column(name, justify="right" if name else "left")
    for program in programs:
        rounds = seconds[program.name]
        median = float(np.median(rounds))
        rate = "" if program.name == "Adam" else f"{2 * needed / median / 1e9:.0f}"
        times = f"{median:.4f}", f"{min(rounds):.4f}", f"{max(rounds):.4f}"
        table.add_row(program.name, *times, rate, f"{median / alone:.3f}")
    return table
