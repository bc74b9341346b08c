"""pdADMM on the full batch, as a way of training: chunks of iterations, each one evaluated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import pdadmm_jax as pdadmm
from experiments import build
from experiments.report import plotting as plots
from experiments.train.algorithm import Chunk, Line, Mode, Programs, Start, evaluation, next_end
from experiments.train.checkpoints import Found, restore
from pdadmm_jax.parallel.mesh import shards, stages


class FullBatch(Mode):
    """pdADMM over all samples at once; ``hyper`` are ``Hyperparameters``."""

    watched = "the Lagrangian"

    def first(self) -> Start:
        """The start from random weights."""
        state = pdadmm.init(
            jax.random.key(self.config.seed),
            self.splits.solved,
            self.widths,
            self.hyper,
            build.INITIALIZERS[self.config.network.initializer],
            mesh=self.mesh,
            wire=self.config.mesh.wire,
        )
        return Start(state, self.hyper)

    def train(self, start: Start, iterations: int) -> Iterator[Chunk]:
        """Runs up to iteration number ``iterations``."""
        return train(
            start,
            self.splits,
            iterations=iterations,
            evaluate_every=self.config.evaluate_every,
            refresh_every=self.config.refresh_every,
            grow_at=self.config.growth.at,
            grow_by=self.config.growth.layers,
        )

    def stored(self, start: Start) -> tuple[Any, dict[str, Any]]:
        """What a checkpoint has to hold: arrays, and facts that JSON can hold.

        Arrays are saved as they lie, every device its own, for a second copy in another order may
        not fit beside a state that just fits.  Their shapes are those of all devices together, and
        the number of stages says which row is which layer, so that any mesh can read them.
        """
        facts = {
            "widths": list(pdadmm.widths(start.state)),
            "laid_out": self._layout(),
            "rho": float(start.hyper.rho),
            "seconds": start.seconds,
            "compile_seconds": start.compile_seconds,
        }
        return start.state, facts

    def restored(self, found: Found) -> Start:
        """The start that was saved: bit for bit on the mesh of then, dealt out anew on another."""
        facts = found.facts
        hyper = self.hyper
        if facts["rho"] != float(hyper.rho):  # raised on the way
            hyper = hyper.replace(rho=facts["rho"])
        state = self._state(found, tuple(facts["widths"]))
        return Start(state, hyper, facts["seconds"], facts["compile_seconds"])

    def broken_by_next(self, start: Start) -> list[str]:
        """The variables that another iteration leaves with values that are not finite."""
        state = start.state
        if start.iteration in self.config.growth.at:
            state = pdadmm.grow(state, start.hyper, self.config.growth.layers)
        return pdadmm.nonfinite(pdadmm.step(state, self.splits.solved, start.hyper)[0])

    def steadier(self, start: Start, factor: float) -> tuple[Start, str]:
        """The same start with a larger rho, and that said."""
        rho = factor * float(start.hyper.rho)
        return start._replace(hyper=start.hyper.replace(rho=rho)), f"rho is {rho:g}"

    def remarks(self, start: Start) -> list[str]:
        """Where the theory does not reach."""
        found = pdadmm.certificate_of(start.hyper)
        if found.holds:
            return []
        return [
            f"note: rho = {float(start.hyper.rho):g} is not above {float(found.least_rho):g}, so "
            "that the Lagrangian is not certain to fall (--method.certified raises rho)"
        ]

    @staticmethod
    def title(hyper: pdadmm.Hyperparameters) -> str:
        """The method and its penalties."""
        return f"pdADMM, nu = {float(hyper.nu):g}, rho = {float(hyper.rho):g}"

    @staticmethod
    def described(line: Line) -> str:
        """Lagrangian and squared residual."""
        lagrangian, residual = (
            float("nan") if line[name] is None else line[name]
            for name in ("lagrangian", "residual")
        )
        return f"Lagrangian {lagrangian:.4g} residual {residual:.1e}"

    @staticmethod
    def summary(line: Line) -> dict[str, Any]:
        """Lagrangian and squared residual."""
        return {name: line.get(name) for name in ("lagrangian", "residual")}

    def draw(self, path: Path, lines: list[Line], title: str) -> None:
        """Writes the figure of a run: objective, residual and accuracy."""
        plots.training_figure(path, lines, self.splits.samples, title)

    def same_layout(self, found: Found) -> bool:
        """Whether a checkpoint comes from the mesh and the messages of this run."""
        return found.facts["laid_out"] == self._layout()

    def _state(self, found: Found, widths: tuple[int, ...]) -> pdadmm.State:
        wire = self.config.mesh.wire
        data = _samples(self.splits)
        if self.same_layout(found):
            shapes, _ = pdadmm.abstract(data, widths, self.hyper, self.mesh, wire=wire)
            return restore(found, shapes)
        mesh = self.mesh or pdadmm.make_mesh(devices=jax.devices()[:1])
        then = found.facts["laid_out"]
        shapes = pdadmm.abstract_elsewhere(
            data, widths, self.hyper, mesh, stages=then["stages"], wire=then["wire"]
        )
        state = restore(found, shapes, resize=True)
        return pdadmm.moved(state, self.mesh, self.splits.samples, wire)

    def _layout(self) -> dict[str, Any]:
        """What the shapes of a state's arrays depend on, apart from the network."""
        mesh, wire = self.mesh, self.config.mesh.wire
        if mesh is None:
            return {"stages": 1, "shards": 1, "wire": "full"}
        sent = wire if stages(mesh) > 1 else "full"  # one stage sends none
        return {"stages": stages(mesh), "shards": shards(mesh), "wire": sent}


