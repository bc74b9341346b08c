"""A trial: one method with one setting from one seed, from one evaluation to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pdadmm_jax as pdadmm
from experiments.algorithms.algorithm import Algorithm
from experiments.algorithms.loop import Programs, Schedule, TrainState, growing, train
from experiments.compare.trial import states_only
from experiments.graphs.methods import Method, Setting


class Point(NamedTuple):
    """An evaluation after some passes.

    Attributes:
        passes: over the labelled nodes.
        depth: layers by then.
        seconds: of training so far, compilation and evaluation apart.
        loss: mean over the validation nodes.
        validation: accuracy on them.
        test: accuracy on the test nodes; None while tuning, which does not look at them.
    """

    passes: int
    depth: int
    seconds: float
    loss: float
    validation: float
    test: float | None


class Plan(NamedTuple):
    """How all trials go.

    Attributes:
        neurons: width of the hidden layers.
        classes: outputs of the network.
        layers: of the network.
        growth: depths that a method which grows has before.
        passes: how long to train.
        evaluate_every: passes between two points.
        penalties_from: share of its penalties that Algorithm 1 begins with.
    """

    neurons: int
    classes: int
    layers: int
    growth: tuple[int, ...]
    passes: int
    evaluate_every: int
    penalties_from: float = 1.0

    def scheduled(self, setting: Setting, done: int) -> Setting:
        """A setting's numbers after so many passes: nu = rho rises geometrically, to its end."""
        share = self.penalties_from ** (1 - done / self.passes)
        return setting._replace(number=share * setting.number)

    def widths(self, features: int, layers: int) -> tuple[int, ...]:
        """Those of a network of so many layers."""
        return features, *[self.neurons] * (layers - 1), self.classes

    def stages(self, *, grows: bool) -> list[tuple[int, int]]:
        """Depths, and after how many passes each has done its part."""
        depths = self.growth if grows else ()
        return growing((*depths, self.layers), self.passes)


def history(
    method: Method,
    setting: Setting,
    seed: int,
    data: pdadmm.Data,
    scored: Mapping[str, pdadmm.Data],
    plan: Plan,
    programs: Programs,
) -> list[Point]:
    """Runs a trial to its end.

    Args:
        method: what is run.
        setting: its numbers.
        seed: of the first weights.
        data: labelled nodes.
        scored: "validation", and "test" in the end.
        plan: how trials go.
        programs: compiled so far, shared by trials of a method.
    """
    key, order = jax.random.split(jax.random.key(seed))
    algorithm = states_only(method.algorithm)
    points: list[Point] = []
    state, seconds, before = None, 0.0, 0
    for depth, end in plan.stages(grows=method.grows):
        widths = plan.widths(data.x.shape[1], depth)
        config = method.configured(widths, setting)
        if state is None:
            params = pdadmm.random_params(key, widths)
            factor = method.first if depth < plan.layers else 1.0
            params = [(factor * W, b) for W, b in params]
            state = algorithm.from_params(params, data, config)
        else:
            state = grown(algorithm, state, data, config, depth - before)
        before = depth
        start = TrainState(state, config, seconds)
        schedule = Schedule(end, plan.evaluate_every)
        while start.iteration < end:
            if method.penalties:  # numbers are leaves of a configuration: nothing compiles again
                now = plan.scheduled(setting, start.iteration)
                start = start._replace(config=method.configured(widths, now))
            chunk = next(train(algorithm, start, data, order, schedule, scored, programs))
            start = chunk.end
            state, seconds = start.state, start.seconds
            loss, validation = chunk.scores["validation"]
            _, test = chunk.scores.get("test", (None, None))
            points.append(Point(chunk.iteration, depth, seconds, loss, validation, test))
    return points


def grown(algorithm: Algorithm, state: Any, data: pdadmm.Data, config: Any, layers: int) -> Any:
    """The state with identity layers before the last, by which the network's outputs stay.

    A method that has no growth of its own begins anew from such weights.
    """
    if algorithm.grow is not None:
        return algorithm.grow(state, config, layers)
    *lower, last = algorithm.params(state)
    width = last[0].shape[0]
    identity = jnp.eye(width), jnp.zeros(width)
    deeper = algorithm.from_params([*lower, *[identity] * layers, last], data, config)
    return deeper._replace(iteration=state.iteration)


def best(found: Mapping[Setting, list[list[Point]]]) -> Setting:
    """The setting whose trials end with the highest mean validation accuracy; of equals, loss."""

    def rank(setting: Setting) -> tuple[float, float]:
        last = [points[-1] for points in found[setting]]
        loss = float(np.mean([point.loss for point in last]))
        if not math.isfinite(loss):
            return -1.0, 0.0
        return float(np.mean([point.validation for point in last])), -loss

    return max(found, key=rank)


def least_loss(points: list[Point]) -> Point:
    """The point of least validation loss at full depth."""
    deep = [point for point in points if point.depth == points[-1].depth]
    return min(deep, key=lambda point: point.loss if math.isfinite(point.loss) else math.inf)
