"""What ``train`` needs of an algorithm beside its iterations: checkpoints, records, words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np
from jax.sharding import Mesh

from experiments import build
from experiments.algorithms import loop
from experiments.algorithms.algorithm import Algorithm
from experiments.algorithms.loop import Chunk, Schedule, Score, TrainState
from experiments.train.checkpoints import Found
from experiments.train.metric import ACCURACY, R2, Metric
from experiments.train.options import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = dict[str, Any]  # a line of metrics.jsonl


@dataclass(frozen=True)
class Trainer(ABC):
    """An algorithm that a run trains with.

    Attributes:
        options: of the command.
        splits: data.
        widths: of the network that training begins with.
        config: the algorithm's configuration that it begins with.
        mesh: devices; None for a single one.
        library: the module of the algorithm.
        algorithm: its iterations.
        monitored: what the number that is to fall is called.
    """

    options: TrainConfig
    splits: build.Splits
    widths: tuple[int, ...]
    config: Any
    mesh: Mesh | None
    library: ClassVar[ModuleType]
    algorithm: ClassVar[Algorithm]
    monitored: ClassVar[str]

    def init(self) -> TrainState:
        """The start of a new run, from random weights."""
        state = self.library.init(
            jax.random.key(self.options.seed),
            self.splits.solved,
            self.widths,
            self.config,
            initializer=build.INITIALIZERS[self.options.network.initializer],
            mesh=self.mesh,
            message_dtype=self.options.mesh.message_dtype,
        )
        return TrainState(state, self.config)

    @abstractmethod
    def checkpoint(self, state: TrainState) -> tuple[Any, dict[str, Any]]:
        """What a checkpoint has to hold: a pytree of arrays, and facts that JSON can hold."""

    @abstractmethod
    def restore(self, found: Found) -> TrainState:
        """The state that was saved."""

    @abstractmethod
    def records(self, chunk: Chunk) -> list[Record]:
        """A flat record of each iteration, ready for JSON; the last one has the evaluation."""

    @abstractmethod
    def monitor(self, chunk: Chunk) -> np.ndarray:
        """After each iteration, the number that is to fall."""

    @abstractmethod
    def nonfinite_after(self, state: TrainState) -> list[str]:
        """The variables that another iteration leaves with values that are not finite."""

    @abstractmethod
    def with_smaller_steps(self, state: TrainState, factor: float) -> tuple[TrainState, str]:
        """The same state with smaller steps from here on, and what was changed, in words."""

    @abstractmethod
    def title(self, config: Any) -> str:
        """The algorithm and its numbers, in a few words."""

    @abstractmethod
    def summary(self, record: Record) -> dict[str, Any]:
        """The numbers to keep of the last iteration's record, which may be empty."""

    @abstractmethod
    def figure(self, records: list[Record], title: str) -> Figure:
        """The figure of a run; Matplotlib is imported only here, for that may fail."""

    def describe(self, record: Record) -> str:
        """How far training has come, in a few words."""
        numbers = self.summary(record)
        return " ".join(f"{name} {_shown(value)}" for name, value in numbers.items())

    def remarks(self, state: TrainState) -> list[str]:
        """What is worth saying before training begins."""
        del state
        return []

    def train(self, state: TrainState, iterations: int) -> Iterator[Chunk]:
        """Trains up to a number of iterations, evaluating on training and held-out samples."""
        options = self.options
        schedule = Schedule(
            iterations,
            options.evaluate_every,
            options.refresh_every,
            tuple((at, options.growth.layers) for at in options.growth.at),
        )
        key = jax.random.key(options.seed)
        splits = self.splits.of("train", "validation")
        return loop.train(self.algorithm, state, self.splits.solved, key, schedule, splits)

    def evaluate(self, state: TrainState) -> dict[str, Score]:
        """Mean loss, and accuracy or R^2, on all splits."""
        splits = self.splits.of("train", "validation", "test")
        return loop.evaluate(self.algorithm, state.state, state.config, splits)

    @property
    def metric(self) -> Metric:
        """What is said of the network beside its loss."""
        return R2 if self.splits.regression else ACCURACY

    def evaluation(self, chunk: Chunk) -> dict[str, float]:
        """The evaluation of a chunk as its last record has it."""
        return {
            f"{name}_{what}": value
            for name, score in chunk.scores.items()
            for what, value in zip(("loss", self.metric.name), score, strict=True)
        }

    def layer_widths(self, state: TrainState) -> tuple[int, ...]:
        """(features, hidden, ..., outputs), as they are now."""
        return state.state.plan.widths


def _shown(value: Any) -> str:
    return f"{float('nan') if value is None else value:.4g}"
