"""What a run is asked to do: numbers that may be swept and structure that is compiled in."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pdadmm_jax._typing import Leaf
from pdadmm_jax.activations import Activation, relu
from pdadmm_jax.checks import check_number, is_concrete
from pdadmm_jax.losses import Loss, softmax_cross_entropy
from pdadmm_jax.solvers import Solver, UnitStep

PRECISIONS = ("highest", "high", "default")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """Penalties, solvers and structure of pdADMM.

    Numbers are pytree leaves: sweep them and nothing compiles again.  ``activation``, ``loss``,
    ``precision`` and the solvers' classes are structure.

    Attributes:
        nu: penalty on z = p W + b and on q = f(z).
        rho: penalty on p_{l+1} = q_l.  The paper's runs have rho = nu, its theory asks for more
            than 4 nu (ReLU), which the defaults fulfil.
        mu: weight of (mu/2) ||W||^2, 0 in the paper.
        proximal: weight of the z-update's proximal term in units of nu, 1 in the paper.
        p_solver: how line 1 is solved.
        W_solver: how line 2 is solved.
        activation: f of all hidden layers.
        loss: the risk R, summed over samples.
        precision: of the matrix products, one of "highest", "high" and "default".

    Raises:
        ValueError: a number of the wrong sign or not finite, or a name in place of an object.
    """

    nu: Leaf = 0.1
    rho: Leaf = 0.5
    mu: Leaf = 0.0
    proximal: Leaf = 1.0
    p_solver: Solver = dataclasses.field(default_factory=UnitStep)
    W_solver: Solver = dataclasses.field(default_factory=UnitStep)
    activation: Activation = dataclasses.field(default=relu, metadata={"static": True})
    loss: Loss = dataclasses.field(default=softmax_cross_entropy, metadata={"static": True})
    precision: str = dataclasses.field(default="highest", metadata={"static": True})

    def __post_init__(self) -> None:
        check_number("nu", self.nu, positive=True)
        check_number("rho", self.rho, positive=True)
        check_number("mu", self.mu, positive=False)
        check_number("proximal", self.proximal, positive=False)
        for name in ("activation", "loss", "p_solver", "W_solver"):
            if isinstance(value := getattr(self, name), str):
                find = name.removeprefix("p_").removeprefix("W_")
                raise ValueError(
                    f"{name} is the string {value!r}, but has to be an object: "
                    f"pdadmm_jax.{find}({value!r})."
                )
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision is {self.precision!r}, but has to be one of {', '.join(PRECISIONS)}."
            )

    def replace(self, **changes: Any) -> Hyperparameters:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def check_representable(hyper: Hyperparameters, dtype: Any) -> None:
    """Refuses penalties that the state's dtype would round to zero or infinity."""
    limits = jnp.finfo(dtype)
    low, high = float(limits.tiny), float(limits.max)
    for name in ("nu", "rho"):
        value = getattr(hyper, name)
        if is_concrete(value) and not low <= float(value) <= high:
            raise ValueError(
                f"{name} is {value}, but {jnp.dtype(dtype)} reaches from {low:.2g} to {high:.2g}: "
                "choose a penalty inside, or double precision."
            )


def at_precision_of(hyper: Hyperparameters, dtype: Any) -> Hyperparameters:
    """The same hyperparameters, their numbers as arrays of the state's dtype."""
    return jax.tree.map(lambda number: jnp.asarray(number, dtype), hyper)
