"""Sweeps, the recommended recipe: no auxiliary variable is kept, and every batch moves W.

    config = sweeps.recommended(widths, batch=128)
    state = sweeps.init(key, data, widths, config)
    state, info = sweeps.step(state, data, config, key)           # one pass over the data
    state, info = sweeps.run(state, data, config, key, steps=20)  # many in one dispatch

``pdadmm_jax.admm`` has the same functions for Algorithm 1 of the paper.
"""

from pdadmm_jax.sweeps.config import Config, recommended
from pdadmm_jax.sweeps.passes import Info, run, step
from pdadmm_jax.sweeps.rules import Adam, Lion, Prodigy, Proximal, Rule
from pdadmm_jax.sweeps.start import abstract, from_params, init, reshard
from pdadmm_jax.sweeps.state import State

__all__ = [
    "Adam",
    "Config",
    "Info",
    "Lion",
    "Prodigy",
    "Proximal",
    "Rule",
    "State",
    "abstract",
    "from_params",
    "init",
    "recommended",
    "reshard",
    "run",
    "step",
]
