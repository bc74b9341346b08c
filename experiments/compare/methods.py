"""The methods that are compared: to add one, add its name and its entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

import pdadmm_jax as pdadmm
from experiments.algorithms import dladmm
from experiments.algorithms.admm import ADMM
from experiments.algorithms.algorithm import Algorithm
from experiments.algorithms.backprop import BACKPROP, Config, Optimizer
from experiments.algorithms.sweeps import SWEEPS

BATCH = 128


class Method(NamedTuple):
    """An algorithm with one number to tune.

    Attributes:
        title: its name in tables and figures.
        number: what its one number is: a learning rate, or a penalty.
        candidates: values of the number that tuning tries, ascending.
        published: the value that the pdADMM paper used, if it had the method.
        algorithm: how it trains.
        configured: (activation and loss, number) -> the algorithm's configuration.
    """

    title: str
    number: str
    candidates: tuple[float, ...]
    published: float | None
    algorithm: Algorithm
    configured: Callable[[pdadmm.admm.Config, Any], Any]


def _admm(title: str, solver: pdadmm.admm.Solver) -> Method:
    """Algorithm 1 with nu = rho, as in the paper."""

    def configured(problem: pdadmm.admm.Config, penalty: Any) -> pdadmm.admm.Config:
        return problem.replace(nu=penalty, rho=penalty, p_solver=solver, W_solver=solver)

    return Method(title, "penalty", (1e-4, 1e-3, 1e-2, 1e-1, 1.0), 1e-4, ADMM, configured)


def _sweeps(
    title: str,
    number: str,
    candidates: tuple[float, ...],
    recipe: Callable[[Any], pdadmm.sweeps.Config],
) -> Method:
    """The recommended recipe; its number is nu, or the learning rate of batches."""

    def configured(problem: pdadmm.admm.Config, value: Any) -> pdadmm.sweeps.Config:
        return recipe(value).replace(
            activation=problem.activation, loss=problem.loss, precision=problem.precision
        )

    return Method(title, number, candidates, None, SWEEPS, configured)


def _backprop(
    title: str,
    optimizer: Optimizer,
    candidates: tuple[float, ...],
    published: float | None = None,
    batch: int | None = None,
) -> Method:
    """An Optax optimizer on the gradient."""

    def configured(problem: pdadmm.admm.Config, rate: Any) -> Config:
        return Config(rate, problem, optimizer, batch)

    return Method(title, "rate", candidates, published, BACKPROP, configured)


def _momentum(rate: Any) -> optax.GradientTransformation:
    return optax.sgd(rate, momentum=0.9)


def _sweeps_in_batches(rate: Any) -> pdadmm.sweeps.Config:
    return pdadmm.sweeps.Config(batch=BATCH, rule=pdadmm.sweeps.Adam(rate))


METHODS: Mapping[str, Method] = {
    "pdadmm": _admm("pdADMM", pdadmm.admm.UnitStep()),
    "pdadmm_search": _admm("pdADMM, search", pdadmm.admm.Search()),
    "sweeps": _sweeps(
        "sweeps",
        "penalty",
        (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0),
        lambda nu: pdadmm.sweeps.Config(nu=nu),
    ),
    "sweeps_batches": _sweeps(
        "sweeps, batches", "rate", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), _sweeps_in_batches
    ),
    "dladmm": Method(
        "dlADMM",
        "penalty",
        (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        1e-6,
        dladmm.DLADMM,
        dladmm.configured,
    ),
    "gd": _backprop("gradient descent", optax.sgd, (0.01, 0.03, 0.1, 0.3, 1.0), 0.01),
    "adadelta": _backprop("Adadelta", optax.adadelta, (0.3, 1.0, 3.0, 10.0, 30.0), 1.0),
    "adagrad": _backprop("Adagrad", optax.adagrad, (3e-3, 1e-2, 3e-2, 0.1, 0.3), 0.1),
    "adam": _backprop("Adam", optax.adam, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), 1e-3),
    "sgd_batches": _backprop("SGD, batches", _momentum, (0.003, 0.01, 0.03, 0.1, 0.3), batch=BATCH),
    "adam_batches": _backprop(
        "Adam, batches", optax.adam, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), batch=BATCH
    ),
}
