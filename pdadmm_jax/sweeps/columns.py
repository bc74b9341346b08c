"""What samples leave in the layers of a stage, as buffers keep it: layer by layer, or side by side.

Stages that hold arrays of the same shapes keep it layer by layer, the others side by side
(``parallel.packing``).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from pdadmm_jax._typing import Array, Float
from pdadmm_jax.parallel.forward import Saved
from pdadmm_jax.parallel.groups import LayerGroups
from pdadmm_jax.parallel.packing import apart, side_by_side, widest
from pdadmm_jax.parallel.stage import Stage


def kept_saved(stage: Stage, saved: LayerGroups) -> LayerGroups | Saved:
    """What layers have saved on the way up, as it is kept."""
    plan = stage.plan
    if plan.alike:
        return saved
    edge, p = saved.edge, [one.p for one in saved.stacks]
    p = side_by_side([edge.a[..., :0], *p], widest(plan.stacks, plan.n_in))
    return Saved(p, _outputs_joined(stage, edge.a, [one.a for one in saved.stacks]))


def saved_apart(stage: Stage, saved: LayerGroups | Saved) -> LayerGroups:
    """``kept_saved``, reversed."""
    if isinstance(saved, LayerGroups):
        return saved
    plan = stage.plan
    assert saved.p is not None
    p = apart(saved.p, list(map(plan.n_in, plan.stacks[stage.known_index])))
    first, a = _outputs_apart(stage, saved.a)
    return LayerGroups(None, tuple(map(Saved, p, a)), Saved(None, first), None)


def kept_r(stage: Stage, r: LayerGroups) -> LayerGroups | Float[Array, "1 rows _columns"]:
    """nu (z - a) of all layers but the last, as it is kept."""
    if stage.plan.alike:
        return r._replace(last=None)
    return _outputs_joined(stage, r.first, r.stacks)


def r_apart(stage: Stage, r: Float[Array, "1 rows _columns"]) -> LayerGroups:
    """``kept_r``, reversed."""
    first, stacks = _outputs_apart(stage, r)
    return LayerGroups(first, tuple(stacks), None, None)


def _outputs_joined(stage: Stage, first: Array, stacks: Sequence[Array]) -> Array:
    """Arrays of the first layer, if the stage holds it, and of its hidden ones, side by side."""
    plan = stage.plan
    held = first if stage.holds_first else first[..., :0]
    return side_by_side([held, *stacks], widest(plan.lower, plan.n_out))


def _outputs_apart(stage: Stage, rows: Array) -> tuple[Array, list[Array]]:
    """The same, reversed; zeros for the first layer if the stage does not hold it."""
    plan = stage.plan
    found = apart(rows, list(map(plan.n_out, plan.lower[stage.known_index])))
    if stage.holds_first:
        return found[0], found[1:]
    return jnp.zeros((*rows.shape[:-1], plan.n_out(1)), rows.dtype), found
