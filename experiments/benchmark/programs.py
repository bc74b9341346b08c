"""Compiled programs to be timed against each other: pdADMM, its products alone, and Adam."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import pdadmm_jax as pdadmm
from experiments.benchmark.iteration_time import problem
from experiments.options.sizes import SizeConfig
from pdadmm_jax.numerics.products import multiply


class Program(NamedTuple):
    """A compiled program that makes some iterations of a carry, whose memory it takes over.

    Attributes:
        name: what it does.
        call: carry -> carry.
        carry: where it starts.
        compile_seconds: how long compiling took.
        text: of the compiled program.
    """

    name: str
    call: Callable[[Any], Any]
    carry: Any
    compile_seconds: float
    text: str


def products_alone(options: SizeConfig, precision: str = "float32") -> Program:
    """The four products of every layer, in a chain: the r W^T, g W, p^T r and p G of an iteration.

    p has orthonormal columns and W the longer of rows and columns orthonormal, so that nothing
    grows or fades however often it goes around.
    """
    keys = iter(jax.random.split(jax.random.key(0), 9))
    features, h, classes, samples = (
        options.features,
        options.neurons,
        options.classes,
        options.samples,
    )
    hidden = options.layers - 2

    def orthonormal(rows: int, columns: int) -> jax.Array:
        tall = jax.random.normal(next(keys), (max(rows, columns), min(rows, columns)))
        found = jnp.linalg.qr(tall)[0]
        return found if rows >= columns else found.T

    def chain(r: jax.Array, p: jax.Array, W: jax.Array | None) -> jax.Array:
        image = r
        if W is not None:
            image = multiply(multiply(r, W.T, precision), W, precision)
        return multiply(p, multiply(p.T, image, precision), precision)

    p_first, p = orthonormal(samples, features), orthonormal(samples, h)
    stack = jnp.stack([p] * hidden), jnp.stack([orthonormal(h, h)] * hidden)
    fixed = [(p_first[None], None), stack, (p[None], orthonormal(h, classes)[None])]
    counts = ((1, h), (hidden, h), (1, classes))
    rs = [jax.random.normal(next(keys), (n, samples, width)) for n, width in counts]

    def once(rs: list[jax.Array], fixed: Any) -> list[jax.Array]:
        return [jax.vmap(chain)(r, *others) for r, others in zip(rs, fixed, strict=True)]

    return compiled("products", often(once, options.iterations), rs, (fixed,))


def admm(options: SizeConfig, config: pdadmm.admm.Config, name: str = "pdADMM") -> Program:
    """Iterations of pdADMM on random data, with all that they report."""

    def run(state: Any, data: pdadmm.Data, config: pdadmm.admm.Config) -> Any:
        return pdadmm.admm.run(state, data, config, steps=options.iterations)[0]

    state, data = problem(options, config)
    return compiled(name, run, state, (data, config))


def adam(options: SizeConfig, config: pdadmm.admm.Config) -> Program:
    """Full-batch steps of Adam on the same network: value, gradient and update.

    With bfloat16 in the usual way: float32 weights, but all of the forward and backward pass in
    bfloat16 up to the logits.
    """
    optimizer = optax.adam(1e-3)

    def loss(params: Any, data: pdadmm.Data) -> jax.Array:
        if config.precision != "bfloat16":
            return pdadmm.loss(params, data, config)
        rounded, x = jax.tree.map(lambda array: array.astype(jnp.bfloat16), (params, data.x))
        outputs = pdadmm.forward(rounded, x, config.replace(precision="float32"))
        return jnp.mean(config.loss.value(outputs.astype(jnp.float32), data.y))

    def once(carry: Any, data: pdadmm.Data) -> Any:
        params, moments = carry
        _, slope = jax.value_and_grad(loss)(params, data)
        updates, moments = optimizer.update(slope, moments)
        return optax.apply_updates(params, updates), moments

    state, data = problem(options, config)
    params = jax.tree.map(jnp.array, pdadmm.params(state))
    carry = (params, optimizer.init(params))
    return compiled("Adam", often(once, options.iterations), carry, (data,))


def often(once: Callable[..., Any], times: int) -> Callable[..., Any]:
    """(carry, *fixed) -> carry, so many times."""

    def many(carry: Any, *fixed: Any) -> Any:
        return lax.scan(lambda old, _: (once(old, *fixed), None), carry, length=times)[0]

    return many


def compiled(
    name: str, function: Callable[..., Any], carry: Any, fixed: tuple[Any, ...]
) -> Program:
    """Compiles (carry, *fixed) -> carry."""
    begin = time.perf_counter()
    ready = jax.jit(function, donate_argnums=0).lower(carry, *fixed).compile()
    seconds = time.perf_counter() - begin
    return Program(name, lambda carry: ready(carry, *fixed), carry, seconds, ready.as_text() or "")


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


def median(rounds: list[float]) -> float:
    """The median, as a plain number."""
    return float(np.median(rounds))


def middle_and_ends(rounds: list[float], digits: int = 4) -> list[str]:
    """The median, the fastest and the slowest, as a table shows them."""
    return [f"{seconds:.{digits}f}" for seconds in (median(rounds), min(rounds), max(rounds))]
