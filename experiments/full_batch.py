"""Training on the full batch, as a way of training that can be saved and continued."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

import pdadmm_jax as pdadmm
from experiments import build
from experiments.checkpoints import Found, restore
from experiments.config import TrainConfig
from experiments.training import Chunk, Start, train


@dataclass(frozen=True)
class FullBatch:
    """pdADMM over all samples at once.

    Attributes:
        config: what was asked for.
        splits: data.
        widths: of the network that training begins with.
        hyper: hyperparameters that it begins with.
        mesh: devices; None for a single one.
    """

    config: TrainConfig
    splits: build.Splits
    widths: tuple[int, ...]
    hyper: pdadmm.Hyperparameters
    mesh: Mesh | None

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
        axes = self.mesh.shape if self.mesh else {}
        stages, shards = axes.get("layer", 1), axes.get("data", 1)
        wire = self.config.mesh.wire if stages > 1 else "full"  # one stage sends none
        return {"stages": stages, "shards": shards, "wire": wire}


def _samples(splits: build.Splits) -> pdadmm.Data:
    """The shapes of the training samples, without those that fill up shards."""
    x, y, _ = splits.solved
    shapes: Any = [
        jax.ShapeDtypeStruct((splits.samples, *rows.shape[1:]), rows.dtype) for rows in (x, y)
    ]
    return pdadmm.Data(*shapes)
