"""What sweeps keep from pass to pass."""

from __future__ import annotations

from typing import Any, NamedTuple

from pdadmm_jax import _checks
from pdadmm_jax._typing import Array, Int
from pdadmm_jax.parallel.placement import Placement
from pdadmm_jax.parallel.plan import Plan
from pdadmm_jax.sweeps.pipeline import InFlight
from pdadmm_jax.sweeps.stream import Stream


class State(NamedTuple):
    """Weights and the rule's state: nothing that grows with N.

    Attributes:
        weights: W and b of all layers: ``LayerGroups``, or ``Packed`` on stages of unequal layers.
        rule_state: what the update rule keeps, likewise for every group of layers; of an Optax
            optimizer that couples layers, its own state.
        iteration: how many passes were done.
        stream: how batches stream; part of the structure.
        in_flight: blocks between the stages, where the schedule does not wait for them; else None.
        placement: where the state lives; None for a single device.
    """

    weights: Any
    rule_state: Any
    iteration: Int[Array, ""]
    stream: Stream
    in_flight: InFlight | None = None
    placement: Placement | None = None

    @property
    def plan(self) -> Plan:
        """Which stage holds which layers."""
        return self.weights.plan if self.placement is None else self.placement.plan


def check_state(state: Any, function: str) -> None:
    """Refuses what is not a state of sweeps, or one batched by ``jax.vmap``."""
    _checks.check_state(state, (State,), "sweeps", "admm", function)
