"""What to look at while layers learn on their own: does what they see point downhill?

A layer's local direction is minus the gradient of its own term, nu p^T (z - a).  It is compared
with minus the gradient of the summed risk of the forward pass, which back-propagation computes
here: to look at, never to train with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

import pdadmm_jax as pdadmm
from experiments.compare.methods.variables import Layers, lagrangian, weights_of
from pdadmm_jax._typing import Array, Float
from pdadmm_jax.numerics.products import multiply

Directions = Sequence[Float[Array, "_n_in _n_out"]]  # of W, one of each layer


class Agreement(NamedTuple):
    """Local directions against true ones, layer by layer."""

    cosine: Float[Array, " layers"]  # 0 where one of the two vanishes
    ratio: Float[Array, " layers"]  # of the norms, local over true; 0 where both vanish


class Readings(NamedTuple):
    """What the instruments show.

    Attributes:
        lagrangian: augmented Lagrangian per sample.
        loss: of the forward pass, per sample.
        own: directions from the state's own p, a and z.
        forward: directions from p and a of the forward pass, against the state's z.
    """

    lagrangian: Float[Array, ""]
    loss: Float[Array, ""]
    own: Agreement
    forward: Agreement


@jax.jit
def read(layers: Layers, data: pdadmm.Data, hyper: pdadmm.Hyperparameters) -> Readings:
    """All instruments at once.

    Args:
        layers: the variables.
        data: what they belong to.
        hyper: gives activation and loss.
    """
    weights = weights_of(layers)
    true = true_directions(weights, data, hyper)
    return Readings(
        lagrangian=lagrangian(layers, data, hyper) / data.x.shape[0],
        loss=pdadmm.mean_loss(weights, data, hyper),
        own=agreement(local_directions(layers), true),
        forward=agreement(local_directions(forward_pass(layers, hyper)), true),
    )


def local_directions(layers: Layers) -> Directions:
    """nu p^T (z - a) of every layer."""
    return [own.nu * multiply(own.p.T, own.z - own.a) for own in layers]


def forward_pass(layers: Layers, hyper: pdadmm.Hyperparameters) -> Layers:
    """The same layers, p and a those of the forward pass, all else as it was."""
    found, p = [], layers[0].p
    for own in layers:
        a = multiply(p, own.W) + own.b
        found.append(own._replace(p=p, a=a))
        p = hyper.activation(a)
    return tuple(found)


def true_directions(
    weights: pdadmm.Params, data: pdadmm.Data, hyper: pdadmm.Hyperparameters
) -> Directions:
    """Minus the gradient of the summed risk of the forward pass, by back-propagation."""

    def risk(weights: pdadmm.Params) -> Array:
        return jnp.sum(hyper.loss.value(pdadmm.forward(weights, data.x, hyper), data.y))

    return [-slope for slope, _ in jax.grad(risk)(weights)]


def agreement(local: Directions, true: Directions) -> Agreement:
    """Cosine and ratio of norms, layer by layer."""
    pairs = [_compared(one, other) for one, other in zip(local, true, strict=True)]
    return Agreement(*map(jnp.stack, zip(*pairs, strict=True)))


def _compared(local: Array, true: Array) -> tuple[Array, Array]:
    """Both in units of their largest entries, or squares of faint signals would round to 0."""
    (local, size), (true, true_size) = _scaled(local), _scaled(true)
    norm, true_norm = jnp.linalg.norm(local), jnp.linalg.norm(true)
    both = (norm > 0) & (true_norm > 0)
    cosine = jnp.sum(local * true) / jnp.where(both, norm * true_norm, 1)
    ratio = norm * size / jnp.where(true_norm > 0, true_norm * true_size, 1)
    return cosine, jnp.where((true_norm > 0) | (norm == 0), ratio, jnp.inf)


def _scaled(direction: Array) -> tuple[Array, Array]:
    peak = jnp.max(jnp.abs(direction))
    return direction / jnp.where(peak > 0, peak, 1), peak
