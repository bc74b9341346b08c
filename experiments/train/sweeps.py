"""Synchronised sweeps as a way of training: an iteration is a pass over the samples."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax

import pdadmm_jax as pdadmm
from experiments import build
from experiments.report import plotting as plots
from experiments.train.algorithm import Chunk, Line, Mode, Programs, Start, evaluation, next_end
from experiments.train.checkpoints import Found, restore
from pdadmm_jax.parallel.mesh import stages


class Sweeping(Mode):
    """The recommended recipe; ``hyper`` are ``Sweeps``, the loss is that of samples going up."""

    watched = "the loss"

    def first(self) -> Start:
        """The start from random weights."""
        data = self.splits.solved
        initializer = build.INITIALIZERS[self.config.network.initializer]
        key = jax.random.key(self.config.seed)
        params = pdadmm.random_params(key, self.widths, initializer, data.x.dtype)
        wire = self.config.mesh.wire
        state = pdadmm.init_sweeps(params, data, self.hyper, mesh=self.mesh, wire=wire)
        return Start(state, self.hyper)

    def train(self, start: Start, iterations: int) -> Iterator[Chunk]:
        """Runs up to pass number ``iterations``, with an evaluation after each chunk.

        The order of the samples follows from the seed and the number of the pass, so that a run
        that goes on sees them as it would have without the pause.
        """
        run = jax.jit(
            partial(passes, seed=self.config.seed),
            static_argnames="number",
            donate_argnames="state",
        )
        state, hyper, seconds, compile_seconds = start
        data, programs, done = self.splits.solved, Programs(compile_seconds), start.iteration
        while done < iterations:
            number = next_end(done, self.config.evaluate_every, iterations) - done
            sweep = programs.ready(number, run, state, data, hyper, number=number)
            begin = time.perf_counter()
            state, info = jax.block_until_ready(sweep(state, data, hyper))
            seconds += time.perf_counter() - begin
            done += number
            yield self._chunk(Start(state, hyper, seconds, programs.seconds), info)

    def stored(self, start: Start) -> tuple[Any, dict[str, Any]]:
        """What a checkpoint has to hold: arrays as they lie, and facts that JSON can hold."""
        facts = {
            "stages": self._stages(),
            **_numbers(start.hyper),
            "seconds": start.seconds,
            "compile_seconds": start.compile_seconds,
        }
        return start.state, facts

    def restored(self, found: Found) -> Start:
        """The start that was saved: as it lay on as many stages, else dealt out anew."""
        facts = found.facts
        hyper = _with_numbers(self.hyper, facts)
        dtype, wire = self.splits.solved.x.dtype, self.config.mesh.wire
        shapes = partial(pdadmm.abstract_sweeps, self.widths, hyper, dtype, wire=wire)
        if facts["stages"] == self._stages():
            state = restore(found, shapes(self.mesh))
        else:
            mesh = self.mesh or pdadmm.make_mesh(devices=jax.devices()[:1])
            state = restore(found, shapes(mesh, stages=facts["stages"]))
            state = pdadmm.moved_sweeps(state, self.mesh, wire)
        return Start(state, hyper, facts["seconds"], facts["compile_seconds"])

    def broken_by_next(self, start: Start) -> list[str]:
        """The weights that another pass leaves with values that are not finite."""
        state, _ = passes(start.state, self.splits.solved, start.hyper, 1, seed=self.config.seed)
        return pdadmm.nonfinite(state.weights)

    def steadier(self, start: Start, factor: float) -> tuple[Start, str]:
        """The same start with shorter steps: by a larger nu, or by a smaller learning rate."""
        numbers = _numbers(start.hyper)
        name, by = ("rate", 1 / factor) if "rate" in numbers else ("nu", factor)
        numbers[name] *= by
        hyper = _with_numbers(start.hyper, numbers)
        return start._replace(hyper=hyper), f"{name} is {numbers[name]:g}"

    @staticmethod
    def title(hyper: pdadmm.Sweeps) -> str:
        """The method and its numbers."""
        numbers = ", ".join(f"{name} = {value:g}" for name, value in _numbers(hyper).items())
        samples = "all samples" if hyper.batch is None else f"batches of {hyper.batch}"
        return f"sweeps over {samples}, {numbers}"

    @staticmethod
    def described(line: Line) -> str:
        """The loss of the last pass."""
        return f"loss {float('nan') if line['loss'] is None else line['loss']:.4g}"

    @staticmethod
    def summary(line: Line) -> dict[str, Any]:
        """The loss of the last pass."""
        return {"loss": line.get("loss")}

    def draw(self, path: Path, lines: list[Line], title: str) -> None:
        """Writes the figure of a run: loss and accuracy."""
        plots.sweeps_figure(path, lines, title)

    def _chunk(self, end: Start, info: pdadmm.SweepInfo) -> Chunk:
        """What the passes up to here did, the weights after them evaluated."""
        info = jax.tree.map(np.asarray, info)
        number, loss = len(info.finite), np.mean(info.loss, 1)
        lines = [
            {
                "iteration": end.iteration - number + 1 + i,
                "layers": len(self.widths) - 1,
                "loss": float(loss[i]),
                "finite": bool(info.finite[i]),
                "converged": bool(info.solved[i].all()),
            }
            for i in range(number)
        ]
        lines[-1] |= {"seconds": end.seconds, **_numbers(end.hyper), **evaluation(end, self.splits)}
        if end.iteration == number:  # where the first pass began: what follows may be a rise
            loss[0] = info.loss[0, 0]
        return Chunk(end, lines, np.asarray(info.finite), loss)

    def _stages(self) -> int:
        return stages(self.mesh) if self.mesh else 1


def passes(
    state: pdadmm.SweepState, data: pdadmm.Data, hyper: pdadmm.Sweeps, number: int, *, seed: int
) -> tuple[pdadmm.SweepState, pdadmm.SweepInfo]:
    """Some passes over the samples, each in an order of its own; reports are stacked."""

    def one_pass(state: pdadmm.SweepState, _: None) -> Any:
        order = jax.random.fold_in(jax.random.key(seed), state.iteration)
        return pdadmm.sweep(state, data, hyper, None if hyper.batch is None else order)

    return lax.scan(one_pass, state, length=number)


def _numbers(hyper: pdadmm.Sweeps) -> dict[str, float]:
    """What sets the length of the steps."""
    rule = hyper.rule
    rate = {"rate": float(rule.rate)} if isinstance(rule, pdadmm.Follow) else {}
    return {"nu": float(hyper.nu), **rate}


def _with_numbers(hyper: pdadmm.Sweeps, numbers: dict[str, float]) -> pdadmm.Sweeps:
    """The same with these numbers."""
    rule = hyper.rule
    if isinstance(rule, pdadmm.Follow):
        rule = dataclasses.replace(rule, rate=numbers["rate"])
    return hyper.replace(nu=numbers["nu"], rule=rule)
