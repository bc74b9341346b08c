"""``python -m experiments speed``: an iteration against its products alone, and against Adam.

All run in turn, in one process, on the same shapes and in the same precision.
"""

from __future__ import annotations

from functools import partial

import jax
from rich.console import Console
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import runs, timing
from experiments.compiled import memory_of, products
from experiments.errors import usage_errors
from experiments.speed.config import SpeedConfig
from experiments.speed.profile import time_by_kind
from experiments.speed.programs import adam, admm, median, products_alone, timed_in_turn
from pdadmm_jax.plan import plan


def main(config: SpeedConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    console = Console(highlight=False, soft_wrap=True)
    with usage_errors():
        directory = runs.create(config.out, "speed", config)
    hyper = pdadmm.Hyperparameters(precision=config.precision)
    state, data = jax.eval_shape(partial(timing.problem, config, hyper))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    step = jax.jit(pdadmm.step, donate_argnums=0).lower(state, data, hyper).compile()
    memory, done = memory_of(step), products(step.as_text() or "")
    multiply_adds = done.always + sum(done.branches)
    needed = config.samples * sum(plan(config.widths, stages=1).work)
    console.print(
        f"{config.layers} layers x {config.neurons}, {config.features} features, "
        f"{config.samples} samples, products in {config.precision}, "
        f"on {runs.environment()['devices']}"
    )

    programs = [
        products_alone(config, config.precision),
        admm(config, hyper),
        adam(config, hyper),
    ]
    seconds = timed_in_turn(programs, config.iterations, config.repeats)
    console.print(_table(seconds, needed))
    console.print(_in_words(seconds))
    kinds = time_by_kind(admm(config, hyper), config.iterations)
    parts = ", ".join(f"{part:.4f} s {kind}" for kind, part in kinds.items())
    console.print(f"where an iteration's time goes, profiled: {parts}")
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
        "seconds_by_kind": kinds,
        "compile_seconds": {program.name: program.compile_seconds for program in programs},
        "multiply_adds": {"needed": needed, "compiled": multiply_adds},
        "memory": {"state": held, **memory._asdict()},
    }
    runs.write_json(directory / "speed.json", found)
    console.print(f"saved to {directory}: config.json, speed.json")
    return 0


def _table(seconds: dict[str, list[float]], needed: int) -> Table:
    alone = median(seconds["products"])
    table = Table(box=None)
    for name in ("", "s per iteration", "fastest", "slowest", "GFLOP/s", "of the products"):
        table.add_column(name, justify="right" if name else "left")
    for name, rounds in seconds.items():
        middle = median(rounds)
        rate = "" if name == "Adam" else f"{2 * needed / middle / 1e9:.0f}"
        times = f"{middle:.4f}", f"{min(rounds):.4f}", f"{max(rounds):.4f}"
        table.add_row(name, *times, rate, f"{middle / alone:.3f}")
    return table


def _in_words(seconds: dict[str, list[float]]) -> str:
    own, alone, adam = (median(seconds[name]) for name in ("pdADMM", "products", "Adam"))
    return (
        f"pdADMM: {1 / own:.3g} iterations per second, {alone / own:.0%} of the speed of its "
        f"products, {own / adam:.2f} times an Adam step"
    )
