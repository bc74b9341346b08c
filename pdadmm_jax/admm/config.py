"""What Algorithm 1 is asked to do: numbers that may be swept and structure that is compiled in."""

from __future__ import annotations

import dataclasses
from typing import Any

from pdadmm_jax import _checks
from pdadmm_jax._checks import check_flag, checked_number
from pdadmm_jax._pytree import pytree_dataclass
from pdadmm_jax._typing import Number
from pdadmm_jax.admm.grid import Grid
from pdadmm_jax.admm.solvers import SOLVERS, Exact, Search, Solver
from pdadmm_jax.numerics.products import Precision
from pdadmm_jax.problems.problem import ActivationLike, LossLike, resolve, resolve_problem

SolverLike = Any  # a Solver, or the name of one


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Config:
    """Penalties, solvers and structure of Algorithm 1.

    Numbers are pytree leaves: sweep them and nothing compiles again.  ``activation``, ``loss``,
    ``bias``, ``precision`` and the solvers' classes are structure.

    Attributes:
        nu: penalty on z = p W + b and on q = f(z).
        rho: penalty on p_{l+1} = q_l.  The paper's runs have rho = nu, its theory asks for more
            than 4 nu (ReLU), which the defaults fulfil.
        mu: weight of (mu/2) ||W||^2, 0 in the paper.
        proximal: weight of the z-update's proximal term in units of nu, 1 in the paper.
        p_solver: how line 1 is solved: "unit", "layer", "search", "exact", or a Solver.
        W_solver: how line 2 is solved, likewise.
        activation: f of all hidden layers: "relu", "leaky_relu", "tanh", "sigmoid", "softplus",
            "gelu", or an Activation.
        loss: the risk R, summed over samples: "softmax_cross_entropy", "squared_error",
            "binary_logistic", "multiclass_hinge", or a Loss.
        bias: whether b moves (line 3); False for layers without one, whose b stays 0.
        precision: of the inputs of matrix products, "float32", "tf32" or "bfloat16"; see
            ``numerics.products``.  Sums, step-size ratios, residuals and objectives are float32
            throughout.
        grid: points that p and q are restricted to; None for none.
        residual_block: 0, for residual connections are a matter of sweeps.

    Raises:
        ValueError: a number of the wrong sign or not finite, or an unknown name.
    """

    nu: Number = 0.1
    rho: Number = 0.5
    mu: Number = 0.0
    proximal: Number = 1.0
    p_solver: SolverLike = "unit"
    W_solver: SolverLike = "unit"
    activation: ActivationLike = dataclasses.field(default="relu", metadata={"static": True})
    loss: LossLike = dataclasses.field(default="softmax_cross_entropy", metadata={"static": True})
    bias: bool = dataclasses.field(default=True, metadata={"static": True})
    precision: Precision = dataclasses.field(default="float32", metadata={"static": True})
    grid: Grid | None = dataclasses.field(default=None, metadata={"static": True})
    residual_block: int = dataclasses.field(default=0, metadata={"static": True})

    def __post_init__(self) -> None:
        for name, allowed in (("nu", False), ("rho", False), ("mu", True), ("proximal", True)):
            number = checked_number(name, getattr(self, name), above=0.0, allowed=allowed)
            object.__setattr__(self, name, number)
        resolve_problem(self)
        check_flag("bias", self.bias)
        if self.grid is not None and not isinstance(self.grid, Grid):
            raise TypeError(f"grid is {self.grid!r}, but has to be a Grid or None.")
        if self.residual_block:
            raise ValueError(
                f"residual_block is {self.residual_block}, but Algorithm 1 trains plain chains "
                "alone, whose q is f(z): train networks with residual connections by sweeps."
            )
        resolve(self, "p_solver", Solver, SOLVERS)
        resolve(self, "W_solver", Solver, SOLVERS)

    def replace(self, **changes: Any) -> Config:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def check_config(config: Any) -> None:
    """Refuses what is not a configuration of Algorithm 1."""
    _checks.check_config(config, Config, "admm")


def recommended(**changes: Any) -> Config:
    """The settings by which Algorithm 1 learns best; nothing has to be tuned, whatever the shape.

    * W by its own subproblem solved exactly near the old weights.  Steps along its gradient move
      the directions of large curvature alone; solved without a proximal term, W takes away the
      residuals that p, z and q of the other layers learn from.
    * A small proximal term of z, by which z goes nearly as far as its subproblem says.
    * rho = nu, as in the paper.  Accuracy hardly depends on nu between 0.003 and 3.

    First weights count for as much (``init``).  These penalties lie outside of the certified
    region; ``certified`` moves rho into it.

    Args:
        **changes: fields of ``Config`` to set otherwise.
    """
    numbers = {"nu": 0.1, "rho": 0.1, "proximal": 0.1, "W_solver": Exact(damping=0.3)}
    return Config(**numbers | changes)


def paper(**changes: Any) -> Config:
    """The paper's algorithm with the penalties of its accuracy runs.

    nu = rho = 1e-4, which its theory does not cover, and the search for step sizes.

    Args:
        **changes: fields of ``Config`` to set otherwise.
    """
    numbers = {"nu": 1e-4, "rho": 1e-4, "p_solver": Search(), "W_solver": Search()}
    return Config(**numbers | changes)
