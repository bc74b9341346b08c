"""Update rules: how W and b follow the samples of a batch.

A sweep (``passes``) leaves every layer with its inputs p and with r = nu (z - a), how far its
samples want a = p W + b to move.  A rule sees their means over a batch, knows one layer, no mesh
and no samples, and returns updates, which are added to the weights as Optax adds its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from pdadmm_jax._checks import checked_number
from pdadmm_jax._pytree import pytree_dataclass
from pdadmm_jax._typing import Array, Float, Number
from pdadmm_jax.numerics.linear_solve import regularized
from pdadmm_jax.numerics.products import multiply
from pdadmm_jax.parallel.groups import Weights
from pdadmm_jax.problems.problem import resolve

RuleState = Any  # a rule's own pytree


class LayerStatistics(NamedTuple):
    """What the samples of a batch say about one layer, as means over them.

    Attributes:
        W: p^T r, the direction in which each weight would serve them; the negative gradient of
            the mean risk, as far as r is that of the risk.
        b: the same of the intercept, r.
        p: their inputs.
        gram: p^T p; None for rules that do not ask for it.
        square: ||r||^2; None likewise.
        number: how many samples they are.
    """

    W: Float[Array, "n_in n_out"]
    b: Float[Array, " n_out"]
    p: Float[Array, " n_in"]
    gram: Float[Array, "n_in n_in"] | None
    square: Float[Array, ""] | None = None
    number: Float[Array, ""] | None = None

    @property
    def gradient(self) -> Weights:
        """What an optimizer takes for the gradient: the negative directions."""
        return Weights(-self.W, -self.b)


@runtime_checkable
class Rule(Protocol):
    """A pytree dataclass whose numbers are leaves.

    ``needs_gram`` says whether it wants p^T p, which costs one product more per layer, and
    ||r||^2.
    """

    needs_gram: ClassVar[bool]

    def init(self, weights: Weights) -> RuleState:
        """The state before the first batch, for one layer's W (n_in, n_out) and b (n_out,)."""
        ...

    def update(
        self, statistics: LayerStatistics, state: RuleState, weights: Weights, nu: Number
    ) -> tuple[Weights, RuleState]:
        """What is added to W and b, and the next state."""
        ...


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Proximal:
    """Line 2 and line 3 of Algorithm 1 at once, solved exactly near the old weights, with momentum.

    Of all changes of W and b it takes

        argmin  mean ||z - p W - b||^2 + ridge m ||(W, b) - (W, b)_old||^2,

    m being the mean diagonal entry of the Gram matrix of (p, 1).  Since z - a = r / nu, it goes
    along the Gram matrix's inverse times p^T r, by 1/nu: nu is the inverse of a learning rate.
    The momentum is Polyak's heavy ball: steps are 1 / (1 - momentum) times as long in the end.  An
    update that is too long for the weights it is added to, by Frobenius norms of (W; b), is
    shortened, and so is what momentum makes of it.  All of that in turn may be shortened to nothing
    in the course of the run, so that steps which overshoot together end in one place.

    Attributes:
        ridge: weight of the proximal term.
        momentum: share of the last update that is made again, from 0 to below 1.
        average: share of the last batches' Gram matrix in the one that is used, from 0 (for full
            batches) to below 1; one small batch alone does not know all directions.
        clipping: the longest update, as a share of the weights it is added to; weights shorter
            than a tenth of orthonormal columns count as long as that.  None for no limit.
        updates: after how many W and b move no more, their updates falling to 0 along half a
            cosine; None for no end.
        least_f: the least F statistic of r's regression on (p, 1) by which a layer moves; None
            for no such test.  By 1 it rests, and forgets its momentum, while its inputs explain
            less of r than they would of noise, which it would then fit.  For all samples at once:
            of a small batch, inputs explain much.
    """

    ridge: Number = 0.01
    momentum: Number = 0.9
    average: Number = 0.0
    clipping: Number | None = None
    updates: Number | None = None
    least_f: Number | None = None
    needs_gram: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridge", checked_number("ridge", self.ridge, above=0.0))
        for name in ("momentum", "average"):
            share = checked_number(name, getattr(self, name), above=0.0, allowed=True, below=1.0)
            object.__setattr__(self, name, share)
        for name in ("clipping", "updates", "least_f"):
            if (number := getattr(self, name)) is not None:
                number = checked_number(name, number, above=0.0, allowed=name == "least_f")
                object.__setattr__(self, name, number)

    def init(self, weights: Weights) -> RuleState:
        n_in = weights.W.shape[0]
        gram = jnp.zeros((n_in + 1, n_in + 1), weights.W.dtype)
        state = jax.tree.map(jnp.zeros_like, weights), gram, jnp.zeros((), weights.W.dtype)
        return state if self.updates is None else (*state, jnp.zeros((), jnp.int32))

    def update(
        self, statistics: LayerStatistics, state: RuleState, weights: Weights, nu: Number
    ) -> tuple[Weights, RuleState]:
        velocity, gram, weight, *count = state
        assert statistics.gram is not None
        one = jnp.ones((1, 1), statistics.gram.dtype)
        new = jnp.block([[statistics.gram, statistics.p[:, None]], [statistics.p[None], one]])
        gram = self.average * gram + (1 - self.average) * new
        weight = self.average * weight + (1 - self.average)  # so that the first counts in full
        mean = gram / weight
        ridge = self.ridge * jnp.trace(mean) / len(mean)
        inverse = regularized(mean, ridge)
        directions = jnp.concatenate([statistics.W, statistics.b[None]])
        explained = multiply(inverse, directions)
        step = multiply(inverse.T, explained) / nu
        velocity = jax.tree.map(
            lambda old, new: self.momentum * old + new, velocity, Weights(step[:-1], step[-1])
        )
        if self.least_f is not None:
            freedom = len(mean) - ridge * jnp.sum(jnp.square(inverse))
            below = _f_below(self.least_f, jnp.sum(jnp.square(explained)), freedom, statistics)
            velocity = jax.tree.map(lambda update: jnp.where(below, 0, update), velocity)
        if self.clipping is not None:
            n_out = weights.W.shape[-1]
            longest = self.clipping * jnp.maximum(_norm(weights), 0.1 * n_out**0.5)
            share = longest / jnp.maximum(_norm(velocity), longest)
            velocity = jax.tree.map(lambda update: share * update, velocity)
        kept = velocity, gram, weight
        if self.updates is None:
            return velocity, kept
        (done,) = count
        left = falling(done, self.updates, weights.W.dtype)
        return jax.tree.map(lambda update: left * update, velocity), (*kept, done + 1)


