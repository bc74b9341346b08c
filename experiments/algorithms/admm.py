"""Algorithm 1 of the paper: an iteration is one step of all layers on the full batch."""

from __future__ import annotations

from typing import Any

import pdadmm_jax as pdadmm
from experiments.algorithms.algorithm import Algorithm
from pdadmm_jax._typing import PRNGKeyArray


def run(
    state: pdadmm.State,
    data: pdadmm.Data,
    config: pdadmm.Hyperparameters,
    key: PRNGKeyArray,
    steps: int,
) -> tuple[pdadmm.State, pdadmm.Info]:
    """Some iterations; nothing in them is random."""
    del key
    return pdadmm.run(state, data, config, steps)


def evaluate(
    state: pdadmm.State, data: pdadmm.Data, config: pdadmm.Hyperparameters
) -> tuple[Any, Any]:
    """Mean loss and accuracy, products in full precision whatever training uses."""
    exact = config.replace(precision="float32")
    return pdadmm.loss_and_accuracy(pdadmm.params(state), data, exact)


ADMM = Algorithm(
    from_params=pdadmm.from_params,
    run=run,
    evaluate=evaluate,
    params=pdadmm.params,
    grow=pdadmm.grow,
    refresh=pdadmm.refresh,
)
