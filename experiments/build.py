"""From a configuration to what the library takes: data, hyperparameters, first weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pdadmm_jax as pdadmm
from experiments.config import MethodConfig, NetworkConfig, SolverName
from experiments.data import Dataset

INITIALIZERS = {
    "he": jax.nn.initializers.he_normal(),
    "glorot": jax.nn.initializers.glorot_normal(),
    "orthogonal": jax.nn.initializers.orthogonal(),
    "paper": jax.nn.initializers.normal(0.1),
}


class Splits(NamedTuple):
    """The data on the device; a split without samples is None."""

    train: pdadmm.Data
    validation: pdadmm.Data | None
    test: pdadmm.Data


def splits(dataset: Dataset, dtype: Any) -> Splits:
    """Moves a dataset to the device."""

    def split(x: np.ndarray, y: np.ndarray) -> pdadmm.Data:
        return pdadmm.Data(jnp.asarray(x, dtype), jnp.asarray(y))

    held_out = (
        split(dataset.x_validation, dataset.y_validation) if len(dataset.y_validation) else None
    )
    return Splits(
        train=split(dataset.x_train, dataset.y_train),
        validation=held_out,
        test=split(dataset.x_test, dataset.y_test),
    )


def widths(dataset: Dataset, network: NetworkConfig, method: MethodConfig) -> tuple[int, ...]:
    """(features, hidden, ..., outputs); a yes-or-no question needs a single output."""
    binary = method.loss == "binary_logistic"
    if binary and dataset.classes != 2:
        raise ValueError(
            f"binary_logistic needs 2 classes, but {dataset.name} has {dataset.classes}: use "
            "softmax_cross_entropy."
        )
    return (dataset.x_train.shape[1], *network.hidden, 1 if binary else dataset.classes)


def hyperparameters(network: NetworkConfig, method: MethodConfig) -> pdadmm.Hyperparameters:
    """The library's hyperparameters; its ValueErrors say what is wrong with them."""
    if method.smoothing and method.loss != "softmax_cross_entropy":
        raise ValueError(
            f"smoothing is {method.smoothing}, but {method.loss} knows none: use "
            "softmax_cross_entropy or leave it at 0."
        )
    smoothed = pdadmm.SoftmaxCrossEntropy(method.smoothing)
    hyper = pdadmm.Hyperparameters(
        nu=method.nu,
        rho=method.rho,
        mu=method.mu,
        proximal=method.proximal,
        p_solver=_solver(method.p_solver, method),
        W_solver=_solver(method.w_solver, method),
        activation=pdadmm.activation(network.activation),
        loss=smoothed if method.smoothing else pdadmm.loss(method.loss),
    )
    return pdadmm.certified(hyper) if method.certified else hyper


def _solver(name: SolverName, method: MethodConfig) -> pdadmm.Solver:
    if name == "search":
        return pdadmm.Search(method.search_start, method.search_growth)
    if name == "exact":
        return pdadmm.Exact(method.damping)
    return pdadmm.solver(name)
