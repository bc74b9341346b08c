"""pdADMM on a plain list of layers: lines of Algorithm 1 as moves that can be put together anew.

A move takes all variables and gives all variables.  Within it the layers do not wait for each
other: each reads what its neighbours had before, one exchange away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pdadmm_jax as pdadmm
from experiments.compare.methods.variables import Layer, Layers
from pdadmm_jax._typing import Array, Float, Int
from pdadmm_jax.numerics.products import multiply


class Net(NamedTuple):
    """All variables, and what an idea needs beside them.

    Attributes:
        layers: from input to output.
        iteration: how many iterations were done.
        numbers: numbers of an idea, by name; with the variables, so that none compiles anew.
        memory: what an idea remembers of earlier iterations, by name.
    """

    layers: Layers
    iteration: Int[Array, ""]
    numbers: Mapping[str, Float[Array, ""]]
    memory: Mapping[str, Any]


class Given(NamedTuple):
    """What never changes while training.

    Attributes:
        data: training samples.
        hyper: activation, loss, solvers and the weight of the proximal term; penalties are the
            layers' own.
    """

    data: pdadmm.Data
    hyper: pdadmm.Hyperparameters


Move = Callable[[Net, Given], Net]


def start(
    weights: pdadmm.Params,
    given: Given,
    nu: Float[Array, ""],
    rho: Float[Array, ""],
    numbers: Mapping[str, Array],
) -> Net:
    """The forward pass, all constraints holding, duals zero; nothing remembered."""
    p, layers = jnp.array(given.data.x), []  # copies, for a state's memory is taken over
    for k, (W, b) in enumerate(jax.tree.map(jnp.asarray, weights)):
        a = multiply(p, W) + b
        q, u = (jnp.array(p), jnp.zeros_like(p)) if k else (None, None)
        own = Layer(p, q, u, jnp.array(W), jnp.array(b), a, jnp.array(a), nu, rho)
        layers.append(jax.tree.map(jnp.array, own))
        p = given.hyper.activation(a)
    return Net(tuple(layers), jnp.asarray(0, jnp.int32), dict(numbers), {})


def line_p(net: Net, given: Given) -> Net:
    """Line 1."""
    solver = given.hyper.p_solver

    def moved(own: Layer) -> Layer:
        p, a, _ = pdadmm.update_p(own.p, own.W, own.a, own.z, own.q, own.u, own.nu, own.rho, solver)
        return own._replace(p=p, a=a)

    first, *upper = net.layers
    return net._replace(layers=(first, *map(moved, upper)))


def line_W(net: Net, given: Given) -> Net:
    """Line 2."""
    mu, solver = given.hyper.mu, given.hyper.W_solver

    def moved(own: Layer) -> Layer:
        W, a, _ = pdadmm.update_W(own.W, own.p, own.a, own.z, own.nu, mu, solver)
        return own._replace(W=W, a=a)

    return net._replace(layers=tuple(map(moved, net.layers)))


def line_b(net: Net, given: Given) -> Net:
    """Line 3."""

    def moved(own: Layer) -> Layer:
        b, a = pdadmm.update_b(own.b, own.a, own.z)
        return own._replace(b=b, a=a)

    return net._replace(layers=tuple(map(moved, net.layers)))


def line_z(net: Net, given: Given) -> Net:
    """Line 4, with q of the layer above."""
    hyper = given.hyper

    def moved(own: Layer, above: Layer) -> Layer:
        z, _ = pdadmm.update_z(own.z, own.a, above.q, hyper.activation, hyper.proximal)
        return own._replace(z=z)

    *lower, last = net.layers
    z, _ = pdadmm.update_z_output(last.z, last.a, given.data.y, hyper.loss, last.nu)
    lower = map(moved, lower, net.layers[1:])
    return net._replace(layers=(*lower, last._replace(z=z)))


def line_q(net: Net, given: Given) -> Net:
    """Line 5, with f(z) of the layer below."""

    def moved(below: Layer, own: Layer) -> Layer:
        f = given.hyper.activation(below.z)
        return own._replace(q=pdadmm.update_q(own.p, own.u, f, below.nu, own.rho))

    first, *upper = net.layers
    return net._replace(layers=(first, *map(moved, net.layers, upper)))


def line_u(net: Net, given: Given) -> Net:
    """Line 6."""

    def moved(own: Layer) -> Layer:
        return own._replace(u=pdadmm.update_u(own.u, own.p, own.q, own.rho))

    first, *upper = net.layers
    return net._replace(layers=(first, *map(moved, upper)))


def in_turn(*moves: Move) -> Move:
    """One move after the other."""

    def move(net: Net, given: Given) -> Net:
        for one in moves:
            net = one(net, given)
        return net

    return move


plain = in_turn(line_p, line_W, line_b, line_z, line_q, line_u)  # Algorithm 1
activations = in_turn(line_p, line_z, line_q, line_u)  # the same with the weights at rest


def grow(net: Net, hyper: pdadmm.Hyperparameters, layers: int) -> Net:
    """Identity layers before the output layer, as ``pdadmm_jax.grow`` inserts them."""
    *lower, output = net.layers
    p, nu, rho = output.p, output.nu, output.rho
    dual = nu * (p - hyper.activation(p))
    eye, zeros = jnp.eye(p.shape[1], dtype=p.dtype), jnp.zeros(p.shape[1], p.dtype)
    new = Layer(p, p, dual, eye, zeros, p, p, nu, rho)
    inserted = [new._replace(q=output.q, u=output.u), *[new] * (layers - 1)]
    grown = (*lower, *inserted, output._replace(q=p, u=dual))
    # Copies, for no array may be given away twice.
    return net._replace(layers=jax.tree.map(jnp.array, grown))
