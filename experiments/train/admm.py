"""``train --algorithm admm``: Algorithm 1 on the full batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import pdadmm_jax as pdadmm
from experiments import build
from experiments.algorithms.admm import ADMM
from experiments.algorithms.loop import Chunk, TrainState
from experiments.train.checkpoints import Found, restore
from experiments.train.trainer import Record, Trainer
from pdadmm_jax.admm.state import Held, join, split
from pdadmm_jax.parallel.mesh import shards, stages

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ADMMTrainer(Trainer):
    """ADMM over all samples at once."""

    library = pdadmm.admm
    algorithm = ADMM
    monitored = "the Lagrangian"

    def checkpoint(self, state: TrainState) -> tuple[Any, dict[str, Any]]:
        """What a checkpoint has to hold: arrays, and facts that JSON can hold.

        Arrays are saved as they lie, every device its own, for a second copy in another order may
        not fit beside a state that just fits.  Their shapes are those of all devices together, and
        the number of stages says which row is which layer, so that any mesh can read them.
        """
        facts = {
            "widths": list(self.layer_widths(state)),
            "layout": self._layout(),
            "rho": float(state.config.rho),
            "seconds": state.seconds,
            "compile_seconds": state.compile_seconds,
        }
        return _stored(state.state), facts

    def restore(self, found: Found) -> TrainState:
        """The state that was saved: bit for bit on the same mesh, resharded on another."""
        facts = found.facts
        config = self.config
        if facts["rho"] != float(config.rho):  # raised on the way
            config = config.replace(rho=facts["rho"])
        state = self._restored(found, tuple(facts["widths"]))
        return TrainState(state, config, facts["seconds"], facts["compile_seconds"])

    def records(self, chunk: Chunk) -> list[Record]:
        """Lagrangian, its terms, residuals and step sizes of every iteration."""
        info, layers = chunk.info, len(self.layer_widths(chunk.end)) - 1
        lines = [
            {
                "iteration": chunk.before + 1 + i,
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
            for i in range(chunk.length)
        ]
        end = chunk.end
        lines[-1] |= {
            "seconds": end.seconds,
            "rho": float(end.config.rho),
            **self.evaluation(chunk),
        }
        if chunk.drift is not None:
            lines[-1]["drift"] = float(chunk.drift.max())
        return lines

    def monitor(self, chunk: Chunk) -> np.ndarray:
        """The augmented Lagrangian."""
        return chunk.info.lagrangian

    def nonfinite_after(self, state: TrainState) -> list[str]:
        """The variables that another iteration leaves with values that are not finite."""
        variables, growth = state.state, self.options.growth
        if state.iteration in growth.at:
            variables = pdadmm.admm.grow(variables, state.config, growth.layers)
        return pdadmm.nonfinite(pdadmm.admm.step(variables, self.splits.solved, state.config)[0])

    def with_smaller_steps(self, state: TrainState, factor: float) -> tuple[TrainState, str]:
        """The same state with a larger rho."""
        rho = factor * float(state.config.rho)
        return state._replace(config=state.config.replace(rho=rho)), f"rho is {rho:g}"

    def remarks(self, state: TrainState) -> list[str]:
        """Where the theory does not reach."""
        found = pdadmm.admm.certificate(state.config)
        if found.holds:
            return []
        return [
            f"note: rho = {float(state.config.rho):g} is not above {float(found.least_rho):g}, so "
            "descent of the Lagrangian is not certified (--method.certified raises rho)"
        ]

    def title(self, config: pdadmm.admm.Config) -> str:
        """The algorithm and its penalties."""
        return f"ADMM, nu = {float(config.nu):g}, rho = {float(config.rho):g}"

    def summary(self, record: Record) -> dict[str, Any]:
        """Lagrangian and squared residual."""
        return {name: record.get(name) for name in ("lagrangian", "residual")}

    def describe(self, record: Record) -> str:
        """Lagrangian and squared residual, in words."""
        lagrangian, residual = (
            float("nan") if value is None else value for value in self.summary(record).values()
        )
        return f"Lagrangian {lagrangian:.4g} residual {residual:.1e}"

    def figure(self, records: list[Record], title: str) -> Figure:
        """The figure of a run: objective, residual, and accuracy or R^2."""
        from experiments.train.figure import admm_figure

        return admm_figure(records, self.splits.samples, title, self.metric)

    def same_layout(self, found: Found) -> bool:
        """Whether a checkpoint comes from the mesh and the message dtype of this run."""
        return found.facts["layout"] == self._layout()

    def _restored(self, found: Found, widths: tuple[int, ...]) -> Any:
        dtype = self.options.mesh.message_dtype
        data = _samples(self.splits)
        if self.same_layout(found):
            shapes, _ = pdadmm.admm.abstract(
                data, widths, self.config, mesh=self.mesh, message_dtype=dtype
            )
            return _state_of(restore(found, _stored(shapes)), shapes)
        saved = found.facts["layout"]
        shapes, _ = pdadmm.admm.abstract(
            data,
            widths,
            self.config,
            mesh=self.mesh or pdadmm.make_mesh(),
            stages=saved["stages"],
            message_dtype=saved["message_dtype"],
        )
        state = _state_of(restore(found, _stored(shapes), resize=True), shapes)
        return pdadmm.admm.reshard(state, self.mesh, message_dtype=dtype)

    def _layout(self) -> dict[str, Any]:
        """What the shapes of a state's arrays depend on, apart from the network."""
        mesh, dtype = self.mesh, self.options.mesh.message_dtype
        if mesh is None:
            return {"stages": 1, "shards": 1, "message_dtype": "full"}
        sent = dtype if stages(mesh) > 1 else "full"  # one stage sends none
        return {"stages": stages(mesh), "shards": shards(mesh), "message_dtype": sent}


def _stored(state: pdadmm.admm.State | pdadmm.admm.ShardedState) -> dict[str, Any]:
    """The arrays of a state by names that do not depend on where it lives."""
    return {**split(state)._asdict(), "iteration": state.iteration}


def _state_of(stored: dict[str, Any], like: Any) -> Any:
    """The state that was stored, of the same kind as another."""
    held = Held(stored["variables"], stored["messages"])
    return join(held, like, stored["iteration"])


def _samples(splits: build.Splits) -> pdadmm.Data:
    """The shapes of the training samples, without those that fill up shards."""
    x, y, _ = splits.solved
    shapes: Any = [
        jax.ShapeDtypeStruct((splits.samples, *rows.shape[1:]), rows.dtype) for rows in (x, y)
    ]
    return pdadmm.Data(*shapes)
