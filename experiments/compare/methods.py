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
        configured: (activation and loss, widths, number) -> the algorithm's configuration.
        begins_with: layers, where networks grow, before those that others begin with; None for
            no fewer.
    """

    title: str
    number: str
    candidates: tuple[float, ...]
    published: float | None
    algorithm: Algorithm
    configured: Callable[[pdadmm.admm.Config, tuple[int, ...], Any], Any]
    begins_with: int | None = None


def _admm(
    title: str,
    solver: pdadmm.admm.Solver | str,
    W_solver: pdadmm.admm.Solver | None = None,
    begins_with: int | None = None,
) -> Method:
    """Algorithm 1 with nu = rho, as in the paper, and one solver for p and W or one for each."""

    def configured(
        problem: pdadmm.admm.Config, widths: tuple[int, ...], penalty: Any
    ) -> pdadmm.admm.Config:
        del widths
        return problem.replace(
            nu=penalty, rho=penalty, p_solver=solver, W_solver=W_solver or solver
        )

    penalties = 1e-4, 1e-3, 1e-2, 1e-1, 1.0
    return Method(title, "penalty", penalties, 1e-4, ADMM, configured, begins_with)


def _sweeps(
    title: str,
    number: str,
    candidates: tuple[float, ...],
    recipe: Callable[[tuple[int, ...], Any], pdadmm.sweeps.Config],
) -> Method:
    """The recommended recipe; its number is nu, or the learning rate of batches."""

    def configured(
        problem: pdadmm.admm.Config, widths: tuple[int, ...], value: Any
    ) -> pdadmm.sweeps.Config:
        return recipe(widths, value).replace(
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

    def configured(problem: pdadmm.admm.Config, widths: tuple[int, ...], rate: Any) -> Config:
        del widths
        return Config(rate, problem, optimizer, batch)

    return Method(title, "rate", candidates, published, BACKPROP, configured)


def _momentum(rate: Any) -> optax.GradientTransformation:
    return optax.sgd(rate, momentum=0.9)


def _sweeps_in_full(widths: tuple[int, ...], nu: Any) -> pdadmm.sweeps.Config:
    return pdadmm.sweeps.recommended(widths, nu=nu)


def _sweeps_in_batches(widths: tuple[int, ...], rate: Any) -> pdadmm.sweeps.Config:
    return pdadmm.sweeps.recommended(widths, BATCH, rule=pdadmm.sweeps.Adam(rate))


def _dladmm(
    problem: pdadmm.admm.Config, widths: tuple[int, ...], penalty: Any
) -> pdadmm.admm.Config:
    del widths
    return dladmm.configured(problem, penalty)


METHODS: Mapping[str, Method] = {
    "pdadmm_exact": _admm("pdADMM, exact W", "unit", pdadmm.admm.Exact(damping=3.0), begins_with=2),
    "pdadmm": _admm("pdADMM", "unit"),
    "pdadmm_search": _admm("pdADMM, search", pdadmm.admm.Search()),
    "sweeps": _sweeps("sweeps", "penalty", (1.0, 3.0, 10.0, 30.0, 100.0, 300.0), _sweeps_in_full),
    "sweeps_batches": _sweeps(
        "sweeps, batches", "rate", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), _sweeps_in_batches
    ),
    "dladmm": Method(
        "dlADMM",
        "penalty",
        (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        1e-6,
        dladmm.DLADMM,
        _dladmm,
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
