"""``python -m experiments speed``: an iteration against its products alone, and against Adam.

All three run in turn, in one process, on the same shapes and in the same precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable
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
from experiments.compiled import memory_of, products
from experiments.config import SpeedConfig
from experiments.errors import usage_errors
from pdadmm_jax.plan import plan
from pdadmm_jax.products import multiply


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
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    step = jax.jit(pdadmm.step, donate_argnums=0).lower(state, data, hyper).compile()
    memory, done = memory_of(step), products(step.as_text() or "")
    multiply_adds = done.always + sum(done.branches)
    needed = config.samples * sum(plan(config.widths, stages=1).work)
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
    console.print(_table(programs, seconds, needed))
    console.print(
        f"multiply-adds of a compiled step: {multiply_adds / needed:.3f} times those of the "
        "products"
    )
    console.print(
        f"memory of a step: {memory.peak / 1e9:.3f} GB, {memory.peak / held:.2f} times the "
        f"state's {held / 1e9:.3f} GB, of which {memory.in_place / held:.0%} are updated in place"
    )
    found = {
        "seconds": seconds,
        "compile_seconds": {program.name: program.compile_seconds for program in programs},
        "multiply_adds": {"needed": needed, "compiled": multiply_adds},
        "memory": {"state": held, **memory._asdict()},
    }
    runs.write_json(directory / "speed.json", found)
    console.print(f"saved to {directory}: config.json, speed.json")
    return 0


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

    return _program("products", _often(once, config.iterations), rs, (fixed,))


def admm(
    config: SpeedConfig, state: pdadmm.State, data: pdadmm.Data, hyper: pdadmm.Hyperparameters
) -> Program:
    """Iterations of pdADMM, with all that they report."""

    def run(state: pdadmm.State, data: pdadmm.Data, hyper: pdadmm.Hyperparameters) -> pdadmm.State:
        return pdadmm.run(state, data, hyper, config.iterations)[0]

    return _program("pdADMM", run, state, (data, hyper))


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
    return _program("Adam", _often(once, config.iterations), carry, (data,))


def _often(once: Callable[..., Any], times: int) -> Callable[..., Any]:
    def many(carry: Any, *fixed: Any) -> Any:
        return lax.scan(lambda old, _: (once(old, *fixed), None), carry, length=times)[0]

    return many


def _program(
    name: str, function: Callable[..., Any], carry: Any, fixed: tuple[Any, ...]
) -> Program:
    """Compiles (carry, *fixed) -> carry."""
    begin = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=0).lower(carry, *fixed).compile()
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
