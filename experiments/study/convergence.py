"""``python -m experiments study convergence``: what the paper's theory says, checked on real runs.

Two settings, the same network and the same starts: the paper's penalties, rho = nu, which its
theory does not cover, and rho raised into the certified region.  Of each run,

- Lemma 1: the augmented Lagrangian never rises, but for rounding;
- Theorem 2: the primal residual sum_l ||p_{l+1} - q_l||^2 goes to zero;
- Theorem 3: steps become short at the rate o(1/k).

The last one is about c_k, the smallest squared step of the first k iterations,

    c_k = min_{i <= k} sum_l ||dp_l||^2 + ||dW_l||^2 + ||db_l||^2 + ||dz_l||^2 + ||dq_l||^2,

d being the change in iteration i.  By Lemma 1 in full the Lagrangian falls in every iteration by
these squares, each times a constant: tau/2 >= rho/2 for p, theta/2 for W, nu N/2 for b, C1 for
hidden z and nu/2 for the last, C2 for q.  It is bounded below, so that the squares can be added up
over all iterations, and the running minimum c_k of what can be added up is o(1/k): k c_k -> 0.
(theta alone depends on the run: it is nu ||p dW||^2 / ||dW||^2.)  No finite run proves a limit;
what is checked is the exponent of c_k, fitted over the second half of the iterations: below -1,
k c_k goes to zero if it goes on like that.

The Lagrangian may go to zero while the network learns little, for the auxiliary variables can
absorb the labels.  So the loss of the forward pass is drawn beside it.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from rich.progress import track
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments import build
from experiments.algorithms.admm import ADMM
from experiments.algorithms.loop import Programs, Schedule
from experiments.options.network import MethodConfig
from experiments.report.measurement import Measurement, table
from experiments.runtime.compilation_cache import enable_compilation_cache
from experiments.runtime.errors import usage_errors
from experiments.runtime.interrupts import INTERRUPTED, Interrupted, stop_requests
from experiments.study.history import (
    INTERRUPTION,
    REFRESH_EVERY,
    ROUNDING,
    History,
    Problem,
    Report,
    Rises,
    error,
    finite_ones,
    history,
    problem,
    report_of,
    rises,
)
from experiments.study.options import ConvergenceConfig

FALLEN = 1e-2  # a residual that is going to zero has come to this share of its largest value
RATE = -1.0  # exponent of c_k that Theorem 3 asks for more than
FAILED = 1

COLUMNS = """\
L/N: Lagrangian, and loss: forward pass, per training sample; accuracy: on held-out samples
rises: of the Lagrangian, the largest as a share of its first value; residual: last over largest
exponent: of c_k, the smallest squared step of k iterations, in k"""


class Setting(NamedTuple):
    """One choice of penalties, and the runs with it.

    Attributes:
        name: what to call it.
        config: with these penalties.
        certified: whether the theory covers them.
        histories: one of every seed.
    """

    name: str
    config: pdadmm.admm.Config
    certified: bool
    histories: list[History]


class Verdict(NamedTuple):
    """What was checked on one run.

    Attributes:
        rises: of the Lagrangian.
        never_rose: whether rounding explains them all.
        residual: the last over the largest.
        exponent: of c_k in k.
    """

    rises: Rises
    never_rose: bool
    residual: float
    exponent: float


def main(options: ConvergenceConfig) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    jax.config.update("jax_enable_x64", options.double)
    enable_compilation_cache()
    dtype = np.dtype(np.float64 if options.double else np.float32)
    with usage_errors():
        given, settings = _prepared(options, dtype)
    measurement = Measurement("convergence", options)
    measurement.show(given.described(options.iterations))
    schedule = Schedule(options.iterations, options.evaluate_every, REFRESH_EVERY)
    programs = Programs()
    jobs = track(
        list(itertools.product(settings, range(options.seeds))),
        "runs",
        console=measurement.console,
        disable=not measurement.console.is_terminal,
    )
    with stop_requests() as asked, contextlib.suppress(Interrupted):
        for (_, config, _, histories), seed in jobs:
            start = given.start(seed, config)
            histories.append(history(RECORDED, given, seed, start, schedule, programs, asked))
    rounding = ROUNDING[dtype.name]
    measurement.show(COLUMNS)
    for setting in settings:
        measurement.show(_table(setting, given.splits.samples, rounding))
    complaints = [complaint for one in settings for complaint in complaints_of(one, rounding)]
    if complaints:
        measurement.show(error(complaints))
    if asked:
        measurement.show(INTERRUPTION)
    elif not complaints:
        measurement.show(_all_kept(rounding))
    title = f"pdADMM on {given.name}, {given.network}"
    if any(finite_ones(one.histories) for one in settings):
        measurement.draw("study.convergence_figure", settings, given.splits.samples, title)
    measurement.save({one.name: _plain(one, rounding) for one in settings})
    if asked:
        return INTERRUPTED
    return FAILED if complaints else 0


def _prepared(options: ConvergenceConfig, dtype: np.dtype) -> tuple[Problem, list[Setting]]:
    """The problem and the settings, without runs."""
    method = MethodConfig(
        nu=options.nu,
        rho=options.nu,
        proximal=1.0,
        p_solver=options.solver,
        w_solver=options.solver,
    )
    own = build.admm(options.network, method)
    choices = {"paper": own, "certified": pdadmm.admm.certified(own)}
    given = problem(options, method, dtype)
    for config in choices.values():  # numbers out of range are refused here
        given.start(0, config)
    return given, [
        Setting(name, config, bool(pdadmm.admm.certificate(config).holds), [])
        for name, config in choices.items()
    ]


def recorded(
    state: pdadmm.admm.State,
    data: pdadmm.Data,
    config: pdadmm.admm.Config,
    key: jax.Array,
    steps: int,
) -> tuple[pdadmm.admm.State, Report]:
    """Iterations one by one, so that the steps between them can be measured."""
    del key

    def body(old: pdadmm.admm.State, _: None) -> tuple[pdadmm.admm.State, Report]:
        new, info = pdadmm.admm.step(old, data, config)
        return new, report_of(info)._replace(squared_step=squared_step(old, new))

    return lax.scan(body, state, length=steps)


RECORDED = ADMM._replace(run=recorded)


def squared_step(old: pdadmm.admm.State, new: pdadmm.admm.State) -> jax.Array:
    """How far p, W, b, z and q of all layers moved, squared; u and a follow from them."""

    def variables(state: pdadmm.admm.State) -> list[Any]:
        below = [layer.below for layer in state.layers if layer.below is not None]
        own = [(layer.W, layer.b, layer.z) for layer in state.layers]
        return [*own, *((boundary.p, boundary.q) for boundary in below)]

    moves = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), variables(new), variables(old))
    return jnp.sum(jnp.stack(jax.tree.leaves(moves)))


def shortest(squared_steps: np.ndarray) -> np.ndarray:
    """c_k: the smallest of the first k squared steps."""
    return np.minimum.accumulate(squared_steps)


def exponent(squared_steps: np.ndarray) -> float:
    """Of c_k in k, by least squares between their logarithms over the second half.

    Minus infinity where steps end altogether.
    """
    k = np.arange(1, len(squared_steps) + 1)
    late = k > len(k) // 2
    c = shortest(squared_steps)
    if c[-1] == 0:
        return -np.inf
    slope, _ = np.polyfit(np.log(k[late]), np.log(c[late]), 1)
    return float(slope)


def judge(one: History, rounding: float) -> Verdict:
    """Checks a run whose values are finite throughout.

    Args:
        one: the run.
        rounding: rises that it explains, as a share of the Lagrangian's first value.
    """
    found = rises(one.lagrangian)
    residual = one.report.residual
    return Verdict(
        rises=found,
        never_rose=found.largest <= rounding,
        residual=float(residual[-1] / np.max(residual)) if np.any(residual) else 0.0,
        exponent=exponent(one.report.squared_step),
    )


def complaints_of(setting: Setting, rounding: float) -> list[str]:
    """What went against the theory, where it holds, and where values ceased to be finite."""
    found = []
    for one in setting.histories:
        wrong = []
        if one.nonfinite:
            wrong = [f"values ceased to be finite at iteration {one.nonfinite}"]
        elif setting.certified:
            wrong = _violations(judge(one, rounding), one.at[-1])
        found += [f"{setting.name}, seed {one.seed}: {what}" for what in wrong]
    return found


def _violations(verdict: Verdict, iterations: int) -> list[str]:
    rise, left, power = verdict.rises.largest, verdict.residual, verdict.exponent
    after = f"after {iterations} iterations"
    checks = (
        (verdict.never_rose, f"the Lagrangian rose by {rise:.1e} of its first value"),
        (left <= FALLEN, f"the residual is {left:.2g} of its largest {after}, above {FALLEN:g}"),
        (power < RATE, f"c_k goes with k^{power:.2f} {after}, not below k^{RATE:g}"),
    )
    return [complaint for holds, complaint in checks if not holds]


def _plain(setting: Setting, rounding: float) -> dict[str, Any]:
    histories = [
        one.to_json() | ({} if one.nonfinite else {"verdict": _plain_verdict(judge(one, rounding))})
        for one in setting.histories
    ]
    penalties = {"nu": float(setting.config.nu), "rho": float(setting.config.rho)}
    return penalties | {
        "certified": setting.certified,
        "rounding": rounding,
        "histories": histories,
    }


def _plain_verdict(verdict: Verdict) -> dict[str, Any]:
    return verdict._asdict() | {"rises": verdict.rises._asdict()}


def _all_kept(rounding: float) -> str:
    return (
        f"certified: the Lagrangian never rose by more than {rounding:g} of its first value, the "
        f"residual fell below {FALLEN:g} of its largest, and c_k falls faster than 1/k"
    )


def _table(setting: Setting, samples: int, rounding: float) -> Table:
    nu, rho = float(setting.config.nu), float(setting.config.rho)
    region = "inside" if setting.certified else "outside"
    made = table(
        "seed",
        "L/N",
        "loss",
        "accuracy",
        "rises",
        "never rose",
        "residual",
        "exponent",
        title=f"{setting.name}: nu = {nu:g}, rho = {rho:g}, {region} the certified region",
    )
    for one in setting.histories:
        made.add_row(str(one.seed), *_cells(one, samples, rounding))
    return made


def _cells(one: History, samples: int, rounding: float) -> list[str]:
    if one.nonfinite:
        return ["not finite"]
    verdict = judge(one, rounding)
    number, largest = verdict.rises
    return [
        f"{one.lagrangian[-1] / samples:.3g}",
        f"{one.train[-1][0]:.3g}",
        f"{one.validation[-1][1]:.1%}" if one.validation else "",
        f"{number} ({largest:.0e})" if number else "0",
        "holds" if verdict.never_rose else "FAILS",
        f"{verdict.residual:.1e}",
        f"{verdict.exponent:.2f}",
    ]
