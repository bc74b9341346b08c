"""The ways to train that experiments compare: to add one, add its name and its entry here."""

from collections.abc import Mapping

import optax

import pdadmm_jax as pdadmm
from experiments.compare.methods.admm import parallel_admm
from experiments.compare.methods.dladmm import METHOD as DLADMM
from experiments.compare.methods.gradient import full_batch, mini_batches
from experiments.compare.methods.method import Method
from experiments.compare.methods.sweeps import batch_sweeps, full_sweeps

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

METHODS: Mapping[str, Method] = {
    "pdadmm": parallel_admm("pdADMM", pdadmm.UnitStep(), PENALTIES, 1e-4),
    "pdadmm_search": parallel_admm("pdADMM, search", pdadmm.Search(), PENALTIES, 1e-4),
    "sweeps": full_sweeps("sweeps", (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)),
    "sweeps_batches": batch_sweeps("sweeps, batches", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
    "dladmm": DLADMM,
    "gd": full_batch("gradient descent", optax.sgd, (0.01, 0.03, 0.1, 0.3, 1.0), 0.01),
    "adadelta": full_batch("Adadelta", optax.adadelta, (0.3, 1.0, 3.0, 10.0, 30.0), 1.0),
    "adagrad": full_batch("Adagrad", optax.adagrad, (3e-3, 1e-2, 3e-2, 0.1, 0.3), 0.1),
    "adam": full_batch("Adam", optax.adam, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), 1e-3),
    "sgd_batches": mini_batches(
        "SGD, batches",
        lambda rate: optax.sgd(rate, momentum=0.9),
        (0.003, 0.01, 0.03, 0.1, 0.3),
    ),
    "adam_batches": mini_batches("Adam, batches", optax.adam, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
}

__all__ = ["METHODS", "Method"]
