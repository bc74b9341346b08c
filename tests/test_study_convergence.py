"""The convergence command: its measurements, its verdicts, and that these can be bad ones."""

from __future__ import annotations

import json
from functools import partial

import jax
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from experiments.data import DataConfig
from experiments.options.network import NetworkConfig
from experiments.study import convergence
from experiments.study.convergence import (
    Setting,
    complaints_of,
    exponent,
    judge,
    recorded,
    shortest,
    squared_step,
)
from experiments.study.history import ROUNDING, History, Report, report_of, rises
from experiments.study.options import ConvergenceConfig
from tests.commands import assert_refused, finished, stopping
from tests.problems import problem

SMALL = ("--data.limit", 300, "--network.hidden", 30, 30, "--evaluate-every", 5)
TINY = ("--data.limit", 50, "--network.hidden", 8, "--iterations", 10, "--seeds", 1)
K = np.arange(1, 401, dtype=np.float64)


def made(lagrangian=1 / K, residual=1 / K**2, squared_step=1 / K**2, seed=0):
    """A run whose every iteration reports what is given."""
    report = Report(lagrangian, lagrangian, residual, np.isfinite(lagrangian), squared_step)
    return History(seed, 1.5, report, [len(lagrangian)], [(0.1, 0.9)], [])


def setting(*histories, certified=True):
    return Setting("made", pdadmm.admm.Config(), certified, list(histories))


def test_rises_are_counted_from_the_start():
    assert rises(np.asarray([4.0, 3.0, 3.0, 3.5, 3.25, 4.25])) == (2, 0.25)
    assert rises(np.asarray([4.0, 5.0, 3.0])) == (1, 0.25)  # the first iteration is one
    assert rises(np.asarray([4.0, 3.0, 3.0])) == (0, 0.0)


@pytest.mark.parametrize("power", [-0.5, -1.0, -2.0, -3.5])
def test_the_exponent_is_that_of_the_running_minimum(power):
    assert exponent(7 * K**power) == pytest.approx(power)
    # Long steps in between change nothing, nor do those of the first half.
    spiky = 7 * K**power * np.where(K % 2 == 0, 50, 1) * np.where(K < 100, 30, 1)
    assert exponent(spiky) == pytest.approx(power, abs=0.02)


def test_steps_that_stay_or_end():
    assert exponent(np.full(50, 0.3)) == pytest.approx(0)
    assert exponent(np.append(K**-2, 0.0)) == -np.inf
    np.testing.assert_array_equal(shortest(np.asarray([3.0, 5.0, 2.0, 4.0])), [3, 3, 2, 2])


def test_a_run_as_the_theory_has_it_passes():
    verdict = judge(made(), ROUNDING["float32"])
    assert verdict.rises == (0, 0)
    assert verdict.never_rose
    assert verdict.residual == pytest.approx(1 / 400**2)
    assert verdict.exponent == pytest.approx(-2)
    assert complaints_of(setting(made()), ROUNDING["float32"]) == []


RISEN = np.where(K == 300, 1 / 299 + 1e-5, 1 / K)  # 0.7e-5 of the first value


@pytest.mark.parametrize(
    ("course", "complaint"),
    [
        (made(lagrangian=RISEN), "the Lagrangian rose by 6.7e-06 of its first value"),
        (made(residual=1 / K**0.5), "the residual is 0.05 of its largest after 400 iterations"),
        (made(squared_step=K**-0.9), "c_k goes with k^-0.90 after 400 iterations, not below k^-1"),
        (made(lagrangian=np.where(K < 40, 1 / K, np.nan)), "ceased to be finite at iteration 40"),
    ],
)
def test_a_run_against_the_theory_is_named(course, complaint):
    (line,) = complaints_of(setting(made(), course._replace(seed=1)), ROUNDING["float32"])
    assert line.startswith("made, seed 1: ")
    assert complaint in line


def test_nothing_is_promised_outside_the_region_but_finite_values():
    against = made(lagrangian=RISEN, residual=1 / K**0.5, squared_step=K**-0.9)
    broken = made(lagrangian=np.where(K < 40, 1 / K, np.nan))
    found = complaints_of(setting(against, broken, certified=False), ROUNDING["float32"])
    assert found == ["made, seed 0: values ceased to be finite at iteration 40"]


def test_rounding_is_no_rise():
    shaken = made(lagrangian=np.where(K == 300, 1 / 299 + 2e-6, 1 / K))
    verdict = judge(shaken, ROUNDING["float32"])
    assert verdict.rises.number == 1
    assert verdict.never_rose
    assert not judge(shaken, ROUNDING["float64"]).never_rose


@pytest.mark.x64
def test_iterations_are_steps_and_squared_steps_what_they_changed():
    settings = pdadmm.admm.Config()
    data, state = problem((7, 6, 6, 4), settings, samples=30, seed=0)
    _, report = recorded(state, data, settings, None, 3)
    old, infos = state, []
    for _ in range(3):
        old, info = pdadmm.admm.step(old, data, settings)
        infos.append(report_of(info))
    for name in ("lagrangian", "objective", "residual"):
        expected = [getattr(one, name) for one in infos]
        np.testing.assert_allclose(getattr(report, name), expected, rtol=1e-10, atol=1e-20)
    new, _ = pdadmm.admm.step(state, data, settings)
    moved = sum(
        np.sum((np.asarray(a) - np.asarray(b)) ** 2)
        for path, a, b in (
            (path[-1].name, a, b)
            for (path, a), b in zip(
                jax.tree.leaves_with_path(new), jax.tree.leaves(state), strict=True
            )
        )
        if path in ("p", "W", "b", "z", "q")
    )
    assert moved > 0
    np.testing.assert_allclose(squared_step(state, new), moved, rtol=1e-12)
    np.testing.assert_allclose(report.squared_step[0], moved, rtol=1e-12)


