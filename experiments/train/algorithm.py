"""What all ways of training have in common: where they start, and what a dispatch did."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jax.sharding import Mesh

import pdadmm_jax as pdadmm
from experiments.build import Splits
from experiments.train.checkpoints import Found
from experiments.train.options import TrainConfig

Score = tuple[float, float]  # mean loss and accuracy of the forward pass
Line = dict[str, Any]  # of metrics.jsonl


class Start(NamedTuple):
    """All that the next iteration depends on, and the time it took to come here.

    Attributes:
        state: the variables, a State or a SweepState; its counter says how many iterations were
            done.
        hyper: hyperparameters from here on, of the kind that the state is made for.
        seconds: training time so far, compilation and evaluation apart.
        compile_seconds: time spent compiling so far.
    """

    state: Any
    hyper: Any
    seconds: float = 0.0
    compile_seconds: float = 0.0

    @property
    def iteration(self) -> int:
        """Number of the last iteration done, from 1."""
        return int(self.state.iteration)

    @property
    def weights(self) -> pdadmm.State:
        """The state, or the part of it that has the weights."""
        return self.state.weights if isinstance(self.state, pdadmm.SweepState) else self.state


class Chunk(NamedTuple):
    """What one dispatch did.

    Attributes:
        end: where the next chunk starts.
        lines: a flat record of each iteration, ready for JSON; the last one has the evaluation.
        finite: whether all was finite after each.
        watched: after each, the number that is to fall.
    """

    end: Start
    lines: list[Line]
    finite: np.ndarray
    watched: np.ndarray

    @property
    def iteration(self) -> int:
        """Number of its last iteration, from 1."""
        return self.end.iteration

    @property
    def before(self) -> int:
        """Number of the last iteration before it."""
        return self.iteration - len(self.lines)

    @property
    def layers(self) -> int:
        """Depth of the network."""
        return self.lines[-1]["layers"]

    def passes(self, every: int) -> bool:
        """Whether a multiple of ``every`` iterations is reached within it."""
        return self.before // every < self.iteration // every


@dataclass(frozen=True)
class Mode(ABC):
    """A way of training that can be followed, saved and continued.

    Attributes:
        config: what was asked for.
        splits: data.
        widths: of the network that training begins with.
        hyper: hyperparameters that it begins with.
        mesh: devices; None for a single one.
        watched: what the number that is to fall is called.
    """

    config: TrainConfig
    splits: Splits
    widths: tuple[int, ...]
    hyper: Any
    mesh: Mesh | None
    watched: ClassVar[str]

    @abstractmethod
    def first(self) -> Start:
        """The start of a new run, from random weights."""

    @abstractmethod
    def train(self, start: Start, iterations: int) -> Iterator[Chunk]:
        """Runs up to a number of iterations, in chunks that end where they always do."""

    @abstractmethod
    def stored(self, start: Start) -> tuple[Any, dict[str, Any]]:
        """What a checkpoint has to hold: a pytree of arrays, and facts that JSON can hold."""

    @abstractmethod
    def restored(self, found: Found) -> Start:
        """The start that was saved."""

    @abstractmethod
    def broken_by_next(self, start: Start) -> list[str]:
        """The variables that another iteration leaves with values that are not finite."""

    @abstractmethod
    def steadier(self, start: Start, factor: float) -> tuple[Start, str]:
        """The same start with smaller steps from here on, and what was changed, in words."""

    def remarks(self, start: Start) -> list[str]:
        """What is worth saying before it begins."""
        del start
        return []

    @staticmethod
    @abstractmethod
    def title(hyper: Any) -> str:
        """The method and its numbers, in a few words."""

    @staticmethod
    @abstractmethod
    def described(line: Line) -> str:
        """How far it has come, in a few words."""

    @staticmethod
    @abstractmethod
    def summary(line: Line) -> dict[str, Any]:
        """The numbers to keep of the last iteration's record, which may be empty."""

    @abstractmethod
    def draw(self, path: Path, lines: list[Line], title: str) -> None:
        """Writes the figure of a run."""


class Programs:
    """Compiled programs, each made once, and the seconds that took."""

    def __init__(self, seconds: float) -> None:
        """None so far.

        Args:
            seconds: spent compiling before.
        """
        self.seconds = seconds
        self._made: dict[Any, Any] = {}

    def ready(self, key: Any, function: Any, *arguments: Any, **static: int) -> Any:
        """The program of a jitted function, for arguments of which a key says all there is."""
        if key not in self._made:
            begin = time.perf_counter()
            self._made[key] = function.lower(*arguments, **static).compile()
            self.seconds += time.perf_counter() - begin
        return self._made[key]

    def forget(self) -> None:
        """Forgets all programs, for arguments that have changed their shapes."""
        self._made.clear()


def next_end(done: int, every: int, iterations: int) -> int:
    """The iteration that the next chunk ends at.

    It follows from the iterations' numbers alone, so that a run that goes on from the end of a
    chunk computes what it would have computed without the pause.
    """
    return min(iterations, done - done % every + every)


def evaluation(start: Start, splits: Splits) -> dict[str, float]:
    """Loss and accuracy on the samples that may be looked at while training goes on."""
    return {
        f"{name}_{what}": value
        for name, score in scores(start, splits, ("train", "validation")).items()
        for what, value in zip(("loss", "accuracy"), score, strict=True)
    }


def scores(start: Start, splits: Splits, names: tuple[str, ...]) -> dict[str, Score]:
    """Mean loss and accuracy on those of the splits that have samples, in full precision."""
    params, exact = pdadmm.params(start.weights), start.hyper.replace(precision="float32")
    held = {name: getattr(splits, name) for name in names}
    return {name: score_of(params, data, exact) for name, data in held.items() if data is not None}


def score_of(
    params: pdadmm.Params, data: pdadmm.Data, hyper: pdadmm.Hyperparameters | pdadmm.Sweeps
) -> Score:
    """Mean loss and accuracy of the forward pass."""
    loss, accuracy = pdadmm.loss_and_accuracy(params, data, hyper)
    return float(loss), float(accuracy)
