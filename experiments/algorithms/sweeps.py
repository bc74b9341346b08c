"""Sweeps, the recommended recipe: an iteration is a pass over the samples."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

import pdadmm_jax as pdadmm
from experiments.algorithms.algorithm import Algorithm
from pdadmm_jax._typing import PRNGKeyArray


def run(
    state: pdadmm.SweepState,
    data: pdadmm.Data,
    config: pdadmm.Sweeps,
    key: PRNGKeyArray,
    steps: int,
) -> tuple[pdadmm.SweepState, pdadmm.SweepInfo]:
    """Some passes, each over the samples in an order of its own."""

    def one_pass(state: pdadmm.SweepState, _: None) -> Any:
        order = jax.random.fold_in(key, state.iteration)
        return pdadmm.sweep(state, data, config, None if config.batch is None else order)

    return lax.scan(one_pass, state, length=steps)


def params(state: pdadmm.SweepState) -> pdadmm.Params:
    """Weights of all layers."""
    return pdadmm.params(state.weights)


def evaluate(state: pdadmm.SweepState, data: pdadmm.Data, config: pdadmm.Sweeps) -> tuple[Any, Any]:
    """Mean loss and accuracy, products in full precision whatever training uses."""
    return pdadmm.loss_and_accuracy(params(state), data, config.replace(precision="float32"))


SWEEPS = Algorithm(from_params=pdadmm.init_sweeps, run=run, evaluate=evaluate, params=params)
