"""The variables of an ADMM as a plain list of layers, whatever its own state looks like."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp

import pdadmm_jax as pdadmm
from pdadmm_jax._typing import Array, Float, Number


class Layer(NamedTuple):
    """Variables of one layer and of the boundary below it, rows being samples.

    Penalties are the layer's own: nu on z = a and on q = f(z) above it, rho on p = q below it.
    """

    p: Float[Array, "N n_in"]  # input; the first layer's is the data and never moves
    q: Any  # like p, activation variable of the layer below; None in the first layer
    u: Any  # like p, dual variable of p = q; None in the first layer
    W: Float[Array, "n_in n_out"]
    b: Float[Array, " n_out"]
    a: Float[Array, "N n_out"]  # p W + b, carried
    z: Float[Array, "N n_out"]
    nu: Float[Array, ""]
    rho: Float[Array, ""]


Layers = tuple[Layer, ...]


def layers_of(state: pdadmm.State, data: pdadmm.Data, nu: Number, rho: Number) -> Layers:
    """The layers of a library's state that lives on one device, from input to output."""
    dtype = state.layers[0].z.dtype
    penalties = jnp.asarray(nu, dtype), jnp.asarray(rho, dtype)
    found = []
    for stack in state.layers:
        for k in range(len(stack.W)):
            p, q, u = (data.x, None, None) if stack.below is None else [v[k] for v in stack.below]
            found.append(Layer(p, q, u, stack.W[k], stack.b[k], stack.a[k], stack.z[k], *penalties))
    return tuple(found)


def weights_of(layers: Layers) -> pdadmm.Params:
    """Weights of all layers."""
    return [(layer.W, layer.b) for layer in layers]


def lagrangian(
    layers: Layers, data: pdadmm.Data, hyper: pdadmm.Hyperparameters
) -> Float[Array, ""]:
    """The augmented Lagrangian, every layer with its own penalties and mu = 0.

    Args:
        layers: the variables.
        data: what they belong to.
        hyper: gives activation and loss.
    """
    total = jnp.sum(hyper.loss.value(layers[-1].z, data.y))
    for own in layers:
        total += 0.5 * own.nu * jnp.sum((own.z - own.a) ** 2)
    for below, own in itertools.pairwise(layers):
        gap, slack = own.p - own.q, own.q - hyper.activation(below.z)
        total += 0.5 * below.nu * jnp.sum(slack**2)
        total += jnp.sum(own.u * gap) + 0.5 * own.rho * jnp.sum(gap**2)
    return total
