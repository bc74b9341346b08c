"""Where a state lives: the mesh, the plan, and the type of the messages."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from pdadmm_jax.parallel.compression import MessageType
from pdadmm_jax.parallel.plan import Plan


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Placement:
    """Carried by every state that lives on a mesh, as part of its structure.

    Attributes:
        mesh: devices, with axes ``layer`` and ``data``.
        plan: which layers each stage of the ``layer`` axis holds.
        samples: how many samples there are; rows beyond make up an even number.  0 for states that
            hold no samples.
        message_dtype: type of the messages between stages.
    """

    mesh: Mesh
    plan: Plan
    samples: int
    message_dtype: MessageType

    def __deepcopy__(self, memo: Any) -> Placement:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            f"a state on the mesh {dict(self.mesh.shape)} cannot be pickled, for devices belong "
            "to this process: pickle reshard(state, None), and reshard(state, mesh) after that."
        )
