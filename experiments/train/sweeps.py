"""``train --algorithm sweeps``: the recommended recipe; an iteration is a pass over the samples."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import pdadmm_jax as pdadmm
from experiments.algorithms.loop import Chunk, TrainState
from experiments.algorithms.sweeps import SWEEPS
from experiments.train.checkpoints import Found, holds, restore
from experiments.train.trainer import Record, Trainer
from pdadmm_jax.parallel.mesh import stages
from pdadmm_jax.sweeps.rules import RateRule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class SweepsTrainer(Trainer):
    """Sweeps over all samples or over batches."""

    library = pdadmm.sweeps
    algorithm = SWEEPS
    monitored = "the loss"

    def checkpoint(self, state: TrainState) -> tuple[Any, dict[str, Any]]:
        """What a checkpoint has to hold: arrays as they lie, and facts that JSON can hold."""
        facts = {
            "stages": self._stages(),
            **_numbers(state.config),
            "seconds": state.seconds,
            "compile_seconds": state.compile_seconds,
        }
        return state.state, facts

    def restore(self, found: Found) -> TrainState:
        """The state that was saved: as it lay on as many stages, else resharded.

        On other stages, or where batches are split otherwise now, the pipeline begins empty.
        """
        facts = found.facts
        config = _with_numbers(self.config, facts)
        sent = self.options.mesh.message_dtype
        abstract = partial(
            pdadmm.sweeps.abstract, self.splits.solved, self.widths, config, message_dtype=sent
        )
        if facts["stages"] == self._stages():
            shapes = abstract(mesh=self.mesh)[0]
        else:
            shapes = abstract(mesh=self.mesh or pdadmm.make_mesh(), stages=facts["stages"])[0]
        if facts["stages"] == self._stages() and holds(found, shapes):
            state = restore(found, shapes)
        else:
            state = restore(found, shapes._replace(in_flight=None), without="in_flight")
            state = pdadmm.sweeps.reshard(state, self.mesh, message_dtype=sent)
        return TrainState(state, config, facts["seconds"], facts["compile_seconds"])

    def records(self, chunk: Chunk) -> list[Record]:
        """The mean loss of every pass."""
        loss = _mean_losses(chunk)
        lines = [
            {
                "iteration": chunk.before + 1 + i,
                "layers": len(self.widths) - 1,
                "loss": float(loss[i]),
                "finite": bool(chunk.info.finite[i]),
                "converged": bool(chunk.info.converged[i].all()),
            }
            for i in range(chunk.length)
        ]
        end = chunk.end
        lines[-1] |= {"seconds": end.seconds, **_numbers(end.config), **self.evaluation(chunk)}
        return lines

    def monitor(self, chunk: Chunk) -> np.ndarray:
        """The loss of every pass."""
        loss = _mean_losses(chunk)
        if not chunk.before:  # where the first pass began: what follows may be a rise
            known = ~np.isnan(chunk.info.loss[0])
            loss[0] = chunk.info.loss[0, np.argmax(known)]
        return loss

    def nonfinite_after(self, state: TrainState) -> list[str]:
        """The weights that another pass leaves with values that are not finite."""
        key = jax.random.key(self.options.seed)
        passed, _ = SWEEPS.run(state.state, self.splits.solved, state.config, key, 1)
        return pdadmm.nonfinite(passed)

    def with_smaller_steps(self, state: TrainState, factor: float) -> tuple[TrainState, str]:
        """The same state with a larger nu, or a smaller learning rate."""
        numbers = _numbers(state.config)
        name, by = ("rate", 1 / factor) if "rate" in numbers else ("nu", factor)
        numbers[name] *= by
        config = _with_numbers(state.config, numbers)
        return state._replace(config=config), f"{name} is {numbers[name]:g}"

    def title(self, config: pdadmm.sweeps.Config) -> str:
        """The algorithm and its numbers."""
        numbers = ", ".join(f"{name} = {value:g}" for name, value in _numbers(config).items())
        samples = "all samples" if config.batch is None else f"batches of {config.batch}"
        schedule = f", {config.schedule.replace('_', ' ')}" if self._stages() > 1 else ""
        rule, passes = type(config.rule).__name__, self.options.sweeps.cosine
        total = passes or self.options.iterations
        falling = "" if passes is None else f", falling over {total} passes"
        return f"sweeps over {samples}{schedule}, {rule}, {numbers}{falling}"

    def summary(self, record: Record) -> dict[str, Any]:
        """The loss of the last pass."""
        return {"loss": record.get("loss")}

    def figure(self, records: list[Record], title: str) -> Figure:
        """The figure of a run: loss, and accuracy or R^2."""
        from experiments.train.figure import sweeps_figure

        return sweeps_figure(records, title, self.metric)

    def _stages(self) -> int:
        return stages(self.mesh) if self.mesh else 1


def _mean_losses(chunk: Chunk) -> np.ndarray:
    """Of every pass, over the batches that came to the last layer; NaN if none did or one broke."""
    loss, finite = np.asarray(chunk.info.loss), np.asarray(chunk.info.finite)
    known = ~np.isnan(loss)
    total = np.where(known, loss, 0).sum(1)
    mean = total / np.where(known.any(1), known.sum(1), np.nan)
    return np.where(finite, mean, loss.mean(1))


def _numbers(config: pdadmm.sweeps.Config) -> dict[str, float]:
    """What sets the length of the steps."""
    rule = config.rule
    rate = {"rate": float(rule.rate)} if isinstance(rule, RateRule) else {}
    return {"nu": float(config.nu), **rate}


def _with_numbers(config: pdadmm.sweeps.Config, numbers: dict[str, float]) -> pdadmm.sweeps.Config:
    """The same with these numbers."""
    rule = config.rule
    if isinstance(rule, RateRule):
        rule = dataclasses.replace(rule, rate=numbers["rate"])
    return config.replace(nu=numbers["nu"], rule=rule)
