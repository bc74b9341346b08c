"""What is to be learnt, whichever the algorithm: activation, residual connections, loss, precision
of products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from pdadmm_jax._checks import check_count, is_concrete, look_up
from pdadmm_jax._typing import Array
from pdadmm_jax.numerics.products import PRECISIONS, Precision
from pdadmm_jax.problems.activations import ACTIVATIONS, Activation
from pdadmm_jax.problems.losses import LOSSES, Loss

C = TypeVar("C")

# What a configuration takes; once it is made, the object stands in the place of its name.
ActivationLike = Any  # an Activation, or the name of one
LossLike = Any  # a Loss, or the name of one


@runtime_checkable
class Problem(Protocol):
    """What every configuration says of the problem."""

    @property
    def activation(self) -> Activation: ...

    @property
    def loss(self) -> Loss: ...

    @property
    def precision(self) -> Precision: ...

    @property
    def residual_block(self) -> int: ...


def check_problem(config: Any) -> None:
    """Refuses what says nothing of the problem.

    Raises:
        TypeError: it is no configuration.
    """
    if not isinstance(config, Problem):
        raise TypeError(
            f"config is a {type(config).__name__}, but has to be an admm.Config or sweeps.Config."
        )


def resolve_problem(config: Any) -> None:
    """Puts objects in the place of names in a frozen configuration, and checks its precision.

    Raises:
        ValueError: a name that is not known, or an object of another kind.
    """
    resolve(config, "activation", Activation, ACTIVATIONS)
    resolve(config, "loss", Loss, LOSSES)
    look_up("precision", config.precision, dict.fromkeys(PRECISIONS))
    check_count("residual_block", config.residual_block, least=0)


def resolve(config: Any, field: str, kind: type, known: Mapping[str, Any]) -> None:
    """Puts the object of this name into a field of a frozen configuration.

    Args:
        config: the configuration.
        field: which of its fields.
        kind: protocol that the object has to fulfil.
        known: objects by name.

    Raises:
        ValueError: a name that is not known, or an object of another kind, such as a class.
    """
    object.__setattr__(config, field, resolved(field, getattr(config, field), kind, known))


def resolved(field: str, value: Any, kind: type, known: Mapping[str, Any]) -> Any:
    """The object that a value is, or is the name of; see ``resolve``."""
    if isinstance(value, str):
        return look_up(field, value, known)
    if isinstance(value, type) or not isinstance(value, kind):
        raise ValueError(
            f"{field} is {value!r}, but has to be one of the names {', '.join(known)}, or an "
            f"object of the kind {kind.__name__}."
        )
    return value


def check_residual_block(residual_block: int, widths: Sequence[int]) -> None:
    """Refuses what is no number of layers, and residual connections that change the width.

    Raises:
        ValueError: no such number, or hidden layers of unequal widths.
    """
    check_count("residual_block", residual_block, least=0)
    first, *others = widths[1:-1]
    for index, width in enumerate(others, start=2):
        if residual_block and width != first:
            raise ValueError(
                f"residual_block is {residual_block}, but widths[{index}] is {width} and "
                f"widths[1] is {first}: residual connections need equal hidden widths."
            )


def check_representable(config: Problem, dtype: Any) -> None:
    """Refuses numbers that the state's dtype would round to zero or infinity."""
    limits = jnp.finfo(dtype)
    low, high = float(limits.tiny), float(limits.max)
    for path, value in jax.tree.leaves_with_path(config):
        if not is_concrete(value):
            continue
        sizes = np.abs(np.asarray(value, np.float64))
        if ((sizes != 0) & ((sizes < low) | (sizes > high))).any():
            name = ".".join(key.name for key in path)
            raise ValueError(
                f"{name} is {value}, but {jnp.dtype(dtype)} reaches from {low:.2g} to {high:.2g}: "
                "choose a number inside, or double precision."
            )


def at_precision_of(config: C, dtype: Any) -> C:
    """The same configuration, its numbers as arrays of the state's dtype."""

    def on_device(number: Any) -> Array:
        if isinstance(number, jax.Array):
            return jnp.asarray(number, dtype)
        return jax.device_put(np.asarray(number, dtype))  # not an implicit transfer, to be guarded

    return jax.tree.map(on_device, config)
