"""Ideas of how layers might learn better, each a move or a change of moves, to be put together.

Numbers that are tuned are found in the net by name; what is remembered between iterations has its
place there from the start, made by a function ``remember_...``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

import pdadmm_jax as pdadmm
from experiments.compare.methods.variables import Layer, Layers, weights_of
from experiments.quality import net as lines
from experiments.quality.instruments import forward_pass
from experiments.quality.net import Given, Move, Net
from pdadmm_jax._typing import Array
from pdadmm_jax.numerics.products import multiply

# Steps: longer, shorter, repeated, now and then


def alike(factor: Array, hops: int) -> Array:
    """The same factor for all layers, however many hops below the last one."""
    return factor


def by_delay(factor: Array, hops: int) -> Array:
    """The factor over the iterations that a change takes to the last layer and back, 1 + 2 hops."""
    return factor / (1 + 2 * hops)


def relaxed(
    move: Move, *fields: str, factor: str, pace: Callable[[Array, int], Array] = alike
) -> Move:
    """Goes ``factor`` times as far as the move.

    Args:
        move: of p alone, of W and b alone (a goes with them, linearly), or of z, q and u.
        *fields: variables that it moves.
        factor: name of the number, below 1 for stiffer variables and above 1 for over-relaxed ones.
        pace: what becomes of the number in a layer so many hops below the last one.
    """

    def farther(net: Net, given: Given) -> Net:
        by = net.numbers[factor]
        pairs = zip(net.layers, move(net, given).layers, strict=True)
        moved = tuple(
            _between(old, new, fields, pace(by, len(net.layers) - 1 - k))
            for k, (old, new) in enumerate(pairs)
        )
        return net._replace(layers=moved)

    return farther


def _between(old: Layer, new: Layer, fields: tuple[str, ...], by: Array) -> Layer:
    values = {name: (getattr(old, name), getattr(new, name)) for name in (*fields, "a")}
    moved = {name: v + by * (w - v) for name, (v, w) in values.items() if v is not None}
    return new._replace(**moved)


def repeated(move: Move, times: str) -> Move:
    """The move so many times."""

    def often(net: Net, given: Given) -> Net:
        many = net.numbers[times].astype(jnp.int32)
        return lax.fori_loop(0, many, lambda _, net: move(net, given), net)

    return often


def every(move: Move, period: str) -> Move:
    """The move in every so many-th iteration, the first one included."""

    def sometimes(net: Net, given: Given) -> Net:
        due = net.iteration % jnp.maximum(net.numbers[period].astype(jnp.int32), 1) == 0
        return lax.cond(due, lambda net: move(net, given), lambda net: net, net)

    return sometimes


# Penalties


def geometric(net: Net, given: Given) -> Net:
    """Multiplies all penalties by the number ``growth``."""
    by = net.numbers["growth"]
    return net._replace(layers=tuple(k._replace(nu=by * k.nu, rho=by * k.rho) for k in net.layers))


def by_layer(net: Net) -> Net:
    """Penalties that grow by the number ``per layer`` from every layer to the one below it."""
    depth, by = len(net.layers), net.numbers["per layer"]
    factors = [by ** (depth - k) for k in range(1, depth + 1)]
    pairs = zip(net.layers, factors, strict=True)
    return net._replace(layers=tuple(k._replace(nu=f * k.nu, rho=f * k.rho) for k, f in pairs))


def balanced(move: Move) -> Move:
    """Doubles or halves rho of a boundary where p - q and rho (q - old q) differ tenfold.

    Residual balancing of Boyd et al., "Distributed Optimization and Statistical Learning via the
    Alternating Direction Method of Multipliers", 2011, section 3.4.1.
    """

    def balance(old: Layer, new: Layer) -> Layer:
        if new.q is None:
            return new
        primal, dual = jnp.linalg.norm(new.p - new.q), new.rho * jnp.linalg.norm(new.q - old.q)
        factor = jnp.where(primal > 10 * dual, 2.0, jnp.where(dual > 10 * primal, 0.5, 1.0))
        return new._replace(rho=new.rho * factor.astype(new.rho.dtype))

    def and_balance(net: Net, given: Given) -> Net:
        after = move(net, given)
        return after._replace(layers=tuple(map(balance, net.layers, after.layers)))

    return and_balance


def over_relaxed_couplings(net: Net, given: Given) -> Net:
    """Lines 5 and 6 with r p + (1 - r) q in place of p, r the number ``relaxation``.

    The over-relaxation of ADMM: Boyd et al. 2011, section 3.4.3.
    """
    by = net.numbers["relaxation"]

    def mixed(own: Layer) -> Layer:
        return own if own.q is None else own._replace(p=by * own.p + (1 - by) * own.q)

    found = lines.in_turn(lines.line_q, lines.line_u)(
        net._replace(layers=tuple(map(mixed, net.layers))), given
    )
    pairs = zip(net.layers, found.layers, strict=True)
    return net._replace(layers=tuple(own._replace(q=new.q, u=new.u) for own, new in pairs))


# Acceleration


def remember_layers(net: Net) -> Layers:
    """The variables themselves."""
    return jax.tree.map(jnp.array, net.layers)


def inertial(move: Move, *fields: str) -> Move:
    """Heavy ball: after the move, variables go on by ``inertia`` times how far they last went.

    Below 0 it holds them back, against the oscillations of what answers late.
    """

    def ball(net: Net, given: Given) -> Net:
        after, by = move(net, given), net.numbers["inertia"]

        def carried(before: Layer, now: Layer, new: Layer) -> Layer:
            going = {
                name: getattr(new, name) + by * (getattr(now, name) - getattr(before, name))
                for name in fields
                if getattr(now, name) is not None
            }
            return _consistent(new._replace(**going))

        layers = tuple(map(carried, net.memory["before"], net.layers, after.layers))
        return after._replace(layers=layers, memory={**net.memory, "before": net.layers})

    return ball


def _consistent(own: Layer) -> Layer:
    """A computed anew."""
    return own._replace(a=multiply(own.p, own.W) + own.b)


HISTORY = 5  # iterations that Anderson's mixing looks back


def remember_steps(net: Net) -> dict[str, Array]:
    """Room for the last weights and the steps from them."""
    flat, _ = _flat(net.layers)
    room = jnp.zeros((HISTORY, flat.size), flat.dtype)
    return {"weights": room, "steps": jnp.array(room)}


def anderson(move: Move) -> Move:
    """Anderson's mixing of the weights of all layers (type II), over the last iterations.

    The mixture of the last steps that is shortest, its coefficients summing to 1, is what the
    weights do instead of the last step: Walker and Ni, SIAM J. Numer. Anal. 49, 2011.
    """

    def mixing(net: Net, given: Given) -> Net:
        after = move(net, given)
        (old, _), (new, rebuilt) = _flat(net.layers), _flat(after.layers)
        kept = net.memory["steps"]
        weights = jnp.concatenate([kept["weights"][1:], old[None]])
        steps = jnp.concatenate([kept["steps"][1:], (new - old)[None]])
        full = net.iteration >= HISTORY - 1
        gram = multiply(steps, steps.T)
        ridge = 1e-6 * jnp.trace(gram) + jnp.finfo(old.dtype).tiny
        share = jnp.linalg.solve(
            gram + ridge * jnp.eye(HISTORY, dtype=old.dtype), jnp.ones(HISTORY)
        )
        mixed = multiply((share / jnp.sum(share))[None], weights + steps)[0]
        layers = tuple(map(_consistent, rebuilt(jnp.where(full, mixed, new))))
        memory = {**net.memory, "steps": {"weights": weights, "steps": steps}}
        return after._replace(layers=layers, memory=memory)

    return mixing


def _flat(layers: Layers) -> tuple[Array, Callable[[Array], Layers]]:
    """All weights in one row, and the way back."""
    flat, back = ravel_pytree(weights_of(layers))

    def rebuilt(row: Array) -> Layers:
        pairs = zip(layers, back(row), strict=True)
        return tuple(own._replace(W=W, b=b) for own, (W, b) in pairs)

    return flat, rebuilt


# The forward pass within training


def synchronised(net: Net, given: Given) -> Net:
    """P, q, z and a of the forward pass, duals kept; takes a hop for every boundary, in turn."""
    layers = forward_pass(net.layers, given.hyper)
    return net._replace(layers=tuple(_at_rest(own) for own in layers))


def without_duals(net: Net, given: Given) -> Net:
    """Duals zero."""
    first, *upper = net.layers
    return net._replace(layers=(first, *(k._replace(u=jnp.zeros_like(k.p)) for k in upper)))


def _at_rest(own: Layer) -> Layer:
    return own._replace(z=own.a, q=None if own.q is None else own.p)


def facing_forward(sweeps: Move) -> Move:
    """The sweeps, and then p and a as they were before them, against z as it is after them."""

    def move(net: Net, given: Given) -> Net:
        swept = sweeps(net, given)
        pairs = zip(net.layers, swept.layers, strict=True)
        return swept._replace(layers=tuple(new._replace(p=old.p, a=old.a) for old, new in pairs))

    return move


# The pipeline: nothing waits for more than one hop


def pipelined(net: Net, given: Given) -> Net:
    """Forward values stream upward and duals downward, a layer further in every iteration.

    Every layer takes f(a) of the layer below and u of the layer above as they were one iteration
    ago, hence p = q = f(a), and solves its z-problem with u in place of q: after every iteration
    of pdADMM u = nu (q - f(z)) (Lemma 4), with which line 4 without its proximal term becomes
    z = argmin (nu/2) ||z - a||^2 - <u, f(z)>.  Its own u = nu (z - a) W^T, which the layer below
    gets, is the one that makes p stationary at p = q.
    """
    hyper, layers = given.hyper, net.layers
    last, moved = len(layers) - 1, []
    for k, own in enumerate(layers):
        p = hyper.activation(layers[k - 1].a) if k else own.p
        a = multiply(p, own.W) + own.b
        if k == last:
            z, _ = pdadmm.update_z_output(own.z, a, given.data.y, hyper.loss, own.nu)
        else:
            z = pulled_z(a, layers[k + 1].u / own.nu, hyper.activation)
        below = {"q": p, "u": own.nu * multiply(z - a, own.W.T)} if k else {}
        moved.append(own._replace(p=p, a=a, z=z, **below))
    return net._replace(layers=tuple(moved))


def pulled_z(a: Array, pull: Array, activation: pdadmm.Activation) -> Array:
    """Argmin (z - a)^2 / 2 - pull f(z) for f = max(z, slope z), entry by entry.

    Raises:
        ValueError: an activation that is not of this kind.
    """
    if not isinstance(activation, pdadmm.LeakyReLU):
        raise ValueError(f"the pipeline needs relu or leaky_relu, but was given {activation}.")
    return a + activation.respond(a, pull)[0]


# How weights move


def damped_weights(net: Net, given: Given) -> Net:
    """Lines 2 and 3 with an exact solve of W that is held back by the number ``damping``.

    argmin_D (nu/2) ||z - a - p D||^2 + (damping mean / 2) ||D||^2, ``mean`` being the mean diagonal
    entry of nu p^T p.
    """
    exact = given.hyper.replace(W_solver=pdadmm.Exact(net.numbers["damping"]))
    return lines.in_turn(lines.line_W, lines.line_b)(net, given._replace(hyper=exact))


def remember_moments(net: Net) -> Any:
    """Adam's state."""
    return optax.adam(1.0).init(weights_of(net.layers))


