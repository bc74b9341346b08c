"""Synchronised sweeps, the recommended recipe, as one method among others."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import lax

import pdadmm_jax as pdadmm
from experiments.compare.methods.gradient import BATCH, batches_in
from experiments.compare.methods.method import Method
from experiments.compare.methods.variables import Layers, layers_of
from pdadmm_jax._typing import Array, PRNGKeyArray
from pdadmm_jax.numerics.products import multiply

Recipe = Callable[[Array], pdadmm.Sweeps]  # of the method's number


class Swept(NamedTuple):
    """What the sweeps keep, and what chooses the next order of the samples."""

    state: pdadmm.SweepState
    key: PRNGKeyArray


def full_sweeps(title: str, candidates: tuple[float, ...]) -> Method:
    """A pass is one sweep over all samples, then W and b solved; its number is nu."""
    return _method(
        title,
        "penalty",
        candidates,
        lambda nu: pdadmm.recommended(nu=nu),
        # Blocks stream: only the first up and the last down are waited for.
        hops=lambda boundaries, samples: 2 * boundaries,
    )


def batch_sweeps(title: str, candidates: tuple[float, ...]) -> Method:
    """A pass is a sweep for every batch of a random order; its number is Adam's learning rate."""

    def recipe(rate: Array) -> pdadmm.Sweeps:
        return pdadmm.recommended(BATCH, rule=pdadmm.Follow(rate))

    return _method(
        title,
        "rate",
        candidates,
        recipe,
        hops=lambda boundaries, samples: 2 * boundaries * batches_in(samples),
    )


def _method(
    title: str,
    number: str,
    candidates: tuple[float, ...],
    recipe: Recipe,
    hops: Callable[[int, int], float],
) -> Method:
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

    def variables(
        swept: Swept, data: pdadmm.Data, hyper: pdadmm.Hyperparameters, value: Array
    ) -> Layers:
        recipe = own(hyper, value)
        up = pdadmm.from_params(pdadmm.params(swept.state.weights), data, hyper)
        return _down(layers_of(up, data, recipe.nu, recipe.nu), data, hyper)

    return Method(
        title=title,
        number=number,
        candidates=candidates,
        published=None,
        start=start,
        advance=advance,
        params=lambda swept: pdadmm.params(swept.state.weights),
        variables=variables,
        hops=hops,
    )


def _down(layers: Layers, data: pdadmm.Data, hyper: pdadmm.Hyperparameters) -> Layers:
    """z and u of all layers, from the last to the first, as ``pdadmm_jax.stream`` finds them."""
    *lower, last = layers
    z, _ = pdadmm.update_z_output(last.z, last.a, data.y, hyper.loss, last.nu)
    found = [last._replace(z=z)]
    for layer in reversed(lower):
        above = found[0]
        u = multiply(above.nu * (above.z - above.a), above.W.T)
        found[0] = above._replace(u=u)
        away, _ = hyper.activation.respond(layer.a, u / layer.nu)
        found.insert(0, layer._replace(z=layer.a + away))
    return tuple(found)
