"""What the program around a call has set for its own computations, and what of it holds within."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh

P = ParamSpec("P")
R = TypeVar("R")


def isolated(function: Callable[P, R]) -> Callable[P, R]:
    """Has a function of the library work alike in all surroundings.

    Programs here bring their own mesh, so the one of ``jax.set_mesh`` is left; they broadcast from
    lower ranks whether or not ``jax_numpy_rank_promotion`` lets others do so; and the devices that
    share a program hand each other its small inputs, whatever ``jax.transfer_guard`` says.  What
    comes from the host's memory at each call, such as data that are NumPy arrays, it still guards.
    """

    @functools.wraps(function)
    def within(*args: P.args, **kwargs: P.kwargs) -> R:
        with _own_settings():
            return function(*args, **kwargs)

    return within


def isolated_with_transfers(function: Callable[P, R]) -> Callable[P, R]:
    """The same for what makes or moves a state, which ``jax.transfer_guard`` may not forbid."""

    @isolated
    @functools.wraps(function)
    def within(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.transfer_guard("allow"):
            return function(*args, **kwargs)

    return within


def nan_for_no_samples(expected: bool) -> AbstractContextManager[Any]:
    """Has ``jax_debug_nans`` pass a report of which some entries are NaN for want of samples."""
    return jax.debug_nans(False) if expected else contextlib.nullcontext()


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    with (
        jax.numpy_rank_promotion("allow"),
        jax.transfer_guard_device_to_device("allow"),
        _outside_of_meshes(),
    ):
        yield


def _outside_of_meshes() -> AbstractContextManager[Any]:
    """Leaves the mesh that the program has set, unless this is a part of its own ``shard_map``."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or AxisType.Manual in mesh.axis_types:
        return contextlib.nullcontext()
    try:
        return jax.set_mesh(Mesh(np.empty((), object), ()))
    except ValueError:  # while the program is traced there are no devices to leave
        return jax.sharding.use_abstract_mesh(AbstractMesh((), ()))
