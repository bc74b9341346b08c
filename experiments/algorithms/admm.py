"""Algorithm 1 of the paper: an iteration is one step of all layers on the full batch."""

from __future__ import annotations

from typing import Any

import pdadmm_jax as pdadmm
from experiments.algorithms.algorithm import Algorithm
from pdadmm_jax._typing import PRNGKeyArray
from pdadmm_jax.inference import loss_and_score


def run(
    state: pdadmm.admm.State,
    data: pdadmm.Data,
    config: pdadmm.admm.Config,
    key: PRNGKeyArray,
    steps: int,
) -> tuple[pdadmm.admm.State, pdadmm.admm.Info]:
    """Some iterations; nothing in them is random."""
    del key
    return pdadmm.admm.run(state, data, config, steps=steps)


def evaluate(
    state: pdadmm.admm.State, data: pdadmm.Data, config: pdadmm.admm.Config
) -> tuple[Any, Any]:
    """Mean loss, and accuracy or R^2, with products in full precision whatever training uses."""
    return loss_and_score(pdadmm.params(state), data, config.replace(precision="float32"))


ADMM = Algorithm(
    from_params=pdadmm.admm.from_params,
    run=run,
    evaluate=evaluate,
    params=pdadmm.params,
    grow=pdadmm.admm.grow,
    refresh=pdadmm.admm.refresh,
)
