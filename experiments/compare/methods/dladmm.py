"""dlADMM, the sequential ADMM that pdADMM is compared with, on the same updates of one layer.

Wang, Yu, Chen and Zhao, "ADMM for Efficient Deep Learning with Global Convergence", KDD 2019,
arXiv:1905.13611, section 3:

    minimise  R(z_L; y) + (nu/2) sum_{l<L} (||z_l - p_l W_l - b_l||^2 + ||p_{l+1} - f(z_l)||^2)
    subject to  z_L = p_L W_L + b_L

with p_1 = x, and a dual variable u for the single constraint.  The inputs p_{l+1} (``a_l`` there)
take the place of q: there is nothing between neighbours, and so they cannot move at the same time.
An iteration goes through the layers from the last to the first and back.

The authors' code has one number for nu and rho, which it raises tenfold while the training loss
climbs; here the number stays what tuning made it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import pdadmm_jax as pdadmm
from experiments.compare.methods.method import Method
from pdadmm_jax._typing import Array, Float, PRNGKeyArray
from pdadmm_jax.numerics.products import multiply

SOLVER = pdadmm.UnitStep()  # the smallest admissible step sizes, in closed form


class Layer(NamedTuple):
    """Variables of one layer, rows being samples."""

    p: Float[Array, "N n_in"]  # input; the first layer's is the data and never moves
    W: Float[Array, "n_in n_out"]
    b: Float[Array, " n_out"]
    a: Float[Array, "N n_out"]  # p W + b, carried
    z: Float[Array, "N n_out"]


class State(NamedTuple):
    """All layers, from input to output, and the dual variable of z_L = p_L W_L + b_L."""

    layers: list[Layer]
    u: Float[Array, "N C"]


def start(
    params: pdadmm.Params,
    key: PRNGKeyArray,
    data: pdadmm.Data,
    hyper: pdadmm.Hyperparameters,
    penalty: Array,
) -> State:
    """The forward pass, all constraints holding, and no dual."""
    p, layers = jnp.array(data.x), []  # copies, for a state's memory is taken over
    for W, b in jax.tree.map(jnp.asarray, params):
        a = multiply(p, W) + b
        layers.append(Layer(p, W, b, a, jnp.array(a)))
        p = hyper.activation(a)
    return State(layers, jnp.zeros_like(layers[-1].a))


def advance(
    state: State,
    data: pdadmm.Data,
    hyper: pdadmm.Hyperparameters,
    penalty: Array,
    passes: int,
) -> State:
    """Some iterations; a pass is one, backward and forward."""
    hyper = hyper.replace(nu=penalty, rho=penalty, p_solver=SOLVER, W_solver=SOLVER)

    def once(state: State, _: None) -> tuple[State, None]:
        return iterate(state, data, hyper), None

    return lax.scan(once, state, length=passes)[0]


def iterate(state: State, data: pdadmm.Data, hyper: pdadmm.Hyperparameters) -> State:
    """One iteration: every layer's variables from the last to the first, then back, then u."""
    layers, u = list(state.layers), state.u
    last = len(layers) - 1

    def aim(k: int) -> Array:
        """What p W + b is drawn to; <u, z - a> only moves the centre of (rho/2) ||z - a||^2."""
        return layers[k].z + u / hyper.rho if k == last else layers[k].z

    def move_p_above(k: int) -> None:
        if k < last:
            f = hyper.activation(layers[k].z)
            layers[k + 1] = _move_p(layers[k + 1], aim(k + 1), f, hyper)

    def move_z(k: int) -> None:
        own = layers[k]
        if k == last:
            centre = own.a - u / hyper.rho
            z, _ = pdadmm.update_z_output(own.z, centre, data.y, hyper.loss, hyper.rho)
        else:
            z, _ = pdadmm.update_z(own.z, own.a, layers[k + 1].p, hyper.activation, 0.0)
        layers[k] = own._replace(z=z)

    for k in reversed(range(len(layers))):
        move_p_above(k)
        move_z(k)
        layers[k] = _move_b(layers[k], aim(k))
        layers[k] = _move_W(layers[k], aim(k), hyper)
    for k in range(len(layers)):
        layers[k] = _move_W(layers[k], aim(k), hyper)
        layers[k] = _move_b(layers[k], aim(k))
        move_z(k)
        move_p_above(k)
    return State(layers, u + hyper.rho * (layers[last].z - layers[last].a))


def _move_p(own: Layer, aim: Array, f_below: Array, hyper: pdadmm.Hyperparameters) -> Layer:
    """A step on argmin_p (nu/2) ||aim - p W - b||^2 + (nu/2) ||p - f_below||^2."""
    none, nu = jnp.zeros_like(f_below), hyper.nu
    moved = pdadmm.update_p(own.p, own.W, own.a, aim, f_below, none, nu, nu, hyper.p_solver)
    return own._replace(p=moved.value, a=moved.a)


def _move_W(own: Layer, aim: Array, hyper: pdadmm.Hyperparameters) -> Layer:
    moved = pdadmm.update_W(own.W, own.p, own.a, aim, hyper.nu, 0.0, hyper.W_solver)
    return own._replace(W=moved.value, a=moved.a)


def _move_b(own: Layer, aim: Array) -> Layer:
    b, a = pdadmm.update_b(own.b, own.a, aim)
    return own._replace(b=b, a=a)


def lagrangian(state: State, data: pdadmm.Data, hyper: pdadmm.Hyperparameters) -> Float[Array, ""]:
    """The augmented Lagrangian of the problem above."""
    *lower, last = state.layers
    gap = last.z - last.a
    risk = jnp.sum(hyper.loss.value(last.z, data.y))
    within = sum(jnp.sum((own.z - own.a) ** 2) for own in lower)
    between = sum(
        jnp.sum((above.p - hyper.activation(own.z)) ** 2)
        for own, above in zip(lower, state.layers[1:], strict=True)
    )
    dual = jnp.sum(state.u * gap) + 0.5 * hyper.rho * jnp.sum(gap**2)
    return risk + 0.5 * hyper.nu * (within + between) + dual


def params(state: State) -> pdadmm.Params:
    """Weights of all layers."""
    return [(layer.W, layer.b) for layer in state.layers]


METHOD = Method(
    title="dlADMM",
    number="penalty",
    candidates=(1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    published=1e-6,
    start=start,
    advance=advance,
    params=params,
    hops=lambda boundaries, samples: 2 * boundaries,  # from the last layer to the first and back
)
