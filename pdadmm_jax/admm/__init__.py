"""Algorithm 1 of the paper: pdADMM, whose iterations keep all auxiliary variables.

    config = admm.recommended()
    state = admm.init(key, data, widths, config)
    state, info = admm.step(state, data, config)            # one iteration
    state, info = admm.run(state, data, config, steps=100)  # many in one dispatch

``pdadmm_jax.sweeps`` has the same functions for the recommended recipe.
"""

from pdadmm_jax.admm.config import Config, paper, recommended
from pdadmm_jax.admm.drift import refresh
from pdadmm_jax.admm.grid import Grid
from pdadmm_jax.admm.growth import grow
from pdadmm_jax.admm.info import Info
from pdadmm_jax.admm.iteration import run, step
from pdadmm_jax.admm.lagrangian import terms
from pdadmm_jax.admm.relayout import reshard
from pdadmm_jax.admm.solvers import (
    Exact,
    LayerStep,
    Quadratic,
    Search,
    Solver,
    SolverStep,
)
from pdadmm_jax.admm.start import abstract, from_params, init
from pdadmm_jax.admm.state import ShardedState, State
from pdadmm_jax.admm.theory import certificate, certified

__all__ = [
    "Config",
    "Exact",
    "Grid",
    "Info",
    "LayerStep",
    "Quadratic",
    "Search",
    "ShardedState",
    "Solver",
    "SolverStep",
    "State",
    "abstract",
    "certificate",
    "certified",
    "from_params",
    "grow",
    "init",
    "paper",
    "recommended",
    "refresh",
    "reshard",
    "run",
    "step",
    "terms",
]
