"""``python -m experiments speed sweeps``: passes of sweeps against passes of Adam.

Both run in turn, in one process, over the same batches, with the same optimizer on what they
compute: gradients by back-propagation there, directions by layer-local solves here.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pdadmm_jax as pdadmm
from experiments import build
from experiments.algorithms import backprop
from experiments.algorithms.backprop import BACKPROP
from experiments.benchmark.compiled_program import loop_traffic
from experiments.benchmark.options import SweepsSpeedConfig
from experiments.benchmark.programs import Program, compiled, median, timed_in_turn
from experiments.report.measurement import Measurement, table
from experiments.runtime import run_directory as runs
from experiments.runtime.errors import usage_errors

RATE, CLASSES = 1e-3, 10


class Case(NamedTuple):
    """A network and its batches.

    Attributes:
        features: inputs of the network.
        hidden: widths of its hidden layers.
        batch: samples between two updates; None for all.
        samples: of a pass.
    """

    features: int
    hidden: tuple[int, ...]
    batch: int | None
    samples: int

    @property
    def widths(self) -> tuple[int, ...]:
        """(features, hidden, ..., classes)."""
        return (self.features, *self.hidden, CLASSES)

    @property
    def name(self) -> str:
        """Widths and batch, as a table shows them."""
        groups = [(width, len(list(same))) for width, same in itertools.groupby(self.hidden)]
        hidden = "-".join(f"{n}x{width}" if n > 1 else f"{width}" for width, n in groups)
        return f"{self.features}-{hidden}-{CLASSES}, {self.batch or 'all'} at once"


CASES = (
    Case(784, (300,) * 3, 128, 6400),
    Case(196, (500,) * 9, 128, 6400),
    Case(784, (1000,) * 3, 256, 12_800),
    Case(64, (100,) * 3, 128, 1152),
    Case(196, (500,) * 9, None, 6400),
)


def main(options: SweepsSpeedConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    cases = CASES
    if options.hidden:
        samples = options.samples - options.samples % (options.batch or 1)  # whole batches alone
        cases = (Case(options.features, options.hidden, options.batch, max(samples, 1)),)
    with usage_errors():
        for case in cases:
            build.check_fits(case.widths, min(case.samples, case.batch or 1024), 1)
    measurement = Measurement("sweeps", options)
    measurement.show(
        f"milliseconds per pass, median of {options.repeats} in turn, and what a batch reads and "
        f"writes, on {runs.environment()['devices']}"
    )
    made = table("", "Adam, ms", "MB", "sweeps, ms", "MB", "ratio")
    found = {}
    for case in cases:
        programs = [adam(case, options.passes), sweeps(case, options.passes)]
        seconds = timed_in_turn(programs, options.passes, options.repeats)
        traffic = {program.name: loop_traffic(program.text) for program in programs}
        ratios = [own / other for other, own in zip(*seconds.values(), strict=True)]
        cells = [
            cell
            for name, rounds in seconds.items()
            for cell in (f"{1e3 * median(rounds):.2f}", f"{sum(traffic[name].values()) / 1e6:.1f}")
        ]
        made.add_row(case.name, *cells, f"{median(ratios):.3f}")
        found[case.name] = {
            "seconds": seconds,
            "ratio": median(ratios),
            "compile_seconds": {program.name: program.compile_seconds for program in programs},
            "bytes": traffic,
        }
    measurement.show(made)
    for name, one in found.items():
        measurement.show(f"{name}: {_in_words(one['bytes'])}")
    measurement.save(found)
    return 0


def _in_words(traffic: dict[str, dict[str, int]]) -> str:
    own, other = traffic["sweeps"], traffic["Adam"]
    kinds = (f"{kind} {own[kind] / 1e6:.1f} ({other[kind] / 1e6:.1f})" for kind in own)
    return f"MB of a batch (Adam's): {', '.join(kinds)}"


def data_of(case: Case) -> pdadmm.Data:
    """Random samples."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((case.samples, case.features), np.float32))
    return pdadmm.Data(x, jnp.asarray(rng.integers(0, CLASSES, case.samples), jnp.int32))


def sweeps(case: Case, passes: int) -> Program:
    """Passes of sweeps, with all that they report."""
    key, data = jax.random.key(0), data_of(case)
    config = pdadmm.sweeps.recommended(case.widths, case.batch)
    if case.batch is not None:
        config = config.replace(rule=optax.adam(RATE))
    state = pdadmm.sweeps.init(key, data, case.widths, config)

    def run(state: Any, data: pdadmm.Data, config: pdadmm.sweeps.Config, key: Any) -> Any:
        return pdadmm.sweeps.run(state, data, config, key, steps=passes)[0]

    return compiled("sweeps", run, state, (data, config, key if case.batch else None))


def adam(case: Case, passes: int) -> Program:
    """Passes of Optax's Adam on gradients of the mean loss, as ``compare`` makes them."""
    key, data = jax.random.key(0), data_of(case)
    config = backprop.Config(RATE, pdadmm.admm.Config(), optax.adam, case.batch)
    state = BACKPROP.from_params(pdadmm.random_params(key, case.widths), data, config)

    def run(state: Any, data: pdadmm.Data, config: backprop.Config, key: Any) -> Any:
        return BACKPROP.run(state, data, config, key, passes)[0]

    return compiled("Adam", run, state, (data, config, key))
