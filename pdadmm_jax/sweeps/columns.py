"""What samples leave in the layers of a stage, as its buffers keep it.

Stages that are alike keep it in groups of layers, the others padded (``parallel.packing``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from pdadmm_jax._typing import Array
from pdadmm_jax.parallel.forward import Saved
from pdadmm_jax.parallel.groups import LayerGroups
from pdadmm_jax.parallel.packing import Rows, fit, padded, widest
from pdadmm_jax.parallel.stage import Stage


class PaddedSaved(NamedTuple):
    """p of the hidden layers of a stage, and a of all its layers but the network's last."""

    p: Rows
    a: Rows


def kept_saved(stage: Stage, saved: LayerGroups) -> LayerGroups | PaddedSaved:
    """What layers have saved on the way up, as it is kept."""
    plan = stage.plan
    if plan.alike:
        return saved
    a, p = [one.a for one in saved.stacks], [one.p for one in saved.stacks]
    inputs = padded(p, widest(plan.stacks, plan.n_in), saved.edge.a)
    return PaddedSaved(inputs, _outputs_padded(stage, saved.edge.a, a))


def saved_apart(stage: Stage, saved: LayerGroups | PaddedSaved) -> LayerGroups:
    """``kept_saved``, reversed."""
    if isinstance(saved, LayerGroups):
        return saved
    plan = stage.plan
    p = map(fit, saved.p, map(plan.n_in, plan.stacks[stage.known_index]))
    first, a = _outputs_apart(stage, saved.a)
    return LayerGroups(None, tuple(map(Saved, p, a)), Saved(None, first), None)


def kept_r(stage: Stage, r: LayerGroups) -> LayerGroups | Rows:
    """nu (z - a) of all layers but the last, as it is kept."""
    if stage.plan.alike:
        return r._replace(last=None)
    return _outputs_padded(stage, r.first, r.stacks)


def r_apart(stage: Stage, r: Rows) -> LayerGroups:
    """``kept_r``, reversed."""
    first, stacks = _outputs_apart(stage, r)
    return LayerGroups(first, tuple(stacks), None, None)


def _outputs_padded(stage: Stage, first: Array, stacks: Sequence[Array]) -> Rows:
    """Arrays of the first layer, if the stage holds it, and of its hidden ones."""
    plan = stage.plan
    held = [first] * bool(stage.holds_first)
    return padded([*held, *stacks], widest(plan.lower, plan.n_out), first)


def _outputs_apart(stage: Stage, rows: Rows) -> tuple[Array, list[Array]]:
    """The same, reversed; zeros for the first layer if the stage does not hold it."""
    plan = stage.plan
    found = list(map(fit, rows, map(plan.n_out, plan.lower[stage.known_index])))
    if stage.holds_first:
        return found[0], found[1:]
    return jnp.zeros((*rows[0].shape[:-1], plan.n_out(1)), rows[0].dtype), found
