"""pdADMM as one method among others."""

from __future__ import annotations

import pdadmm_jax as pdadmm
from experiments.compare.methods.method import Method
from experiments.compare.methods.variables import Layers, layers_of
from pdadmm_jax._typing import Array, PRNGKeyArray


def parallel_admm(
    title: str, solver: pdadmm.Solver, candidates: tuple[float, ...], published: float | None
) -> Method:
    """pdADMM with nu = rho, as in the paper; a pass is one iteration.

    Args:
        title: its name in tables and figures.
        solver: how far steps of p and of W go.
        candidates: values of nu = rho to try.
        published: the paper's.
    """

    def own(hyper: pdadmm.Hyperparameters, penalty: Array) -> pdadmm.Hyperparameters:
        return hyper.replace(nu=penalty, rho=penalty, p_solver=solver, W_solver=solver)

    def start(
        params: pdadmm.Params,
        key: PRNGKeyArray,
        data: pdadmm.Data,
        hyper: pdadmm.Hyperparameters,
        penalty: Array,
    ) -> pdadmm.State:
        return pdadmm.from_params(params, data, own(hyper, penalty))

    def advance(
        state: pdadmm.State,
        data: pdadmm.Data,
        hyper: pdadmm.Hyperparameters,
        penalty: Array,
        passes: int,
    ) -> pdadmm.State:
        return pdadmm.run(state, data, own(hyper, penalty), passes)[0]

    def grow(
        state: pdadmm.State, hyper: pdadmm.Hyperparameters, penalty: Array, layers: int
    ) -> pdadmm.State:
        return pdadmm.grow(state, own(hyper, penalty), layers)

    def variables(
        state: pdadmm.State, data: pdadmm.Data, hyper: pdadmm.Hyperparameters, penalty: Array
    ) -> Layers:
        return layers_of(state, data, penalty, penalty)

    return Method(
        title=title,
        number="penalty",
        candidates=candidates,
        published=published,
        start=start,
        advance=advance,
        params=pdadmm.params,
        grow=grow,
        variables=variables,
        hops=lambda boundaries, samples: 2,  # f(z) up, then q, which has f(z) in it, down
    )
