"""``python -m experiments speed``: an iteration against its products alone, and against Adam.

The products are those of steps in closed form; with W solved, as recommended, there is one more.

All run in turn, in one process, on the same shapes and in the same precision.
"""

from __future__ import annotations

from functools import partial

import jax
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments.benchmark import iteration_time as timing
from experiments.benchmark.compiled_program import memory_of, products
from experiments.benchmark.options import SpeedConfig
from experiments.benchmark.profile import time_by_kind
from experiments.benchmark.programs import (
    adam,
    admm,
    median,
    middle_and_ends,
    products_alone,
    timed_in_turn,
)
from experiments.report.measurement import Measurement, table
from experiments.runtime import run_directory as runs
from pdadmm_jax.parallel.plan import plan

RECOMMENDED = "pdADMM, as recommended"


def main(options: SpeedConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    config = pdadmm.admm.Config(precision=options.precision)
    state, data = jax.eval_shape(partial(timing.problem, options, config))
    measurement = Measurement("speed", options)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    step = jax.jit(pdadmm.admm.step, donate_argnums=0).lower(state, data, config).compile()
    memory, done = memory_of(step), products(step.as_text() or "")
    multiply_adds = done.always + sum(done.branches)
    needed = options.samples * sum(plan(options.widths, stages=1).work)
    measurement.show(
        f"{options.layers} layers x {options.neurons}, {options.features} features, "
        f"{options.samples} samples, products in {options.precision}, "
        f"on {runs.environment()['devices']}"
    )

    programs = [
        products_alone(options, options.precision),
        admm(options, config),
        admm(options, pdadmm.admm.recommended(precision=options.precision), RECOMMENDED),
        adam(options, config),
    ]
    seconds = timed_in_turn(programs, options.iterations, options.repeats)
    measurement.show(_table(seconds, needed))
    measurement.show(_in_words(seconds))
    kinds = time_by_kind(admm(options, config), options.iterations)
    parts = ", ".join(f"{part:.4f} s {kind}" for kind, part in kinds.items())
    measurement.show(f"where an iteration's time goes, profiled: {parts}")
    measurement.show(
        f"multiply-adds of a compiled step: {multiply_adds / needed:.3f} times those of the "
        "products"
    )
    measurement.show(
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
    measurement.save(found)
    return 0


def _table(seconds: dict[str, list[float]], needed: int) -> Table:
    alone = median(seconds["products"])
    made = table("", "s per iteration", "fastest", "slowest", "GFLOP/s", "of the products")
    for name, rounds in seconds.items():
        middle = median(rounds)
        rate = "" if name == "Adam" else f"{2 * needed / middle / 1e9:.0f}"
        made.add_row(name, *middle_and_ends(rounds), rate, f"{middle / alone:.3f}")
    return made


def _in_words(seconds: dict[str, list[float]]) -> str:
    names = "pdADMM", RECOMMENDED, "products", "Adam"
    own, recommended, alone, adam = (median(seconds[name]) for name in names)
    return (
        f"pdADMM: {1 / own:.3g} iterations per second, {alone / own:.0%} of the speed of its "
        f"products, {own / adam:.2f} times an Adam step; as recommended, with W solved, "
        f"{recommended / adam:.2f} times"
    )
