"""pdADMM in JAX: deep fully-connected networks trained without back-propagation, layer-parallel.

import jax, pdadmm_jax as pdadmm

data = pdadmm.Data(x, y)
hyper = pdadmm.Hyperparameters(nu=0.1, rho=0.5)
state = pdadmm.init(jax.random.key(0), data, (64, 100, 100, 10), hyper)
state, info = pdadmm.run(state, data, hyper, iterations=100)
pdadmm.accuracy(pdadmm.params(state), data, hyper)
"""

from pdadmm_jax.admm.config import Hyperparameters
from pdadmm_jax.admm.growth import check_growable, grow
from pdadmm_jax.admm.info import Info
from pdadmm_jax.admm.iteration import run, step
from pdadmm_jax.admm.lagrangian import Terms, primal_residual, terms
from pdadmm_jax.admm.refresh import refresh
from pdadmm_jax.admm.solvers import SOLVERS, Exact, LayerStep, Search, Solver, UnitStep, solver
from pdadmm_jax.admm.start import abstract, abstract_elsewhere, from_params, init, random_params
from pdadmm_jax.admm.state import (
    Boundary,
    Data,
    Layer,
    Params,
    State,
    widths,
)
from pdadmm_jax.admm.theory import Certificate, certificate, certificate_of, certified
from pdadmm_jax.admm.updates import (
    update_b,
    update_p,
    update_q,
    update_u,
    update_W,
    update_z,
    update_z_output,
)
from pdadmm_jax.inference import accuracy, forward, loss_and_accuracy, mean_loss
from pdadmm_jax.parallel.mesh import make_mesh
from pdadmm_jax.parallel.relayout import moved, nonfinite, params, shard, shard_data, unshard
from pdadmm_jax.presets import paper, recommended
from pdadmm_jax.problems.activations import (
    ACTIVATIONS,
    Activation,
    LeakyReLU,
    NumericActivation,
    activation,
    gelu,
    leaky_relu,
    relu,
    sigmoid,
    softplus,
    tanh,
)
from pdadmm_jax.problems.losses import (
    LOSSES,
    BinaryLogistic,
    ConvexLoss,
    Loss,
    MulticlassHinge,
    SoftmaxCrossEntropy,
    SquaredError,
    binary_logistic,
    loss,
    multiclass_hinge,
    softmax_cross_entropy,
    squared_error,
)
from pdadmm_jax.sweeps.passes import (
    SweepInfo,
    Sweeps,
    SweepState,
    abstract_sweeps,
    init_sweeps,
    moved_sweeps,
    sweep,
)
from pdadmm_jax.sweeps.rules import Follow, Proximal, Rule, Wish

__version__ = "0.1.0"

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "SOLVERS",
    "Activation",
    "BinaryLogistic",
    "Boundary",
    "Certificate",
    "ConvexLoss",
    "Data",
    "Exact",
    "Follow",
    "Hyperparameters",
    "Info",
    "Layer",
    "LayerStep",
    "LeakyReLU",
    "Loss",
    "MulticlassHinge",
    "NumericActivation",
    "Params",
    "Proximal",
    "Rule",
    "Search",
    "SoftmaxCrossEntropy",
    "Solver",
    "SquaredError",
    "State",
    "SweepInfo",
    "SweepState",
    "Sweeps",
    "Terms",
    "UnitStep",
    "Wish",
    "abstract",
    "abstract_elsewhere",
    "abstract_sweeps",
    "accuracy",
    "activation",
    "binary_logistic",
    "certificate",
    "certificate_of",
    "certified",
    "check_growable",
    "forward",
    "from_params",
    "gelu",
    "grow",
    "init",
    "init_sweeps",
    "leaky_relu",
    "loss",
    "loss_and_accuracy",
    "make_mesh",
    "mean_loss",
    "moved",
    "moved_sweeps",
    "multiclass_hinge",
    "nonfinite",
    "paper",
    "params",
    "primal_residual",
    "random_params",
    "recommended",
    "refresh",
    "relu",
    "run",
    "shard",
    "shard_data",
    "sigmoid",
    "softmax_cross_entropy",
    "softplus",
    "solver",
    "squared_error",
    "step",
    "sweep",
    "tanh",
    "terms",
    "unshard",
    "update_W",
    "update_b",
    "update_p",
    "update_q",
    "update_u",
    "update_z",
    "update_z_output",
    "widths",
]
