"""The methods that are compared on graphs: to add one, add its name and its entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import optax
from jax.sharding import Mesh

import pdadmm_jax as pdadmm
from experiments.algorithms.admm import ADMM
from experiments.algorithms.algorithm import Algorithm
from experiments.algorithms.backprop import BACKPROP, Config, Optimizer
from experiments.algorithms.sweeps import SWEEPS
from experiments.options.devices import MessageDtype


class Setting(NamedTuple):
    """What is tuned.

    Attributes:
        number: the method's learning rate or penalty.
        mu: weight of (mu/2) ||W||^2, beside the sum of the losses in Algorithm 1, else their mean.
    """

    number: float
    mu: float


class Method(NamedTuple):
    """An algorithm with two numbers to tune.

    Attributes:
        title: its name in tables and figures.
        number: what its number is.
        candidates: values of the number that tuning tries.
        mus: values of mu that tuning tries.
        algorithm: how it trains.
        configured: (widths, setting) -> the algorithm's configuration.
        grows: whether it begins with few layers.
        in_span: whether it takes inputs in coordinates of the labelled nodes' span.
        scale: root mean square of the norms of its labelled inputs.
        first: what the first weights of a network that grows are multiplied by.
        penalties: whether its number is a penalty that may rise during a run.
        grid: points that its p and q are restricted to.
        in_stages: whether its layers train on several devices.
    """

    title: str
    number: str
    candidates: tuple[float, ...]
    mus: tuple[float, ...]
    algorithm: Algorithm
    configured: Callable[[tuple[int, ...], Setting], Any]
    grows: bool
    in_span: bool
    scale: float = 1.0
    first: float = 1.0
    penalties: bool = False
    grid: pdadmm.admm.Grid | None = None
    in_stages: bool = False

    def settings(self) -> list[Setting]:
        """All that tuning tries."""
        return [Setting(number, mu) for number in self.candidates for mu in self.mus]

    def on(self, mesh: Mesh, message_dtype: MessageDtype) -> Method:
        """The method with its layers on the stages of a mesh."""
        from_params = partial(self.algorithm.from_params, mesh=mesh, message_dtype=message_dtype)
        return self._replace(algorithm=self.algorithm._replace(from_params=from_params))


# 256 points: hidden outputs on Cora and Citeseer are below 3.7.
GRID = pdadmm.admm.Grid(-1.0, 4.0, 5 / 255)


def _pdadmm(title: str, grid: pdadmm.admm.Grid | None) -> Method:
    """Algorithm 1 with nu = rho."""

    def configured(widths: tuple[int, ...], setting: Setting) -> pdadmm.admm.Config:
        del widths
        nu, mu = setting
        return pdadmm.admm.Config(nu=nu, rho=nu, mu=mu, grid=grid)

    return Method(
        title,
        "nu = rho",
        (0.01, 0.03, 0.1),
        (0.1, 0.2, 0.4),
        ADMM,
        configured,
        grows=True,
        in_span=True,
        scale=10.0,
        first=0.1,
        penalties=True,
        grid=grid,
        in_stages=True,
    )


def _sweeps(widths: tuple[int, ...], setting: Setting) -> pdadmm.sweeps.Config:
    return pdadmm.sweeps.recommended(widths, nu=setting.number, mu=setting.mu)


def _backprop(
    title: str,
    optimizer: Optimizer,
    rates: tuple[float, ...],
    *,
    grows: bool = False,
    in_span: bool = False,
) -> Method:
    """An Optax optimizer on the gradient of the mean loss and the weight penalty."""
    penalised = _penalised(optimizer)

    def configured(widths: tuple[int, ...], setting: Setting) -> Config:
        del widths
        return Config(setting, pdadmm.admm.Config(), penalised)

    mus = (0.0, 1e-3, 1e-2)
    return Method(title, "rate", rates, mus, BACKPROP, configured, grows=grows, in_span=in_span)


def _penalised(optimizer: Optimizer) -> Optimizer:
    """The optimizer with mu W added to the gradient by every W, of a setting."""

    def made(setting: Setting) -> optax.GradientTransformation:
        rate, mu = setting
        return optax.chain(optax.add_decayed_weights(mu, mask=_without_b), optimizer(rate))

    return made


def _without_b(params: Any) -> Any:
    return [(True, False)] * len(params)


METHODS: Mapping[str, Method] = {
    "pdadmm_g": _pdadmm("pdADMM-G", None),
    "pdadmm_g_q": _pdadmm("pdADMM-G-Q", GRID),
    "sweeps": Method(
        "sweeps",
        "nu",
        (30.0,),
        (1e-3, 3e-3, 1e-2),
        SWEEPS,
        _sweeps,
        grows=True,
        in_span=True,
        in_stages=True,
    ),
    "gd": _backprop("gradient descent", optax.sgd, (0.03, 0.1, 0.3, 1.0), in_span=True),
    "adadelta": _backprop("Adadelta", optax.adadelta, (0.3, 1.0, 3.0, 10.0)),
    "adagrad": _backprop("Adagrad", optax.adagrad, (3e-3, 1e-2, 3e-2, 0.1)),
    "adam": _backprop("Adam", optax.adam, (1e-4, 3e-4, 1e-3, 3e-3)),
    "adam_grown": _backprop("Adam, grown", optax.adam, (1e-4, 3e-4, 1e-3, 3e-3), grows=True),
}
