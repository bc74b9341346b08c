"""Variants of pdADMM, one idea each, as methods to be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from jax import lax

import pdadmm_jax as pdadmm
from experiments.methods import Method
from experiments.methods.variables import weights_of
from experiments.quality import ideas
from experiments.quality import net as lines
from experiments.quality.ideas import every, inertial, relaxed, repeated
from experiments.quality.net import Given, Move, Net, in_turn
from pdadmm_jax._typing import Array, PRNGKeyArray

Numbers = tuple[float, ...]
PENALTIES = (1e-3, 1e-2, 0.1, 1.0)
STIFF = (1.0, 10.0, 100.0)
AT = "@"  # between a variant's name and the values of its numbers


@dataclass(frozen=True, eq=False)
class Variant:
    """Algorithm 1 with something changed.

    Attributes:
        title: what is changed.
        iteration: what an iteration does.
        hops: how many hops between neighbours have to wait for one another in an iteration, given
            the number of boundaries and the values of the numbers.
        penalties: values of nu to choose from.
        numbers: the numbers that are tuned beside nu, with values to choose from; the middle one
            is there first.
        fixed: numbers that are not tuned.
        hyper: changes of the hyperparameters.
        begin: what is changed at the start.
        remember: what is remembered from the start, by name.
        initializer: of the first weights.
        grows: whether it begins with half of the layers.
    """

    title: str
    iteration: Move
    hops: Callable[[int, Mapping[str, float]], float] = lambda boundaries, numbers: 1
    penalties: Numbers = PENALTIES
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    begin: Callable[[Net], Net] = lambda net: net
    remember: Mapping[str, Callable[[Net], Any]] = field(default_factory=dict)
    initializer: str | None = None
    grows: bool = False


NO_PROXIMAL = {"proximal": 0.0}
ADAM = {"moments": ideas.remember_moments}
BEFORE = {"before": ideas.remember_layers}
RATES = (3e-4, 1e-3, 3e-3)
weights = in_turn(lines.line_W, lines.line_b)
boundary = in_turn(lines.line_q, lines.line_u)
activations = lines.activations


def _after_synchronising(learn: Move, *, duals: bool) -> Move:
    """The forward pass, sweeps of the activations, then W from the forward pass against z."""
    sweeps = repeated(activations, "sweeps")
    begin = ideas.synchronised if duals else in_turn(ideas.synchronised, ideas.without_duals)
    return in_turn(begin, ideas.learning_from_forward(sweeps, learn))


def _hops_of_sweeps(boundaries: int, numbers: Mapping[str, float]) -> float:
    return boundaries + numbers["sweeps"]


def _hops_of_period(boundaries: int, numbers: Mapping[str, float]) -> float:
    return 1 + boundaries / numbers["period"]


far_damped = relaxed(ideas.damped_weights, "W", "b", factor="relaxation")
FAR = {"relaxation": (3.0, 10.0, 30.0)}
KEPT_DUALS = {
    "hops": _hops_of_sweeps,
    "penalties": STIFF,
    "fixed": {"sweeps": 8.0, "damping": 0.1, "inertia": 0.9},
    "hyper": NO_PROXIMAL,
}

VARIANTS: Mapping[str, Variant] = {
    "plain": Variant("as published", lines.plain),
    "rho": Variant("rho = 5 nu, certified", lines.plain, fixed={"rho/nu": 5.0}),
    "no_proximal": Variant("no proximal term in z", lines.plain, hyper=NO_PROXIMAL),
    "orthogonal": Variant("orthogonal first weights", lines.plain, initializer="orthogonal"),
    "grown": Variant("half of the layers at first", lines.plain, grows=True),
    "W_first": Variant("W and b before p", in_turn(weights, activations)),
    "z_first": Variant(
        "z, q and u before p and W", in_turn(lines.line_z, boundary, lines.line_p, weights)
    ),
    "stiff_p": Variant(
        "p stiffer",
        in_turn(
            relaxed(lines.line_p, "p", factor="share"), weights, lines.line_z, boundary
        ),
        numbers={"share": (0.03, 0.1, 0.3)},
    ),
    "penalties_grow": Variant(
        "penalties grow",
        in_turn(lines.plain, ideas.geometric),
        numbers={"growth": (1.01, 1.03, 1.1)},
    ),
    "penalties_shrink": Variant(
        "penalties shrink",
        in_turn(lines.plain, ideas.geometric),
        numbers={"growth": (0.9, 0.97, 0.99)},
    ),
    "penalties_by_layer": Variant(
        "penalties by layer",
        lines.plain,
        begin=ideas.by_layer,
        numbers={"per layer": (0.3, 0.5, 2.0, 3.0)},
    ),
    "balanced": Variant("residuals balanced", ideas.balanced(lines.plain)),
    "over_relaxed": Variant(
        "p and z over-relaxed",
        in_turn(
            relaxed(lines.line_p, "p", factor="relaxation"),
            weights,
            relaxed(lines.line_z, "z", factor="relaxation"),
            boundary,
        ),
        numbers={"relaxation": (1.5, 1.8)},
    ),
    "over_relaxed_duals": Variant(
        "q and u over-relaxed",
        in_turn(lines.line_p, weights, lines.line_z, ideas.over_relaxed_couplings),
        numbers={"relaxation": (1.5, 1.8)},
    ),
    "inertia_W": Variant(
        "inertia of W and b",
        inertial(lines.plain, "W", "b"),
        numbers={"inertia": (0.5, 0.8, 0.9)},
        remember=BEFORE,
    ),
    "inertia": Variant(
        "inertia of all variables",
        inertial(lines.plain, "p", "W", "b", "z", "q", "u"),
        numbers={"inertia": (0.3, 0.6, 0.9)},
        remember=BEFORE,
    ),
    "anderson": Variant(
        "Anderson's mixing of W and b",
        ideas.anderson(lines.plain),
        remember={"steps": ideas.remember_steps},
    ),
    "sweeps": Variant(
        "several sweeps of p, z, q, u per W",
        in_turn(repeated(activations, "sweeps"), weights),
        hops=lambda boundaries, numbers: numbers["sweeps"],
        numbers={"sweeps": (2.0, 4.0, 8.0)},
    ),
    "far_W": Variant(
        "W exact and damped, over-relaxed",
        in_turn(lines.line_p, far_damped, lines.line_z, boundary),
        numbers={"relaxation": (1.0, 1.5, 3.0)},
        fixed={"damping": 0.1},
    ),
    "local_adam": Variant(
        "Adam on the local direction",
        in_turn(lines.line_p, ideas.adam_on_local_directions, lines.line_z, boundary),
        numbers={"rate": RATES},
        remember=ADAM,
    ),
    "synchronised": Variant(
        "forward pass now and then, duals reset",
        in_turn(every(in_turn(ideas.synchronised, ideas.without_duals), "period"), lines.plain),
        hops=_hops_of_period,
        numbers={"period": (3.0, 10.0, 30.0)},
    ),
    "synchronised_keeping": Variant(
        "forward pass now and then, duals kept",
        in_turn(every(ideas.synchronised, "period"), lines.plain),
        hops=_hops_of_period,
        numbers={"period": (3.0, 10.0, 30.0)},
    ),
    "reset_far_W": Variant(
        "forward pass, duals reset, 8 sweeps, far W",
        _after_synchronising(far_damped, duals=False),
        numbers=FAR,
        **KEPT_DUALS,
    ),
    "kept_far_W": Variant(
        "forward pass, duals kept, 8 sweeps, far W",
        _after_synchronising(far_damped, duals=True),
        numbers=FAR,
        **KEPT_DUALS,
    ),
    "kept_adam": Variant(
        "forward pass, duals kept, 8 sweeps, Adam on W",
        _after_synchronising(ideas.adam_on_local_directions, duals=True),
        numbers={"rate": RATES},
        remember=ADAM,
        **KEPT_DUALS,
    ),
    "pipelined_far_W": Variant(
        "pipeline, far W",
        in_turn(ideas.pipelined, far_damped),
        penalties=STIFF,
        numbers=FAR,
        fixed={"damping": 0.1},
    ),
    "pipelined_adam": Variant(
        "pipeline, Adam on W",
        in_turn(ideas.pipelined, ideas.adam_on_local_directions),
        penalties=STIFF,
        numbers={"rate": RATES},
        remember=ADAM,
    ),
    "then_adam": Variant(
        "then Adam by back-propagation",
        ideas.then(lines.plain, ideas.adam_by_back_propagation, "after"),
        hops=lambda boundaries, numbers: 2 * boundaries,
        numbers={"after": (10.0, 30.0)},
        remember=ADAM,
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
        grow=lines.grow if variant.grows else None,
    )


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


NO_NUMBERS: Mapping[str, float] = MappingProxyType({})
