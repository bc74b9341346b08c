"""Synchronised sweeps, the recommended recipe, as one method among others."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import lax

import pdadmm_jax as pdadmm
from experiments.methods.gradient import BATCH
from experiments.methods.method import Method
from pdadmm_jax._typing import Array, PRNGKeyArray

Recipe = Callable[[Array], pdadmm.Sweeps]  # of the method's number


class Swept(NamedTuple):
    """What the sweeps keep, and what chooses the next order of the samples."""

    state: pdadmm.SweepState
    key: PRNGKeyArray


def full_sweeps(title: str, candidates: tuple[float, ...]) -> Method:
    """A pass is one sweep over all samples, then W and b solved; its number is nu."""
    return _method(title, "penalty", candidates, lambda nu: pdadmm.recommended(nu=nu))


def batch_sweeps(title: str, candidates: tuple[float, ...]) -> Method:
    """A pass is a sweep for every batch of a random order; its number is Adam's learning rate."""

    def recipe(rate: Array) -> pdadmm.Sweeps:
        return pdadmm.recommended(BATCH, rule=pdadmm.Follow(rate))

    return _method(title, "rate", candidates, recipe)


def _method(title: str, number: str, candidates: tuple[float, ...], recipe: Recipe) -> Method:
    def own(hyper: pdadmm.Hyperparameters, value: Array) -> pdadmm.Sweeps:
        return recipe(value).replace(
            activation=hyper.activation, loss=hyper.loss, precision=hyper.precision
        )

    def start(
        params: pdadmm.Params,
        key: PRNGKeyArray,
        data: pdadmm.Data,
        hyper: pdadmm.Hyperparameters,
        value: Array,
    ) -> Swept:
        return Swept(pdadmm.init_sweeps(params, data, own(hyper, value)), key)

    def advance(
        swept: Swept,
        data: pdadmm.Data,
        hyper: pdadmm.Hyperparameters,
        value: Array,
        passes: int,
    ) -> Swept:
        def one_pass(swept: Swept, _: None) -> tuple[Swept, None]:
            key, order = jax.random.split(swept.key)
            state = pdadmm.sweep(swept.state, data, own(hyper, value), order)[0]
            return Swept(state, key), None

        return lax.scan(one_pass, swept, length=passes)[0]

    return Method(
        title=title,
        number=number,
        candidates=candidates,
        published=None,
        start=start,
        advance=advance,
        params=lambda swept: pdadmm.params(swept.state.weights),
    )
