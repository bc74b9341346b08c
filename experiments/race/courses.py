"""The processes of a race: every method trains and is timed, one after the other."""

from __future__ import annotations

import json
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pdadmm_jax as pdadmm
from experiments.data import Dataset, load
from experiments.race.methods import Method, method_of
from experiments.race.options import RaceConfig
from experiments.runtime import cluster
from experiments.runtime.errors import usage_errors
from pdadmm_jax import admm


class Course(NamedTuple):
    """How a training went: at every evaluation, what had been done and what was reached.

    Attributes:
        seconds: of training alone.
        passes: over the training samples.
        accuracy: in percent.
    """

    seconds: list[float]
    passes: list[float]
    accuracy: list[float]

    def reached(self, accuracy: float) -> tuple[float, float]:
        """Seconds and passes until it had this accuracy first; infinite if it never had."""
        for seconds, passes, found in zip(*self, strict=True):
            if found >= accuracy:
                return seconds, passes
        return math.inf, math.inf


def main(options: RaceConfig) -> int:
    """Trains and prints a line; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    with cluster.exit_on_error():
        with usage_errors():
            if options.distributed:
                cluster.initialize(options.cluster)
            dataset = cluster.main_process_first(lambda: load(options.data))
            dataset.check_classes()
        found = {name: _raced(name, options, dataset) for name in options.methods}
        if cluster.is_main_process():
            print(json.dumps(found))
    return 0


def _raced(name: Any, options: RaceConfig, dataset: Dataset) -> dict[str, Any]:
    """A method's best rate, and its courses from all seeds; of what network and data."""
    train = _split(dataset, "train")
    widths = (train.x.shape[1], *options.hidden, dataset.classes)
    rates = options.rates if method_of(name, options, widths, options.rates[0]).parts else (0.0,)
    best = rates[0]
    if len(rates) > 1:
        held_out = _split(dataset, "validation")
        tried = []
        for rate in rates:
            method = method_of(name, options, widths, rate)
            course = _trained(method, options, train, held_out, options.seed + options.seeds)
            tried.append((course.reached(options.accuracy)[0], -max(course.accuracy), rate))
        best = min(tried)[-1]
    test = _split(dataset, "test")
    method = method_of(name, options, widths, best)
    seeds = range(options.seed, options.seed + options.seeds)
    courses = [_trained(method, options, train, test, seed)._asdict() for seed in seeds]
    return {
        "rate": best or None,
        "courses": courses,
        "widths": widths,
        "samples": len(train.y),
    }


def _trained(
    method: Method, options: RaceConfig, train: pdadmm.Data, test: pdadmm.Data, seed: int
) -> Course:
    """One training, until it has the accuracy or its time is over."""
    number = options.parts if method.parts else 1
    size = len(train.y) // number  # equal parts, for which one program serves
    parts = [
        _placed(method, jax.tree.map(lambda rows, k=k: rows[k * size : (k + 1) * size], train))
        for k in range(number)
    ]
    test = _placed(method, test, evenly=True)
    key = jax.random.key(seed)

    def accuracy(state: Any) -> float:
        return 100 * float(_accuracy(method.network(state), test))

    with usage_errors():
        state = jax.block_until_ready(method.start(key, parts[0]))
        accuracy(jax.block_until_ready(method.step(state, parts[0], key)))  # compiles
    course, seconds = Course([], [], []), 0.0
    while seconds < options.seconds:
        done = len(course.seconds)
        order = jax.random.fold_in(key, done)
        cluster.any_process(False)  # all begin at once
        begin = time.perf_counter()
        state = jax.block_until_ready(method.step(state, parts[done % number], order))
        seconds = cluster.broadcast(seconds + time.perf_counter() - begin)
        course.seconds.append(seconds)
        course.passes.append((done + 1) / number)
        course.accuracy.append(accuracy(state))
        if course.accuracy[-1] >= options.accuracy:
            break
    return course


def _split(dataset: Dataset, name: str) -> pdadmm.Data:
    x: Any = np.asarray(getattr(dataset, f"x_{name}"), np.float32)
    return pdadmm.Data(x, getattr(dataset, f"y_{name}"))


def _placed(method: Method, data: pdadmm.Data, *, evenly: bool = False) -> pdadmm.Data:
    if method.mesh is None:
        return jax.tree.map(jnp.asarray, data)
    return pdadmm.shard_data(data, method.mesh, evenly=evenly)


@jax.jit
def _accuracy(network: Any, test: pdadmm.Data) -> Any:
    return pdadmm.accuracy(network, test, admm.Config())
