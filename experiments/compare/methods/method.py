"""What a way to train is: pure functions of a state of its own, and one number to tune."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pdadmm_jax as pdadmm
from experiments.compare.methods.variables import Layers
from pdadmm_jax._typing import Array, PRNGKeyArray

Carry = Any  # a method's state, a pytree


@dataclass(frozen=True)
class Method:
    """A way to train a network; all that begin with as many layers begin with the same weights.

    Attributes:
        title: its name in tables and figures.
        number: what its one number is: a learning rate, or the penalty nu = rho.
        candidates: values of the number that tuning tries, ascending.
        published: the value that the pdADMM paper used, if it had the method.
        start: (weights, key, data, hyper, number) -> state.
        advance: (state, data, hyper, number, passes) -> state after so many passes over the
            training samples; ``passes`` is static.
        params: state -> weights.
        grow: (state, hyper, number, layers) -> state with so many layers more, for methods that
            can.
        variables: (state, data, hyper, number) -> the variables of an ADMM as its weights see them
            when they learn, for methods that have any.
        hops: (boundaries between layers, samples) -> how many hops between neighbouring layers
            have to wait for one another in a pass, if every layer were on a device of its own.
    """

    title: str
    number: str
    candidates: tuple[float, ...]
    published: float | None
    start: Callable[
        [pdadmm.Params, PRNGKeyArray, pdadmm.Data, pdadmm.Hyperparameters, Array], Carry
    ]
    advance: Callable[[Carry, pdadmm.Data, pdadmm.Hyperparameters, Array, int], Carry]
    params: Callable[[Carry], pdadmm.Params]
    grow: Callable[[Carry, pdadmm.Hyperparameters, Array, int], Carry] | None = None
    variables: Callable[[Carry, pdadmm.Data, pdadmm.Hyperparameters, Array], Layers] | None = None
    hops: Callable[[int, int], float] | None = None