def _f_below(least: Number, explained: Array, freedom: Array, statistics: LayerStatistics) -> Array:
    """Whether the F statistic of the ridge regression of r on (p, 1) is below a number.

    That is (explained / freedom) / (unexplained / (number - freedom)), about 1 where r is noise.

    Args:
        least: the number.
        explained: what the regression explains of the mean ||r||^2.
        freedom: its degrees of freedom, the trace of its projection.
        statistics: of the layer.
    """
    number, square = statistics.number, statistics.square
    assert number is not None
    assert square is not None
    # Without quotients, which r = 0 has no numbers for; what is NaN is not below, and shows.
    return explained * (number - freedom) < least * freedom * (square - explained)


def _norm(weights: Weights) -> Array:
    """The Frobenius norm of (W; b)."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(part)) for part in weights))


def falling(done: Array, updates: Number, dtype: Any) -> Array:
    """What is left after some updates of a rate that falls to 0 along half a cosine."""
    share = jnp.minimum(done.astype(dtype) / updates, 1)
    return (1 + jnp.cos(jnp.pi * share)) / 2


@dataclasses.dataclass(frozen=True)
class RateRule:
    """What rules share that scale an Optax direction, which counts its updates, by a rate.

    The rate is constant, or falls to 0 along half a cosine.
    """

    rate: Number
    updates: Number | None = None
    needs_gram: ClassVar[bool] = False
    direction: ClassVar[optax.GradientTransformation]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", checked_number("rate", self.rate, above=0.0))
        if self.updates is not None:
            object.__setattr__(self, "updates", checked_number("updates", self.updates, above=0.0))

    def init(self, weights: Weights) -> RuleState:
        return self.direction.init(weights)

    def update(
        self, statistics: LayerStatistics, state: RuleState, weights: Weights, nu: Number
    ) -> tuple[Weights, RuleState]:
        del nu
        rate = self._current(state.count, weights)
        updates, state = optax_update(self.direction, statistics.gradient, state, weights)
        return jax.tree.map(lambda update: -rate * update, updates), state

    def _current(self, count: Array, weights: Weights) -> Number:
        """The rate after so many updates."""
        if self.updates is None:
            return self.rate
        return self.rate * falling(count, self.updates, weights.W.dtype)


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Adam(RateRule):
    """Adam (Kingma and Ba, 2015) with a rate that is a number of the configuration.

    ``optax.adam(rate)`` is the same rule, and ``optax.adam(optax.cosine_decay_schedule(rate,
    updates))``, compiled again for every rate.

    Attributes:
        rate: learning rate, of the first update.
        updates: after how many it has fallen to 0, along half a cosine; None for a constant rate.
    """

    rate: Number = 1e-3
    direction: ClassVar[optax.GradientTransformation] = optax.scale_by_adam()


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Lion(RateRule):
    """Lion (Chen et al., 2023, arXiv:2302.06675) with a rate that is a number as well.

    Every weight moves by the rate, in the direction on which this batch and those before agree.
    So the length of a step never rests on what batches long ago were like, which may be why weights
    that are some batches late (``Config.schedule``) learn as well by it; Adam's do not.
    ``optax.lion(rate, weight_decay=0)`` is the same rule, compiled again for every rate.

    Attributes:
        rate: how far a weight moves, about a tenth of what serves Adam.
        updates: after how many it moves no more; see ``Adam``.
    """

    rate: Number = 1e-4
    direction: ClassVar[optax.GradientTransformation] = optax.scale_by_lion()


class ProdigyState(NamedTuple):
    """What ``Prodigy`` keeps of a layer.

    Attributes:
        adam: Adam's averages, of the gradients times the estimates of their time.
        first: x_0, the first weights of the neurons by which the rate is estimated.
        gradients: s, the decaying sum of their gradients.
        products: r, the same of the inner products with x_0 - x.
        estimate: d, the rate of the next update.
    """

    adam: Any
    first: Weights
    gradients: Weights
    products: Float[Array, ""]
    estimate: Float[Array, ""]


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Prodigy(RateRule):
    """Adam with a rate that every layer estimates for itself, during the run.

    As far as the risk is convex, x_0 - x_min is at least as long, by its largest entry, as
    sum <g, x_0 - x> / ||sum g||_1.  The largest such bound so far is the rate (Prodigy, Mishchenko
    and Defazio, 2024, arXiv:2306.06101, algorithm 4).  It grows from any small number within some
    updates, so that nothing has to be known of widths, depth or data.

    Two things differ from ``optax.contrib.prodigy``.  Every layer has an estimate of its own, for
    which no device waits for another.  A sixteenth of a layer's neurons, 16 at least, stand for all
    of them in the sums, which otherwise take an eighth more time and as much memory as Adam again.

    Attributes:
        rate: what the estimate is multiplied by.
        updates: after how many that has fallen to 0, along half a cosine; None for a constant one.
        start: the first estimate, far below what a rate may be.
    """

    rate: Number = 1.0
    start: Number = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "start", checked_number("start", self.start, above=0.0))

    def init(self, weights: Weights) -> RuleState:
        some = jax.tree.map(jnp.copy, _some_neurons(weights))
        zero = jnp.zeros((), weights.W.dtype)
        nothing = jax.tree.map(jnp.zeros_like, some)
        return ProdigyState(self._adam().init(weights), some, nothing, zero, zero + self.start)

    def update(
        self, statistics: LayerStatistics, state: RuleState, weights: Weights, nu: Number
    ) -> tuple[Weights, RuleState]:
        del nu
        gradient, estimate = statistics.gradient, state.estimate
        rate = self._current(state.adam.count, weights) * estimate
        scaled = jax.tree.map(lambda part: estimate * part, gradient)
        updates, adam = optax_update(self._adam(), scaled, state.adam, weights)
        done = adam.count.astype(estimate.dtype)
        share = rate * estimate * jnp.sqrt(1 - _B2**done) / (1 - _B1**done)
        some, there = _some_neurons(gradient), _some_neurons(weights)
        inner = jax.tree.map(
            lambda part, first, now: jnp.sum(part * (first - now)), some, state.first, there
        )
        products = _B2**0.5 * state.products + share * sum(inner)
        gradients = jax.tree.map(
            lambda old, new: _B2**0.5 * old + share * new, state.gradients, some
        )
        size = sum(jnp.sum(jnp.abs(part)) for part in gradients)
        # Without any gradient so far, as behind neurons that are 0, nothing is known.
        bound = products / jnp.where(size == 0, 1, size)
        updates = jax.tree.map(lambda update: -rate * update, updates)
        kept = ProdigyState(adam, state.first, gradients, products, jnp.maximum(estimate, bound))
        return updates, kept

    def _adam(self) -> optax.GradientTransformation:
        # It averages gradients times estimates, beside which 1e-8 alone might not be small.
        return optax.scale_by_adam(_B1, _B2, eps=1e-8 * self.start)


_B1, _B2 = 0.9, 0.999  # Adam's, of which Prodigy's sums take the square root of the second


def _some_neurons(layer: Weights) -> Weights:
    """The columns of the first neurons, a sixteenth of them, 16 at least."""
    number = max(16, layer.b.shape[-1] // 16)
    return jax.tree.map(lambda part: part[..., :number], layer)


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class OptaxRule:
    """Any complete Optax optimizer; ``Config`` makes one of every optimizer it is given.

    The optimizer sees what ``params`` returns, a list of (W, b).  Where it moves every layer as it
    would alone (``separable``), layers of one shape are updated together and the layers may lie on
    several stages.

    Attributes:
        optimizer: part of the program: make it once, not anew for every call.
    """

    optimizer: optax.GradientTransformation = dataclasses.field(metadata={"static": True})
    needs_gram: ClassVar[bool] = False

    def init(self, weights: Weights) -> RuleState:
        return self.optimizer.init([tuple(weights)])

    def update(
        self, statistics: LayerStatistics, state: RuleState, weights: Weights, nu: Number
    ) -> tuple[Weights, RuleState]:
        del nu
        gradient, layer = [tuple(statistics.gradient)], [tuple(weights)]
        ((W, b),), state = optax_update(self.optimizer, gradient, state, layer)
        return Weights(W, b), state


RULES: dict[str, Rule] = {
    "proximal": Proximal(),
    "adam": Adam(),
    "lion": Lion(),
    "prodigy": Prodigy(),
}


def resolve_rule(config: Any) -> None:
    """Puts a rule into the place of an Optax optimizer or a name in a frozen configuration.

    Raises:
        ValueError: a name that is not known, or something else.
    """
    if isinstance(config.rule, optax.GradientTransformation):
        object.__setattr__(config, "rule", OptaxRule(config.rule))
    try:
        resolve(config, "rule", Rule, RULES)
    except ValueError as error:
        raise ValueError(f"{str(error)[:-1]}, or an Optax optimizer.") from None


def optax_update(
    optimizer: optax.GradientTransformation, gradient: Any, state: RuleState, params: Any
) -> tuple[Any, RuleState]:
    """One update of an optimizer, whose counters multiply floats in whatever promotion mode."""
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.update(gradient, state, params)
