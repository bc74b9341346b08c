"""Runs of which every iteration is recorded, with evaluations now and then."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import pdadmm_jax as pdadmm
from experiments import build
from experiments.algorithms.algorithm import Algorithm
from experiments.algorithms.loop import Programs, Schedule, Score, TrainState, train
from experiments.data import load
from experiments.options.devices import MessageDtype
from experiments.options.network import MethodConfig, network_title
from experiments.runtime.interrupts import Interrupted
from experiments.study.options import StudyConfig

REFRESH_EVERY = 100  # iterations after which a is recomputed at the latest, as in training

# Rises of the Lagrangian that rounding explains, as a share of its first value.
ROUNDING = {"float32": 2e-6, "float64": 1e-14}


class Problem(NamedTuple):
    """Data, a network, and where they live.

    Attributes:
        name: of the data.
        widths: (features, hidden, ..., outputs).
        splits: data.
        initializer: of the weights.
        mesh: devices, None for a single one.
    """

    name: str
    widths: tuple[int, ...]
    splits: build.Splits
    initializer: Any
    mesh: Mesh | None

    @property
    def network(self) -> str:
        """The network as titles name it."""
        return network_title(self.widths, "-")

    def start(
        self, seed: int, options: pdadmm.admm.Config, message_dtype: MessageDtype = "full"
    ) -> TrainState:
        """A start from random weights."""
        state = pdadmm.admm.init(
            jax.random.key(seed),
            self.splits.solved,
            self.widths,
            options,
            initializer=self.initializer,
            mesh=self.mesh,
            message_dtype=message_dtype,
        )
        return TrainState(state, options)

    def described(self, iterations: int) -> str:
        """One line about the runs."""
        devices = 1 if self.mesh is None else self.mesh.size
        return (
            f"{self.name}, {self.network}, {self.splits.samples} samples, {iterations} iterations "
            f"on {devices} x {jax.devices()[0].device_kind}"
        )


def problem(
    options: StudyConfig, method: MethodConfig, dtype: Any = np.float32, mesh: Mesh | None = None
) -> Problem:
    """The problem of some options.

    Raises:
        ValueError: data or network cannot be had as asked for.
    """
    dataset = load(options.data)
    dataset.check_classes()  # whose accuracy the studies are about
    widths = build.widths(dataset, options.network, method)
    build.check_fits(widths, len(dataset.y_train), 1 if mesh is None else mesh.size)
    initializer = build.INITIALIZERS[options.network.initializer]
    splits = build.splits(dataset, dtype, mesh)
    return Problem(dataset.name, widths, splits, initializer, mesh)


class Report(NamedTuple):
    """What is kept of every iteration, leading axis (iterations,).

    Attributes:
        lagrangian: augmented Lagrangian after it.
        objective: of the problem without constraints' terms.
        residual: squared primal residual, sum_l ||p_{l+1} - q_l||^2.
        finite: whether all variables still are.
        squared_step: how far the variables moved, where that was asked for.
    """

    lagrangian: Any
    objective: Any
    residual: Any
    finite: Any
    squared_step: Any = None


class History(NamedTuple):
    """One run.

    Attributes:
        seed: of its first weights.
        first: the Lagrangian at the start.
        report: of all iterations, numbers in double precision.
        at: iterations after which the forward pass was evaluated.
        train: mean loss and accuracy of it on the training samples.
        validation: the same on the held-out ones; empty if there are none.
    """

    seed: int
    first: float
    report: Report
    at: list[int]
    train: list[Score]
    validation: list[Score]

    @property
    def lagrangian(self) -> np.ndarray:
        """At the start and after every iteration."""
        return np.append(self.first, self.report.lagrangian)

    @property
    def nonfinite(self) -> int | None:
        """The first iteration after which something was not finite."""
        return None if self.report.finite.all() else int(np.argmin(self.report.finite)) + 1

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        kept = {name: values for name, values in self.report._asdict().items() if name != "finite"}
        lists = {name: values.tolist() for name, values in kept.items() if values is not None}
        evaluations = {"at": self.at, "train": self.train, "validation": self.validation}
        return {"seed": self.seed, **lists, "lagrangian": self.lagrangian.tolist(), **evaluations}


class Rises(NamedTuple):
    """Iterations in which the Lagrangian rose.

    Attributes:
        number: how many, by however little.
        largest: rise, as a share of the first value.
    """

    number: int
    largest: float


def report_of(info: pdadmm.admm.Info) -> Report:
    """What is kept of the library's info."""
    residual = jnp.sum(info.primal_residual**2, -1)
    return Report(info.lagrangian, info.terms.objective, residual, info.finite)


def history(
    algorithm: Algorithm,
    given: Problem,
    seed: int,
    start: TrainState,
    schedule: Schedule,
    programs: Programs,
    stop_requests: Sized = (),
) -> History:
    """Trains to the end, or to where values cease to be finite.

    Args:
        algorithm: its info is a ``Report``.
        given: the problem.
        seed: that the start was made from.
        start: where to start; its arrays are donated.
        schedule: how far.
        programs: compiled so far.
        stop_requests: holds something as soon as a stop is asked for.

    Raises:
        Interrupted: a stop was asked for before the end.
    """
    data, splits = given.splits.solved, given.splits.of("train", "validation")
    first = float(pdadmm.admm.terms(start.state, data, start.config).lagrangian)
    chunks = []
    key = jax.random.key(seed)
    _check(stop_requests, 0, schedule.iterations)
    for chunk in train(algorithm, start, data, key, schedule, splits, programs):
        chunks.append(chunk)
        if not chunk.finite:
            break
        if chunk.iteration < schedule.iterations:
            _check(stop_requests, chunk.iteration, schedule.iterations)
    reports = [chunk.info for chunk in chunks]
    return History(
        seed,
        first,
        jax.tree.map(lambda *parts: np.concatenate(parts).astype(np.float64), *reports),
        at=[chunk.iteration for chunk in chunks],
        train=[chunk.scores["train"] for chunk in chunks],
        validation=[chunk.scores["validation"] for chunk in chunks if "validation" in chunk.scores],
    )


def _check(stop_requests: Sized, done: int, iterations: int) -> None:
    if len(stop_requests):
        raise Interrupted(f"after {done} of {iterations} iterations")


INTERRUPTION = "interrupted: runs that were finished are saved"


def finite_ones(histories: list[History]) -> list[History]:
    """Those whose values stayed finite."""
    return [one for one in histories if not one.nonfinite]


def rises(lagrangian: np.ndarray) -> Rises:
    """Counts them in a history that begins with the start."""
    steps = np.diff(lagrangian)
    return Rises(int(np.sum(steps > 0)), max(float(np.max(steps)), 0.0) / float(lagrangian[0]))


def error(complaints: list[str]) -> str:
    """One line about all that went wrong; the tables say the rest."""
    first, *others = complaints
    return f"error: {first}{f' (and {len(others)} more)' if others else ''}"
