"""What all ways of training have in common: where they start, and what a dispatch did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

import pdadmm_jax as pdadmm
from experiments.build import Splits
from experiments.checkpoints import Found

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


class Mode(Protocol):
    """A way of training that can be followed, saved and continued.

    Attributes:
        splits: the data.
        watched: what the number that is to fall is called.
    """

    @property
    def splits(self) -> Splits: ...

    @property
    def watched(self) -> str: ...

    def first(self) -> Start:
        """The start of a new run."""
        ...

    def train(self, start: Start, iterations: int) -> Iterator[Chunk]:
        """Runs up to a number of iterations, in chunks that end where they always do."""
        ...

    def stored(self, start: Start) -> tuple[Any, dict[str, Any]]:
        """What a checkpoint has to hold: a pytree of arrays, and facts that JSON can hold."""
        ...

    def restored(self, found: Found) -> Start:
        """The start that was saved."""
        ...

    def broken_by_next(self, start: Start) -> list[str]:
        """The variables that another iteration leaves with values that are not finite."""
        ...

    def steadier(self, start: Start, factor: float) -> tuple[Start, str]:
        """The same start with smaller steps from here on, and what was changed, in words."""
        ...

    def title(self, start: Start) -> str:
        """The method and its numbers, in a few words."""
        ...

    def remarks(self, start: Start) -> list[str]:
        """What is worth saying before it begins."""
        ...

    def described(self, line: Line) -> str:
        """How far it has come, in a few words."""
        ...

    def summary(self, line: Line) -> dict[str, Any]:
        """The numbers to keep of the last iteration's record, which may be empty."""
        ...

    def draw(self, path: Path, lines: list[Line], title: str) -> None:
        """Writes the figure of a run."""
        ...


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
