"""``python -m experiments literal``: an iteration against the algorithm as it is published."""

from __future__ import annotations

import time

import jax
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments.benchmark import iteration_time as timing
from experiments.benchmark import published
from experiments.benchmark.options import LiteralConfig
from experiments.benchmark.programs import (
    admm,
    median,
    middle_and_ends,
    products_alone,
    timed_in_turn,
)
from experiments.report.measurement import Measurement, table
from experiments.runtime import run_directory as runs

NU, RHO = 0.1, 0.5
CONFIG = pdadmm.admm.Config(
    nu=NU,
    rho=RHO,
    p_solver=pdadmm.admm.Search(published.SEARCH_START, published.SEARCH_GROWTH),
    W_solver=pdadmm.admm.Search(published.SEARCH_START, published.SEARCH_GROWTH),
)
SAME = "pdADMM, same steps"


def main(options: LiteralConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    measurement = Measurement("literal", options)
    measurement.show(
        f"{options.layers} layers x {options.neurons}, {options.features} features, "
        f"{options.samples} samples, on {runs.environment()['devices']}"
    )
    programs = [
        products_alone(options),
        admm(options, CONFIG, SAME),
        admm(options, pdadmm.admm.Config(NU, RHO)),
    ]
    seconds = timed_in_turn(programs, options.iterations, options.repeats)
    del programs
    efforts = {}
    for name, compiled in (("as published", True), ("as published, op by op", False)):
        with jax.disable_jit(not compiled):
            seconds[name], efforts[name] = timed(options)

    measurement.show(_table(seconds))
    own = median(seconds[SAME])
    compiled, apart = (median(seconds[name]) / own for name in efforts)
    trials, steps = efforts["as published"]
    measurement.show(
        f"as published, an iteration is {compiled:.1f} times slower at the same step sizes, "
        f"{apart:.1f} times if its formulas are not compiled: searches evaluate the objective "
        f"{trials} times, FISTA takes {steps} steps"
    )
    found = {"seconds": seconds, "efforts": {name: e._asdict() for name, e in efforts.items()}}
    measurement.save(found)
    return 0


def timed(options: LiteralConfig) -> tuple[list[float], published.Effort]:
    """Seconds of iterations of the published algorithm after the first, and the last's effort."""
    state, data = timing.problem(options, CONFIG)
    variables, effort = published.variables_of(state, data), published.Effort(0, 0)
    seconds = []
    for _ in range(options.repeats + 1):
        begin = time.perf_counter()
        variables, effort = published.iterate(variables, data.y, NU, RHO)
        jax.block_until_ready(variables)
        seconds.append(time.perf_counter() - begin)
    return seconds[1:], effort


def _table(seconds: dict[str, list[float]]) -> Table:
    alone = median(seconds["products"])
    made = table("", "s per iteration", "fastest", "slowest", "of the products")
    for name, rounds in seconds.items():
        made.add_row(name, *middle_and_ends(rounds), f"{median(rounds) / alone:.3f}")
    return made