def adam_on_local_directions(net: Net, given: Given) -> Net:
    """W and b by Adam along each layer's own nu p^T (z - a) and its sum, per sample."""

    def slope(own: Layer) -> tuple[Array, Array]:
        pull = own.nu * (own.a - own.z) / own.p.shape[0]
        return multiply(own.p.T, pull), jnp.sum(pull, 0)

    return _adam(net, list(map(slope, net.layers)), net.numbers["rate"])


def adam_by_back_propagation(net: Net, given: Given) -> Net:
    """W and b by Adam along the gradient of the mean risk, at its usual rate."""
    slopes = jax.grad(pdadmm.mean_loss)(weights_of(net.layers), given.data, given.hyper)
    return _adam(net, slopes, jnp.asarray(1e-3, net.layers[0].W.dtype))


def _adam(net: Net, slopes: Any, rate: Array) -> Net:
    weights = weights_of(net.layers)
    changes, moments = optax.adam(rate).update(slopes, net.memory["moments"], weights)
    new: Any = optax.apply_updates(weights, changes)
    pairs = zip(net.layers, new, strict=True)
    layers = tuple(_consistent(own._replace(W=W, b=b)) for own, (W, b) in pairs)
    return net._replace(layers=layers, memory={**net.memory, "moments": moments})


def then(first: Move, second: Move, after: str) -> Move:
    """The first move for so many iterations, from then on the second."""

    def move(net: Net, given: Given) -> Net:
        early = net.iteration < net.numbers[after].astype(jnp.int32)
        return lax.cond(early, lambda n: first(n, given), lambda n: second(n, given), net)

    return move
