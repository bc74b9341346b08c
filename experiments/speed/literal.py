"""``python -m experiments literal``: an iteration against the algorithm as it is published."""

from __future__ import annotations

import time

import jax
from rich.console import Console
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import runs, timing
from experiments.errors import usage_errors
from experiments.speed import published
from experiments.speed.config import LiteralConfig
from experiments.speed.programs import admm, median, products_alone, timed_in_turn

NU, RHO = 0.1, 0.5
HYPER = pdadmm.Hyperparameters(
    nu=NU,
    rho=RHO,
    p_solver=pdadmm.Search(published.SEARCH_START, published.SEARCH_GROWTH),
    W_solver=pdadmm.Search(published.SEARCH_START, published.SEARCH_GROWTH),
)
SAME = "pdADMM, same steps"


def main(config: LiteralConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    console = Console(highlight=False, soft_wrap=True)
    with usage_errors():
        directory = runs.create(config.out, "literal", config)
    console.print(
        f"{config.layers} layers x {config.neurons}, {config.features} features, "
        f"{config.samples} samples, on {runs.environment()['devices']}"
    )
    programs = [
        products_alone(config),
        admm(config, HYPER, SAME),
        admm(config, pdadmm.Hyperparameters(NU, RHO)),
    ]
    seconds = timed_in_turn(programs, config.iterations, config.repeats)
    del programs
    efforts = {}
    for name, compiled in (("as published", True), ("as published, op by op", False)):
        with jax.disable_jit(not compiled):
            seconds[name], efforts[name] = timed(config)

    console.print(_table(seconds))
    own = median(seconds[SAME])
    compiled, apart = (median(seconds[name]) / own for name in efforts)
    trials, steps = efforts["as published"]
    console.print(
        f"as published, an iteration is {compiled:.1f} times slower at the same step sizes, "
        f"{apart:.1f} times if its formulas are not compiled: searches evaluate the objective "
        f"{trials} times, FISTA takes {steps} steps"
    )
    found = {"seconds": seconds, "efforts": {name: e._asdict() for name, e in efforts.items()}}
    runs.write_json(directory / "literal.json", found)
    console.print(f"saved to {directory}: config.json, literal.json")
    return 0


def timed(config: LiteralConfig) -> tuple[list[float], published.Effort]:
    """Seconds of iterations of the published algorithm after the first, and the last's effort."""
    state, data = timing.problem(config, HYPER)
    variables, effort = published.variables_of(state, data), published.Effort(0, 0)
    seconds = []
    for _ in range(config.repeats + 1):
        begin = time.perf_counter()
        variables, effort = published.iterate(variables, data.y, NU, RHO)
        jax.block_until_ready(variables)
        seconds.append(time.perf_counter() - begin)
    return seconds[1:], effort


def _table(seconds: dict[str, list[float]]) -> Table:
    alone = median(seconds["products"])
    table = Table(box=None)
    for name in ("", "s per iteration", "fastest", "slowest", "of the products"):
        table.add_column(name, justify="right" if name else "left")
    for name, rounds in seconds.items():
        times = f"{median(rounds):.4f}", f"{min(rounds):.4f}", f"{max(rounds):.4f}"
        table.add_row(name, *times, f"{median(rounds) / alone:.3f}")
    return table
