"""Runs that are looked at closely: what every iteration did, and the forward pass now and then."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import pdadmm_jax as pdadmm
from experiments import build
from experiments.data import load
from experiments.options.devices import WireName
from experiments.options.network import MethodConfig
from experiments.runtime import run_directory as runs
from experiments.runtime.interrupts import Interrupted
from experiments.study.options import StudyConfig
from experiments.train.algorithm import Score, score_of

REFRESH_EVERY = 100  # iterations after which a is computed anew at the latest, as in training

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
        return "-".join(map(str, self.widths))

    def start(
        self, seed: int, hyper: pdadmm.Hyperparameters, wire: WireName = "full"
    ) -> pdadmm.State:
        """A start from random weights."""
        return pdadmm.init(
            jax.random.key(seed),
            self.splits.solved,
            self.widths,
            hyper,
            self.initializer,
            mesh=self.mesh,
            wire=wire,
        )

    def described(self, iterations: int) -> str:
        """What is about to be done, in one line."""
        return (
            f"{self.name}, {self.network}, {self.splits.samples} samples, {iterations} iterations "
            f"on {runs.environment()['devices']}"
        )


def problem(
    config: StudyConfig, method: MethodConfig, dtype: Any = np.float32, mesh: Mesh | None = None
) -> Problem:
    """What a configuration describes.

    Raises:
        ValueError: data or network cannot be had as asked for.
    """
    dataset = load(config.data)
    widths = build.widths(dataset, config.network, method)
    build.check_fits(widths, len(dataset.y_train), 1 if mesh is None else mesh.size)
    initializer = build.INITIALIZERS[config.network.initializer]
    splits = build.splits(dataset, dtype, mesh)
    return Problem(dataset.name, widths, splits, initializer, mesh)


class Report(NamedTuple):
    """What is kept of every iteration, leading axis (iterations,).

    Attributes:
        lagrangian: augmented Lagrangian after it.
        objective: of the problem without constraints' terms.
        residual: squared primal residual, sum_l ||p_{l+1} - q_l||^2.
        finite: whether all variables still are; 1 or 0 in a course.
        squared_step: how far the variables moved, where that was asked for.
    """

    lagrangian: Any
    objective: Any
    residual: Any
    finite: Any
    squared_step: Any = None


Program = Callable[[pdadmm.State, pdadmm.Data, pdadmm.Hyperparameters], tuple[pdadmm.State, Report]]


class Course(NamedTuple):
    """One run.

    Attributes:
        seed: of its first weights.
        first: the Lagrangian at the start.
        report: of all iterations.
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
    def broken(self) -> int | None:
        """The first iteration after which something was not finite."""
        return None if self.report.finite.all() else int(np.argmin(self.report.finite)) + 1

    def plain(self) -> dict[str, Any]:
        """All of it, for JSON."""
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


def report_of(info: pdadmm.Info) -> Report:
    """What is kept of a report of the library's."""
    residual = jnp.sum(info.primal_residual**2, -1)
    return Report(info.lagrangian, info.terms.objective, residual, info.finite)


def course(
    program: Program,
    seed: int,
    state: pdadmm.State,
    splits: build.Splits,
    hyper: pdadmm.Hyperparameters,
    iterations: int,
    asked: Sized = (),
) -> Course:
    """Trains to the end, or to where values cease to be finite.

    Args:
        program: some iterations; the evaluations come between its calls.
        seed: that the state was made from.
        state: where to start; its memory may be taken over.
        splits: data.
        hyper: hyperparameters.
        iterations: how many, a multiple of the program's.
        asked: holds something as soon as a stop is asked for.

    Raises:
        Interrupted: a stop was asked for before the end.
    """
    first = float(pdadmm.terms(state, splits.solved, hyper).lagrangian)
    reports, at, train, validation = [], [], [], []
    done = 0
    while done < iterations and (not reports or reports[-1].finite.all()):
        if len(asked):
            raise Interrupted(f"after {done} of {iterations} iterations")
        state, report = program(state, splits.solved, hyper)
        reports.append(jax.tree.map(np.asarray, report))
        before, done = done, int(state.iteration)
        if before // REFRESH_EVERY < done // REFRESH_EVERY:
            state, _ = pdadmm.refresh(state, splits.solved, hyper)
        params, exact = pdadmm.params(state), hyper.replace(precision="float32")
        at.append(done)
        train.append(score_of(params, splits.train, exact))
        if splits.validation:
            validation.append(score_of(params, splits.validation, exact))
    return Course(seed, first, _joined(reports), at, train, validation)


def _joined(reports: list[Report]) -> Report:
    """All iterations in one report, numbers in double precision."""
    return jax.tree.map(lambda *parts: np.concatenate(parts).astype(np.float64), *reports)


INTERRUPTION = "interrupted: runs that were finished are saved"


def whole(courses: list[Course]) -> list[Course]:
    """Those whose values stayed finite."""
    return [one for one in courses if not one.broken]


def rises(lagrangian: np.ndarray) -> Rises:
    """Counts them in a history that begins with the start."""
    steps = np.diff(lagrangian)
    return Rises(int(np.sum(steps > 0)), max(float(np.max(steps)), 0.0) / float(lagrangian[0]))


def error(complaints: list[str]) -> str:
    """One line about all that went wrong; the tables say the rest."""
    first, *others = complaints
    return f"error: {first}{f' (and {len(others)} more)' if others else ''}"