def _samples(splits: build.Splits) -> pdadmm.Data:
    """The shapes of the training samples, without those that fill up shards."""
    x, y, _ = splits.solved
    shapes: Any = [
        jax.ShapeDtypeStruct((splits.samples, *rows.shape[1:]), rows.dtype) for rows in (x, y)
    ]
    return pdadmm.Data(*shapes)


def train(
    start: Start,
    splits: build.Splits,
    *,
    iterations: int,
    evaluate_every: int,
    refresh_every: int,
    grow_at: tuple[int, ...] = (),
    grow_by: int = 0,
) -> Iterator[Chunk]:
    """Runs the iterations, yielding after every evaluation.

    Args:
        start: where to start; its state is used up.
        splits: data.
        iterations: number of the last one.
        evaluate_every: iterations between two evaluations.
        refresh_every: iterations after which the next evaluation computes p W + b anew.
        grow_at: iterations after which the network grows.
        grow_by: layers inserted each time.
    """
    run = jax.jit(pdadmm.run, static_argnames="iterations", donate_argnames="state")
    refresh = jax.jit(pdadmm.refresh, donate_argnames="state")
    state, hyper, seconds, compile_seconds = start
    data, programs, done = splits.solved, Programs(compile_seconds), start.iteration
    while done < iterations:
        growths = [at for at in grow_at if at > done]
        stop = min([next_end(done, evaluate_every, iterations), *growths])
        if done in grow_at:
            state = pdadmm.grow(state, hyper, grow_by)
            programs.forget()
        iterate = programs.ready(stop - done, run, state, data, hyper, iterations=stop - done)
        anew = None
        if done // refresh_every < stop // refresh_every:
            anew = programs.ready("refresh", refresh, state, data, hyper)

        begin = time.perf_counter()
        state, info = iterate(state, data, hyper)
        drift = None
        if anew is not None:
            state, drift = anew(state, data, hyper)
        jax.block_until_ready((state, info))
        seconds += time.perf_counter() - begin
        done = stop

        end = Start(state, hyper, seconds, programs.seconds)
        yield chunk_of(end, info, drift, splits)


def chunk_of(end: Start, info: pdadmm.Info, drift: Any, splits: build.Splits) -> Chunk:
    """What the iterations up to here did, the state after them evaluated.

    Args:
        end: the start after them.
        info: their reports, leading axis (iterations,).
        drift: relative errors that p W + b had, if it was computed anew.
        splits: data.
    """
    info = jax.tree.map(np.asarray, info)
    length, layers = len(info.finite), len(pdadmm.widths(end.weights)) - 1
    lines = [
        {
            "iteration": end.iteration - length + 1 + i,
            "layers": layers,
            "lagrangian": float(info.lagrangian[i]),
            "objective": float(info.terms.objective[i]),
            **{name: float(values[i]) for name, values in info.terms._asdict().items()},
            "residual": float(np.sum(np.square(info.primal_residual[i], dtype=np.float64))),
            "residual_per_boundary": [float(r) for r in info.primal_residual[i]],
            "largest_tau": float(info.tau[i].max()),
            "largest_theta": float(info.theta[i].max()),
            "finite": bool(info.finite[i]),
            "converged": bool(info.converged[i].all()),
            "in_certified_region": bool(info.in_certified_region[i]),
        }
        for i in range(length)
    ]
    lines[-1] |= {"seconds": end.seconds, "rho": float(end.hyper.rho), **evaluation(end, splits)}
    if drift is not None:
        lines[-1]["drift"] = float(drift.max())
    return Chunk(end, lines, np.asarray(info.finite), np.asarray(info.lagrangian))
