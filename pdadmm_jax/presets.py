"""Settings with a name: the paper's, and the ones this library recommends."""

from __future__ import annotations

from typing import Any

from pdadmm_jax.admm.config import Hyperparameters
from pdadmm_jax.admm.solvers import Search
from pdadmm_jax.sweeps.passes import Sweeps
from pdadmm_jax.sweeps.rules import Follow, Proximal


def paper(**changes: Any) -> Hyperparameters:
    """The paper's algorithm with the penalties of its accuracy runs, for ``init`` and ``run``.

    nu = rho = 1e-4, which its theory does not cover, and the search for step sizes.

    Args:
        **changes: fields of ``Hyperparameters`` to set otherwise.
    """
    return Hyperparameters(
        **{"nu": 1e-4, "rho": 1e-4, "p_solver": Search(), "W_solver": Search()} | changes
    )


def recommended(batch: int | None = None, **changes: Any) -> Sweeps:
    """The recipe that learns best, for ``init_sweeps`` and ``sweep``.

    Why each part is there (``python -m experiments quality`` measures all of them):

    * Synchronised sweeps, since the iterations of ``run`` weaken what the labels ask for at every
      boundary, by about 20 where nu = rho, and at small nu let p, z and q explain the labels in
      the place of W.  Here all constraints hold whenever W is asked to move.
    * A stiff nu, by which every layer's direction is that of the risk itself.  All layers move at
      once, so the more there are, the shorter the steps have to be: 100 serves up to some five
      layers, 300 serves ten, 1,000 serves 20 to 50.
    * Over all samples (``batch`` None), W by its own subproblem solved exactly near the old
      weights: along the inverse of its inputs' Gram matrix, the steps of all directions are about
      equally long, where the gradient's differ by the condition of that matrix.  Inertia makes
      steps that agree longer.
    * Over small batches, where a Gram matrix would cost more than all the rest, Adam's rule on
      the same directions.

    Begin with ``random_params``, whose orthogonal weights lose no direction from layer to layer.

    Args:
        batch: samples between two updates of the weights; None for all.
        **changes: fields of ``Sweeps`` to set otherwise.
    """
    rule = Proximal() if batch is None else Follow()
    return Sweeps(**{"batch": batch, "rule": rule} | changes)
