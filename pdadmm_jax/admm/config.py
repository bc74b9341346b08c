"""What a run is asked to do: numbers that may be swept and structure that is compiled in."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from pdadmm_jax._checks import checked_number, is_concrete
from pdadmm_jax._pytree import pytree_dataclass
from pdadmm_jax._typing import Number
from pdadmm_jax.admm.solvers import Solver, UnitStep
from pdadmm_jax.numerics.products import PRECISIONS, Precision
from pdadmm_jax.problems.activations import Activation, relu
from pdadmm_jax.problems.losses import Loss, softmax_cross_entropy

H = TypeVar("H")


@runtime_checkable
class Problem(Protocol):
    """What is to be learnt, whatever the way: f, R, and how precise products are."""

    @property
    def activation(self) -> Activation: ...

    @property
    def loss(self) -> Loss: ...

    @property
    def precision(self) -> Precision: ...


@pytree_dataclass
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
        precision: of the inputs of matrix products, "float32", "tf32" or "bfloat16"; see
            ``products``.  Sums, step-size ratios, residuals and objectives are float32 throughout.

    Raises:
        ValueError: a number of the wrong sign or not finite, or a name in place of an object.
    """

    nu: Number = 0.1
    rho: Number = 0.5
    mu: Number = 0.0
    proximal: Number = 1.0
    p_solver: Solver = dataclasses.field(default_factory=UnitStep)
    W_solver: Solver = dataclasses.field(default_factory=UnitStep)
    activation: Activation = dataclasses.field(default=relu, metadata={"static": True})
    loss: Loss = dataclasses.field(default=softmax_cross_entropy, metadata={"static": True})
    precision: Precision = dataclasses.field(default="float32", metadata={"static": True})

    def __post_init__(self) -> None:
        for name, allowed in (("nu", False), ("rho", False), ("mu", True), ("proximal", True)):
            number = checked_number(name, getattr(self, name), above=0.0, allowed=allowed)
            object.__setattr__(self, name, number)
        check_problem(self)
        for name in ("p_solver", "W_solver"):
            check_kind(name, getattr(self, name), Solver)

    def replace(self, **changes: Any) -> Hyperparameters:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def check_problem(problem: Problem) -> None:
    """Refuses names in place of an activation or a loss, and precisions that there are not.

    Raises:
        ValueError: naming what was given.
    """
    check_kind("activation", problem.activation, Activation)
    check_kind("loss", problem.loss, Loss)
    if problem.precision not in PRECISIONS:
        raise ValueError(
            f"precision is {problem.precision!r}, but has to be one of {', '.join(PRECISIONS)}."
        )


def check_kind(name: str, value: Any, kind: type) -> None:
    """Refuses a value, such as a name or a class, that is not an object of its kind."""
    if isinstance(value, type) or not isinstance(value, kind):
        find = kind.__name__.lower()
        raise ValueError(
            f"{name} is {value!r}, but has to be of the kind {kind.__name__}: one that "
            f"pdadmm_jax.{find}(name) finds, or your own."
        )


def check_representable(hyper: Problem, dtype: Any) -> None:
    """Refuses numbers that the state's dtype would round to zero or infinity."""
    limits = jnp.finfo(dtype)
    low, high = float(limits.tiny), float(limits.max)
    for path, value in jax.tree.leaves_with_path(hyper):
        if not is_concrete(value):
            continue
        sizes = np.abs(np.asarray(value, np.float64))
        if ((sizes != 0) & ((sizes < low) | (sizes > high))).any():
            name = ".".join(key.name for key in path)
            raise ValueError(
                f"{name} is {value}, but {jnp.dtype(dtype)} reaches from {low:.2g} to {high:.2g}: "
                "choose a number inside, or double precision."
            )


def at_precision_of(hyper: H, dtype: Any) -> H:
    """The same hyperparameters, their numbers as arrays of the state's dtype."""
    return jax.tree.map(lambda number: jnp.asarray(number, dtype), hyper)
