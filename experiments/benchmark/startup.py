"""``python -m experiments startup``: what comes before the first iteration, in new processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from rich.table import Table

from experiments.benchmark.options import StartupConfig
from experiments.benchmark.programs import median, middle_and_ends
from experiments.report.measurement import Measurement, table
from experiments.runtime import run_directory as runs

_IMPORTS = """
import json, time
begin = time.perf_counter()
import jax, jax.numpy
between = time.perf_counter()
import pdadmm_jax
print(json.dumps([between - begin, time.perf_counter() - between]))
"""

_COMPILES = """
import json, sys, time
import jax, jax.numpy as jnp
import pdadmm_jax as pdadmm
layers, neurons, samples = map(int, sys.argv[1:])
data = pdadmm.Data(
    jax.ShapeDtypeStruct((samples, 784), jnp.float32), jax.ShapeDtypeStruct((samples,), jnp.int32)
)
config = pdadmm.admm.Config()
widths = (784, *[neurons] * (layers - 1), 10)
init = lambda key, data: pdadmm.admm.init(key, data, widths, config)
state = jax.eval_shape(init, jax.random.key(0), data)
begin = time.perf_counter()
lowered = jax.jit(pdadmm.admm.step, donate_argnums=0).lower(state, data, config)
between = time.perf_counter()
lowered.compile()
print(json.dumps([between - begin, time.perf_counter() - between]))
"""


def main(options: StartupConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    measurement = Measurement("startup", options)
    measurement.show(f"new processes on {runs.environment()['devices']}")
    found: dict[str, list[float]] = {}
    found["import jax"], found["import pdadmm_jax besides"] = measured(options, _IMPORTS)
    for layers in options.layers:
        size = str(layers), str(options.neurons), str(options.samples)
        names = [f"{layers} layers: {what} a step" for what in ("trace", "compile", "load")]
        found[names[0]], found[names[1]] = measured(options, _COMPILES, *size)
        with tempfile.TemporaryDirectory() as cache:
            once(_COMPILES, *size, cache=cache)
            _, found[names[2]] = measured(options, _COMPILES, *size, cache=cache)
    measurement.show(_table(found))
    few, many = (median(found[f"{layers} layers: compile a step"]) for layers in options.layers)
    measurement.show(
        f"{options.layers[1]} layers take {many / few:.2f} times as long to compile as "
        f"{options.layers[0]}; to load is to find it compiled by an earlier process"
    )
    measurement.save(found)
    return 0


def measured(
    options: StartupConfig, code: str, *words: str, cache: str | None = None
) -> tuple[list[float], list[float]]:
    """The two numbers that a program prints, of as many processes as were asked for."""
    pairs = [once(code, *words, cache=cache) for _ in range(options.repeats)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def once(code: str, *words: str, cache: str | None = None) -> tuple[float, float]:
    """The two numbers of one process, which keeps compiled programs in a directory, or nowhere."""
    settings = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    if cache:
        settings = {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    one, other = json.loads(done.stdout.splitlines()[-1])
    return one, other


def _table(found: dict[str, list[float]]) -> Table:
    made = table("", "s", "fastest", "slowest")
    for name, seconds in found.items():
        made.add_row(name, *middle_and_ends(seconds, digits=2))
    return made
