"""How W and b follow what one layer's samples ask of them, when they are updated batch by batch.

A sweep (``sweeps``) leaves every layer with its inputs p and with r = nu (z - a), how far its
samples want a = p W + b to move.  A rule sees their means over a batch and knows one layer, no mesh
and no samples.
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
from pdadmm_jax.admm.solvers import cholesky
from pdadmm_jax.admm.state import Weights

Memory = Any  # a rule's own pytree


class Wish(NamedTuple):
    """What the samples of a batch ask of one layer, as means over them.

    Attributes:
        W: p^T r, the direction in which each weight would serve them; the negative gradient of
            the mean risk, as far as r is that of the risk.
        b: the same of the intercept, r.
        p: their inputs.
        gram: p^T p; None for rules that do not ask for it.
    """

    W: Float[Array, "n_in n_out"]
    b: Float[Array, " n_out"]
    p: Float[Array, " n_in"]
    gram: Float[Array, "n_in n_in"] | None


@runtime_checkable
class Rule(Protocol):
    """A pytree dataclass whose numbers are leaves.

    ``grams`` says whether it wants p^T p, which costs one product more per layer.
    """

    grams: ClassVar[bool]

    def init(self, weights: Weights) -> Memory:
        """What it remembers before the first batch, for one layer's W (n_in, n_out) and b."""
        ...

    def move(
        self, weights: Weights, wish: Wish, memory: Memory, nu: Number
    ) -> tuple[Weights, Memory]:
        """How far W and b move, and what it remembers from now on."""
        ...


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Proximal:
    """Line 2 and line 3 of Algorithm 1 at once, solved exactly near the old weights, with inertia.

    Of all changes of W and b it takes

        argmin  mean ||z - p W - b||^2 + ridge m ||(W, b) - (W, b)_old||^2,

    m being the mean diagonal entry of the Gram matrix of (p, 1).  Since z - a = r / nu, it goes
    along the Gram matrix's inverse times p^T r, by 1/nu: nu is the inverse of a learning rate.
    The inertia is Polyak's heavy ball: a step goes on with ``inertia`` of the one before, so that
    steps are 1 / (1 - inertia) times as long in the end.

    Attributes:
        ridge: weight of the proximal term.
        inertia: share of the last move that is made again, from 0 to below 1.
        average: share of the last batches' Gram matrix in the one that is used, from 0 (for full
            batches) to below 1; one small batch alone does not know all directions.
    """

    ridge: Number = 0.01
    inertia: Number = 0.9
    average: Number = 0.0
    grams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridge", checked_number("ridge", self.ridge, above=0.0))
        for name in ("inertia", "average"):
            share = checked_number(name, getattr(self, name), above=0.0, allowed=True, below=1.0)
            object.__setattr__(self, name, share)

    def init(self, weights: Weights) -> Memory:
        n_in = weights.W.shape[0]
        gram = jnp.zeros((n_in + 1, n_in + 1), weights.W.dtype)
        return jax.tree.map(jnp.zeros_like, weights), gram, jnp.zeros((), weights.W.dtype)

    def move(
        self, weights: Weights, wish: Wish, memory: Memory, nu: Number
    ) -> tuple[Weights, Memory]:
        velocity, gram, weight = memory
        assert wish.gram is not None
        one = jnp.ones((1, 1), wish.gram.dtype)
        new = jnp.block([[wish.gram, wish.p[:, None]], [wish.p[None], one]])
        gram = self.average * gram + (1 - self.average) * new
        weight = self.average * weight + (1 - self.average)  # so that the first counts in full
        mean = gram / weight
        factor = cholesky(mean, self.ridge * jnp.trace(mean) / len(mean))
        wishes = jnp.concatenate([wish.W, wish.b[None]]) / nu
        step = jax.scipy.linalg.cho_solve((factor, True), wishes)
        velocity = jax.tree.map(
            lambda old, new: self.inertia * old + new, velocity, Weights(step[:-1], step[-1])
        )
        return velocity, (velocity, gram, weight)


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Follow:
    """An Optax transformation, given -p^T r in place of a gradient.

    Attributes:
        rate: what its result is multiplied by.
        transformation: one without a learning rate of its own, ``optax.scale_by_adam()`` by
            default.  It is part of the program: make it once, not anew for every call.
    """

    rate: Number = 1e-3
    transformation: optax.GradientTransformation = dataclasses.field(
        default=optax.scale_by_adam(), metadata={"static": True}
    )
    grams: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", checked_number("rate", self.rate, above=0.0))

    def init(self, weights: Weights) -> Memory:
        return self.transformation.init(weights)

    def move(
        self, weights: Weights, wish: Wish, memory: Memory, nu: Number
    ) -> tuple[Weights, Memory]:
        del nu
        slope = Weights(-wish.W, -wish.b)
        with jax.numpy_dtype_promotion("standard"):  # Optax's counters multiply floats
            moves, memory = self.transformation.update(slope, memory, weights)
        return jax.tree.map(lambda move: -self.rate * move, moves), memory
