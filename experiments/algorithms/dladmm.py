"""dlADMM, the sequential ADMM that pdADMM is compared with, on the same updates of one layer.

Wang, Yu, Chen and Zhao, "ADMM for Efficient Deep Learning with Global Convergence", KDD 2019,
arXiv:1905.13611, section 3:

    minimise  R(z_L; y) + (nu/2) sum_{l<L} (||z_l - p_l W_l - b_l||^2 + ||p_{l+1} - f(z_l)||^2)
    subject to  z_L = p_L W_L + b_L

with p_1 = x, and a dual variable u for the single constraint.  The inputs p_{l+1} (``a_l`` there)
take the place of q: there is nothing between neighbours, which therefore cannot be updated at the
same time.  An iteration goes through the layers from the last to the first and back.

The authors' code has one number for nu and rho, which it raises tenfold while the training loss
climbs; here the number stays what tuning made it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import pdadmm_jax as pdadmm
from experiments.algorithms.algorithm import Algorithm
from pdadmm_jax._typing import Array, Float, Int, PRNGKeyArray
from pdadmm_jax.admm import updates
from pdadmm_jax.admm.solvers import UnitStep
from pdadmm_jax.numerics.products import multiply

SOLVER = UnitStep()  # the smallest admissible step sizes, in closed form


class Layer(NamedTuple):
    """Variables of one layer, rows being samples."""

    p: Float[Array, "N n_in"]  # input; the first layer's is the data and is never updated
    W: Float[Array, "n_in n_out"]
    b: Float[Array, " n_out"]
    a: Float[Array, "N n_out"]  # p W + b, carried
    z: Float[Array, "N n_out"]


class State(NamedTuple):
    """All layers, from input to output, and the dual variable of z_L = p_L W_L + b_L."""

    layers: list[Layer]
    u: Float[Array, "N C"]
    iteration: Int[Array, ""]


class Info(NamedTuple):
    """Whether the dual variable, into which all layers go, is finite."""

    finite: Any


def configured(problem: pdadmm.admm.Config, penalty: Any) -> pdadmm.admm.Config:
    """Activation and loss of a problem, nu = rho = penalty, and the steps of this algorithm."""
    return problem.replace(nu=penalty, rho=penalty, p_solver=SOLVER, W_solver=SOLVER)


def from_params(params: pdadmm.Params, data: pdadmm.Data, config: pdadmm.admm.Config) -> State:
    """The forward pass, all constraints holding, and no dual."""
    p, layers = jnp.array(data.x), []  # copies, for a state's memory is donated
    for W, b in jax.tree.map(jnp.array, params):
        a = multiply(p, W) + b
        layers.append(Layer(p, W, b, a, jnp.array(a)))
        p = config.activation(a)
    return State(layers, jnp.zeros_like(layers[-1].a), jnp.zeros((), jnp.int32))


def run(
    state: State,
    data: pdadmm.Data,
    config: pdadmm.admm.Config,
    key: PRNGKeyArray,
    steps: int,
) -> tuple[State, Info]:
    """Some iterations, each backward and forward; nothing in them is random."""
    del key

    def once(state: State, _: None) -> tuple[State, Info]:
        state = iterate(state, data, config)
        return state, Info(jnp.isfinite(jnp.sum(state.u)))

    return lax.scan(once, state, length=steps)


def iterate(state: State, data: pdadmm.Data, config: pdadmm.admm.Config) -> State:
    """One iteration: every layer's variables from the last to the first, then back, then u."""
    layers, u = list(state.layers), state.u
    last = len(layers) - 1

    def target(k: int) -> Array:
        """What p W + b is drawn to; <u, z - a> only shifts the centre of (rho/2) ||z - a||^2."""
        return layers[k].z + u / config.rho if k == last else layers[k].z

    def update_p_above(k: int) -> None:
        if k < last:
            f = config.activation(layers[k].z)
            layers[k + 1] = _update_p(layers[k + 1], target(k + 1), f, config)

    def update_z(k: int) -> None:
        own = layers[k]
        if k == last:
            centre = own.a - u / config.rho
            z, _ = updates.update_z_output(own.z, centre, data.y, config.loss, config.rho)
        else:
            z, _ = updates.update_z(own.z, own.a, layers[k + 1].p, config.activation, 0.0)
        layers[k] = own._replace(z=z)

    for k in reversed(range(len(layers))):
        update_p_above(k)
        update_z(k)
        layers[k] = _update_b(layers[k], target(k))
        layers[k] = _update_W(layers[k], target(k), config)
    for k in range(len(layers)):
        layers[k] = _update_W(layers[k], target(k), config)
        layers[k] = _update_b(layers[k], target(k))
        update_z(k)
        update_p_above(k)
    u = u + config.rho * (layers[last].z - layers[last].a)
    return State(layers, u, state.iteration + 1)


def _update_p(own: Layer, target: Array, f_below: Array, config: pdadmm.admm.Config) -> Layer:
    """A step on argmin_p (nu/2) ||target - p W - b||^2 + (nu/2) ||p - f_below||^2."""
    none, nu = jnp.zeros_like(f_below), config.nu
    step = updates.update_p(own.p, own.W, own.a, target, f_below, none, nu, nu, config.p_solver)
    return own._replace(p=step.value, a=step.a)


def _update_W(own: Layer, target: Array, config: pdadmm.admm.Config) -> Layer:
    step = updates.update_W(own.W, own.p, own.a, target, config.nu, 0.0, config.W_solver)
    return own._replace(W=step.value, a=step.a)


def _update_b(own: Layer, target: Array) -> Layer:
    b, a = updates.update_b(own.b, own.a, target)
    return own._replace(b=b, a=a)


def lagrangian(state: State, data: pdadmm.Data, config: pdadmm.admm.Config) -> Float[Array, ""]:
    """The augmented Lagrangian of the problem above."""
    *lower, last = state.layers
    gap = last.z - last.a
    risk = jnp.sum(config.loss.value(last.z, data.y))
    within = sum(jnp.sum((own.z - own.a) ** 2) for own in lower)
    between = sum(
        jnp.sum((above.p - config.activation(own.z)) ** 2)
        for own, above in zip(lower, state.layers[1:], strict=True)
    )
    dual = jnp.sum(state.u * gap) + 0.5 * config.rho * jnp.sum(gap**2)
    return risk + 0.5 * config.nu * (within + between) + dual


def params(state: State) -> pdadmm.Params:
    """Weights of all layers."""
    return [(layer.W, layer.b) for layer in state.layers]


def evaluate(state: State, data: pdadmm.Data, config: pdadmm.admm.Config) -> tuple[Any, Any]:
    """Mean loss and accuracy of the forward pass."""
    return pdadmm.evaluate(params(state), data, config)


DLADMM = Algorithm(from_params, run, evaluate, params)
