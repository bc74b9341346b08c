"""pdADMM in JAX: deep fully-connected networks trained layer by layer, in parallel.

    import jax
    import pdadmm_jax as pdadmm
    from pdadmm_jax import sweeps

    data = pdadmm.Data(x, y)
    config = sweeps.recommended(widths, batch=128)
    state = sweeps.init(jax.random.key(0), data, widths, config)
    state, info = sweeps.run(state, data, config, jax.random.key(1), steps=20)
    pdadmm.accuracy(state, data, config)

``admm`` is Algorithm 1 of the paper, ``sweeps`` the recommended recipe; both have ``Config``,
``init``, ``step``, ``run``, ``reshard`` under the same names.  All are pure functions of pytrees.
Penalties and seeds go through ``jax.vmap``:

    jax.vmap(lambda nu: sweeps.run(state, data, config.replace(nu=nu), steps=5)[1].loss)(nus)
    jax.vmap(lambda key: sweeps.init(key, data, widths, config))(jax.random.split(key, 8))

A step has forward-mode derivatives, ``jax.jvp`` and ``jax.jacfwd``; reverse mode is refused.
"""

from pdadmm_jax import admm, sweeps
from pdadmm_jax._typing import Params
from pdadmm_jax.inference import (
    accuracy,
    evaluate,
    forward,
    loss,
    nonfinite,
    params,
    predict,
    r_squared,
)
from pdadmm_jax.network import Network, load
from pdadmm_jax.parallel.mesh import make_mesh, shard_data
from pdadmm_jax.problems.activations import Activation, LeakyReLU, NumericActivation
from pdadmm_jax.problems.data import Data
from pdadmm_jax.problems.first_weights import random_params
from pdadmm_jax.problems.losses import ConvexLoss, Loss, SoftmaxCrossEntropy
from pdadmm_jax.problems.sample_weights import weighted
from pdadmm_jax.training import fit

__version__ = "0.2.0"

__all__ = [
    "Activation",
    "ConvexLoss",
    "Data",
    "LeakyReLU",
    "Loss",
    "Network",
    "NumericActivation",
    "Params",
    "SoftmaxCrossEntropy",
    "accuracy",
    "admm",
    "evaluate",
    "fit",
    "forward",
    "load",
    "loss",
    "make_mesh",
    "nonfinite",
    "params",
    "predict",
    "r_squared",
    "random_params",
    "shard_data",
    "sweeps",
    "weighted",
]
