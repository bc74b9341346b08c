"""Sweeps, the recommended recipe: an iteration is a pass over the samples."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

import pdadmm_jax as pdadmm
from experiments.algorithms.algorithm import Algorithm
from pdadmm_jax._typing import PRNGKeyArray
from pdadmm_jax.inference import loss_and_score


def run(
    state: pdadmm.sweeps.State,
    data: pdadmm.Data,
    config: pdadmm.sweeps.Config,
    key: PRNGKeyArray,
    steps: int,
) -> tuple[pdadmm.sweeps.State, pdadmm.sweeps.Info]:
    """Some passes, each over the samples in an order of its own."""

    def one_pass(state: pdadmm.sweeps.State, _: None) -> Any:
        order = jax.random.fold_in(key, state.iteration)
        return pdadmm.sweeps.step(state, data, config, None if config.batch is None else order)

    return lax.scan(one_pass, state, length=steps)


def evaluate(
    state: pdadmm.sweeps.State, data: pdadmm.Data, config: pdadmm.sweeps.Config
) -> tuple[Any, Any]:
    """Mean loss, and accuracy or R^2, with products in full precision whatever training uses."""
    return loss_and_score(state, data, config.replace(precision="float32"))


SWEEPS = Algorithm(
    from_params=pdadmm.sweeps.from_params, run=run, evaluate=evaluate, params=pdadmm.params
)
