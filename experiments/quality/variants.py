"""Variants of pdADMM, one idea each, as methods to be compared.

Where nothing else is said, a variant is Algorithm 1 with rho = nu and steps of p and W in closed
form per sample and neuron.  "Far W" is W by an exact solve held back by damping, and then farther
by a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import pdadmm_jax as pdadmm
from experiments.compare.methods import Method
from experiments.compare.methods.variables import Layers, weights_of
from experiments.quality import ideas
from experiments.quality import net as lines
from experiments.quality.ideas import every, inertial, relaxed, repeated
from experiments.quality.net import Given, Move, Net, in_turn
from pdadmm_jax._typing import Array, PRNGKeyArray

Numbers = tuple[float, ...]
Initializer = Callable[..., Array]
PENALTIES = (1e-3, 1e-2, 0.1, 1.0)
STIFF = (1.0, 10.0, 100.0)
SWEEP = 2  # hops: f(z) goes up, then q, which has f(z) in it, down
AT = "@"  # between a variant's name and the values of its numbers


weights = in_turn(lines.line_W, lines.line_b)
boundary = in_turn(lines.line_q, lines.line_u)
outputs = in_turn(lines.line_z, boundary)
activations = lines.activations


@dataclass(frozen=True, eq=False)
class Variant:
    """Algorithm 1 with something changed.

    Attributes:
        title: what is changed.
        before: what happens in an iteration before weights learn.
        learn: how they learn.
        after: what happens after that.
        around: makes of the whole iteration another one.
        hops: how many hops between neighbours have to wait for one another in an iteration, given
            the number of boundaries and the values of the numbers.
        penalties: values of nu to choose from.
        numbers: the numbers that are tuned beside nu, with values to choose from; the middle one
            is there first.
        fixed: numbers that are not tuned.
        hyper: changes of the hyperparameters.
        begin: what is changed at the start.
        remember: what is remembered from the start, by name.
        initializer: of the first weights, if it is not the network's.
        grows: whether it begins with half of the layers.
        readable: whether its variables are those of an ADMM until the end.
    """

    title: str
    before: Move = lines.line_p
    learn: Move = weights
    after: Move = outputs
    around: Callable[[Move], Move] = lambda iteration: iteration
    hops: Callable[[int, Mapping[str, float]], float] = lambda boundaries, numbers: SWEEP
    penalties: Numbers = PENALTIES
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    begin: Callable[[Net], Net] = lambda net: net
    remember: Mapping[str, Callable[[Net], Any]] = field(default_factory=dict)
    initializer: Initializer | None = None
    grows: bool = False
    readable: bool = True

    @property
    def iteration(self) -> Move:
        """One iteration."""
        return self.around(in_turn(self.before, self.learn, self.after))


NO_PROXIMAL = {"proximal": 0.0}
RATES = (3e-4, 1e-3, 3e-3)
ADAM = {"moments": ideas.remember_moments}
BEFORE = {"before": ideas.remember_layers}
ORTHOGONAL = jax.nn.initializers.orthogonal(2**0.5)  # keeps the size of what ReLU halves
DAMPED = relaxed(ideas.damped_weights, "W", "b", factor="relaxation")
DAMPED_BY_DELAY = relaxed(ideas.damped_weights, "W", "b", factor="relaxation", pace=ideas.by_delay)


def _nothing(net: Net, given: Given) -> Net:
    return net


def _now_and_then(move: Move) -> Mapping[str, Any]:
    """A variant that begins every so many-th iteration with a forward pass."""
    return {
        "before": in_turn(every(move, "period"), lines.line_p),
        "hops": lambda boundaries, numbers: SWEEP + boundaries / numbers["period"],
        "numbers": {"period": (3.0, 10.0, 30.0)},
    }


def _after_sweeps(synchronise: Move) -> Mapping[str, Any]:
    """A variant whose weights learn from a forward pass against z after eight sweeps."""
    sweeps = repeated(activations, "sweeps")
    return {
        "before": in_turn(synchronise, ideas.facing_forward(sweeps)),
        "after": _nothing,
        "hops": lambda boundaries, numbers: boundaries + SWEEP * numbers["sweeps"],
        "penalties": STIFF,
        "hyper": NO_PROXIMAL,
    }


def _pipelined(learn: Move) -> Mapping[str, Any]:
    """A variant in which p = q = f(a), and u comes from above, a hop further every iteration."""
    return {
        "before": ideas.pipelined,
        "learn": learn,
        "after": _nothing,
        "hops": lambda boundaries, numbers: 1,
        "penalties": STIFF,
    }


RESET = in_turn(ideas.synchronised, ideas.without_duals)
KEPT = ideas.synchronised
FAR = {"learn": DAMPED, "numbers": {"relaxation": (3.0, 10.0, 30.0)}}
EIGHT_SWEEPS = {"sweeps": 8.0, "damping": 0.1}

VARIANTS: Mapping[str, Variant] = {
    "plain": Variant("Algorithm 1"),
    "rho": Variant("rho = 5 nu, certified", fixed={"rho/nu": 5.0}),
    "no_proximal": Variant("no proximal term", hyper=NO_PROXIMAL),
    "orthogonal": Variant("orthogonal first weights", initializer=ORTHOGONAL),
    "grown": Variant("half of the layers at first", grows=True),
    "W_first": Variant("order W, b, p, z, q, u", before=_nothing, after=activations),
    "z_first": Variant(
        "order z, q, u, p, W, b", before=in_turn(outputs, lines.line_p), after=_nothing
    ),
    "stiff_p": Variant(
        "p stiffer",
        before=relaxed(lines.line_p, "p", factor="share"),
        numbers={"share": (0.03, 0.1, 0.3)},
    ),
    "penalties_grow": Variant(
        "penalties growing",
        after=in_turn(outputs, ideas.geometric),
        numbers={"growth": (1.01, 1.03, 1.1)},
    ),
    "penalties_shrink": Variant(
        "penalties shrinking",
        after=in_turn(outputs, ideas.geometric),
        numbers={"growth": (0.9, 0.97, 0.99)},
    ),
    "penalties_by_layer": Variant(
        "penalties by layer", begin=ideas.by_layer, numbers={"per layer": (0.3, 0.5, 2.0, 3.0)}
    ),
    "balanced": Variant("residuals balanced by rho", around=ideas.balanced),
    "over_relaxed": Variant(
        "p and z over-relaxed",
        before=relaxed(lines.line_p, "p", factor="relaxation"),
        after=in_turn(relaxed(lines.line_z, "z", factor="relaxation"), boundary),
        numbers={"relaxation": (1.5, 1.8)},
    ),
    "over_relaxed_duals": Variant(
        "q and u over-relaxed",
        after=in_turn(lines.line_z, ideas.over_relaxed_couplings),
        numbers={"relaxation": (1.5, 1.8)},
    ),
    "inertia_W": Variant(
        "inertia of W and b",
        around=lambda iteration: inertial(iteration, "W", "b"),
        numbers={"inertia": (0.5, 0.8, 0.9)},
        remember=BEFORE,
    ),
    "inertia": Variant(
        "inertia of all variables",
        around=lambda iteration: inertial(iteration, "p", "W", "b", "z", "q", "u"),
        numbers={"inertia": (0.2, 0.4, 0.8)},
        remember=BEFORE,
    ),
    "anderson": Variant(
        "Anderson's mixing of W and b",
        around=ideas.anderson,
        remember={"steps": ideas.remember_steps},
    ),
    "sweeps_between": Variant(
        "several sweeps of p, z, q, u per W",
        before=in_turn(repeated(activations, "extra sweeps"), lines.line_p),
        hops=lambda boundaries, numbers: SWEEP * (1 + numbers["extra sweeps"]),
        numbers={"extra sweeps": (1.0, 3.0, 9.0)},
    ),
    "far_W": Variant(
        "W exact, damped, over-relaxed",
        learn=DAMPED,
        numbers={"relaxation": (1.0, 1.5, 2.0)},
        fixed={"damping": 0.1},
    ),
    "local_adam": Variant(
        "Adam on the local direction",
        learn=ideas.adam_on_local_directions,
        numbers={"rate": RATES},
        remember=ADAM,
    ),
    "synchronised": Variant("forward pass now and then, u reset", **_now_and_then(RESET)),
    "synchronised_kept": Variant("forward pass now and then, u kept", **_now_and_then(KEPT)),
    "reset_far_W": Variant(
        "forward pass, u reset, 8 sweeps, far W",
        **_after_sweeps(RESET),
        **FAR,
        fixed=EIGHT_SWEEPS,
    ),
    "kept_far_W": Variant(
        "forward pass, u kept, 8 sweeps, far W", **_after_sweeps(KEPT), **FAR, fixed=EIGHT_SWEEPS
    ),
    "kept_adam": Variant(
        "forward pass, u kept, 8 sweeps, Adam on W",
        **_after_sweeps(KEPT),
        learn=ideas.adam_on_local_directions,
        numbers={"rate": RATES},
        fixed=EIGHT_SWEEPS,
        remember=ADAM,
    ),
    "pipelined_adam": Variant(
        "pipeline, Adam on W",
        **_pipelined(ideas.adam_on_local_directions),
        numbers={"rate": RATES},
        remember=ADAM,
    ),
    "pipelined_far_W": Variant(
        "pipeline, far W",
        **_pipelined(DAMPED),
        numbers={"relaxation": (1.0, 2.0, 4.0), "damping": (0.01, 0.03, 0.1)},
    ),
    "pipelined_by_delay": Variant(
        "pipeline, far W by delay",
        **_pipelined(DAMPED_BY_DELAY),
        numbers={"relaxation": (5.0, 10.0, 20.0), "damping": (0.01, 0.03, 0.1)},
    ),
    "pipelined_against": Variant(
        "pipeline, far W, inertia below 0",
        **_pipelined(DAMPED),
        around=lambda iteration: inertial(iteration, "W", "b"),
        numbers={
            "relaxation": (2.0, 4.0, 6.0),
            "damping": (0.01, 0.03, 0.1),
            "inertia": (-0.8, -0.5, -0.3),
        },
        remember=BEFORE,
    ),
    "pipelined_pauses": Variant(
        "pipeline, far W now and then",
        **_pipelined(every(DAMPED, "period")),
        numbers={"period": (4.0, 8.0, 16.0)},
        fixed={"relaxation": 10.0, "damping": 0.03},
    ),
    "then_adam": Variant(
        "then Adam by back-propagation",
        around=lambda iteration: ideas.then(iteration, ideas.adam_by_back_propagation, "after"),
        hops=lambda boundaries, numbers: 2 * boundaries,
        numbers={"after": (10.0, 30.0)},
        remember=ADAM,
        readable=False,
    ),
}


def named(name: str, values: Numbers) -> str:
    """The name of a method: a variant with these values of its numbers."""
    return AT.join([name, *(f"{value:g}" for value in values)])


def numbers_of(name: str) -> dict[str, float]:
    """The numbers of a method of this name, those that are not tuned among them."""
    variant, *values = name.split(AT)
    found = VARIANTS[variant]
    return {**found.fixed, **dict(zip(found.numbers, map(float, values), strict=True))}


def method_of(name: str) -> Method:
    """The method of this name; nu is its number."""
    variant = VARIANTS[name.split(AT)[0]]
    numbers = numbers_of(name)

    def start(
        params: pdadmm.Params,
        key: PRNGKeyArray,
        data: pdadmm.Data,
        hyper: pdadmm.Hyperparameters,
        nu: Array,
    ) -> Net:
        given = _given(variant, data, hyper)
        values = {name: jnp.asarray(value, nu.dtype) for name, value in numbers.items()}
        rho = nu * jnp.asarray(numbers.get("rho/nu", 1.0), nu.dtype)
        net = variant.begin(lines.start(params, given, nu, rho, values))
        return net._replace(memory={name: make(net) for name, make in variant.remember.items()})

    return Method(
        title=variant.title,
        number="nu",
        candidates=variant.penalties,
        published=None,
        start=start,
        advance=_advance(variant),
        params=lambda net: weights_of(net.layers),
        grow=_grow if variant.grows else None,
        variables=_variables(variant) if variant.readable else None,
        hops=lambda boundaries, samples: variant.hops(boundaries, numbers),
    )


def _grow(net: Net, hyper: pdadmm.Hyperparameters, number: Array, layers: int) -> Net:
    del number  # layers know their own nu
    return lines.grow(net, hyper, layers)


def _given(variant: Variant, data: pdadmm.Data, hyper: pdadmm.Hyperparameters) -> Given:
    unit = pdadmm.UnitStep()
    return Given(data, hyper.replace(p_solver=unit, W_solver=unit, **variant.hyper))


@cache
def _advance(variant: Variant) -> Callable[..., Net]:
    """Some iterations; one function per variant, whatever its numbers, so that it compiles once."""

    def advance(
        net: Net, data: pdadmm.Data, hyper: pdadmm.Hyperparameters, nu: Array, passes: int
    ) -> Net:
        given = _given(variant, data, hyper)

        def once(net: Net, _: None) -> tuple[Net, None]:
            net = variant.iteration(net, given)
            return net._replace(iteration=net.iteration + 1), None

        return lax.scan(once, net, length=passes)[0]

    return advance


@cache
def _variables(variant: Variant) -> Callable[..., Layers]:
    """The variables as weights see them: what comes before in an iteration is done."""

    @jax.jit
    def seen(net: Net, data: pdadmm.Data, hyper: pdadmm.Hyperparameters, nu: Array) -> Layers:
        return variant.before(net, _given(variant, data, hyper)).layers

    return seen