@pytest.mark.x64
def test_where_no_theory_holds_rises_are_found():
    """Penalties far outside the region, rho = nu / 100: the checks see it."""
    settings = pdadmm.admm.Config(nu=0.1, rho=0.001)
    data, state = problem((7, 16, 16, 4), settings, samples=60, seed=0)
    first = pdadmm.admm.terms(state, data, settings).lagrangian
    _, report = jax.jit(partial(recorded, key=None, steps=60))(state, data, settings)
    assert rises(np.append(first, report.lagrangian)).largest > 1e-4


def test_both_settings_are_trained_and_checked(tmp_path):
    out, found = finished("study convergence", tmp_path, *SMALL, "--iterations", 120, "--seeds", 2)
    assert "certified: the Lagrangian never rose by more than 2e-06 of its first value" in out
    assert "paper: nu = 0.1, rho = 0.1, outside the certified region" in out
    assert found.keys() == {"paper", "certified"}
    assert [found[name]["certified"] for name in found] == [False, True]
    assert found["certified"]["rho"] == pytest.approx(0.42)
    for one in [one for name in found for one in found[name]["histories"]]:
        assert len(one["lagrangian"]) == 121
        assert len(one["objective"]) == len(one["residual"]) == len(one["squared_step"]) == 120
        assert one["at"] == list(range(5, 121, 5))
        assert len(one["train"]) == len(one["validation"]) == 24
        verdict = one["verdict"]
        assert verdict["residual"] == pytest.approx(one["residual"][-1] / max(one["residual"]))
        assert verdict["exponent"] == pytest.approx(exponent(np.asarray(one["squared_step"])))
        assert verdict["rises"]["number"] == sum(np.diff(one["lagrangian"]) > 0)
        # The auxiliary variables explain the labels better than the weights do.
        assert one["lagrangian"][-1] / 300 < 0.5 * one["train"][-1][0]
    seeds = [one["lagrangian"][0] for one in found["certified"]["histories"]]
    assert seeds[0] != seeds[1]


@pytest.mark.slow
def test_a_run_too_short_for_the_theory_fails_in_one_line(tmp_path):
    out, found = finished("study convergence", tmp_path, *TINY, "--nu", 10, code=1)
    (line,) = (line for line in out.splitlines() if line.startswith("error"))
    assert "certified, seed 0: the residual is" in line
    assert found["certified"]["histories"][0]["verdict"]["residual"] > 0.01


@pytest.mark.slow
def test_values_that_blow_up_are_told_in_one_line(tmp_path):
    # rho is 5 nu where the theory holds, and rho + nu more than float32 can say.
    out, found = finished("study convergence", tmp_path, *TINY, "--nu", 6.5e37, code=1)
    lost = [name for name in ("paper", "certified") if "verdict" not in found[name]["histories"][0]]
    assert "certified" in lost  # with rho = nu it depends on how a machine rounds
    (line,) = (line for line in out.splitlines() if line.startswith("error"))
    assert f"error: {lost[0]}, seed 0: values ceased to be finite at iteration " in line


@pytest.mark.parametrize(("stops", "kept"), [(3, {0: 0}), (25, {0: 2, 1: 0})])
def test_an_interrupt_keeps_finished_runs(tmp_path, monkeypatch, capsys, stops, kept):
    """Two seeds of ten evaluations for each of two settings, stopped at one of them."""
    monkeypatch.setattr(convergence, "stop_requests", lambda: stopping(stops))
    data, network = DataConfig(limit=50), NetworkConfig(hidden=(8,))
    config = ConvergenceConfig(data, network, iterations=100, seeds=2, out=tmp_path)
    assert convergence.main(config) == 130
    (directory,) = tmp_path.iterdir()
    found = list(json.loads((directory / "convergence.json").read_text()).values())
    for setting, histories in kept.items():
        assert [one["seed"] for one in found[setting]["histories"]] == list(range(histories))
    out = capsys.readouterr().out
    assert "interrupted: runs that were finished are saved" in out
    assert "never rose by more" not in out  # who knows
    assert (directory / "convergence.png").exists() == (stops > 10)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--iterations", 5), "iterations is 5: give 10 or more"),
        (("--iterations", 95), "iterations is 95: give a multiple of evaluate-every, 10"),
        (("--iterations", 2_000_000), "give a number up to 1,000,000"),
        (("--seeds", 0), "seeds is 0: give 1 or more"),
        (("--nu", -1), "nu is -1.0, but has to be a finite number above 0"),
        (("--nu", 1e-60), "nu is 1e-60, but float32 reaches from"),
        (("--solver", "adam"), "invalid choice 'adam'"),
        (("--network.hidden",), "network.hidden is empty"),
        ((*TINY, "--out", "/proc/none"), "choose another with --out"),
    ],
)
def test_a_mistake_gets_one_line(words, complaint):
    assert_refused(("study", "convergence", *words), complaint)
