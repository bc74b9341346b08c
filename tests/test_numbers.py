"""Values that cease to be finite, and a Lagrangian that rises: seen, named and answered."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from experiments.runtime import run_directory as runs
from experiments.train import checkpoints, divergence
from experiments.train.divergence import Monitor
from tests.commands import train
from tests.run_directories import directory_in, farthest, lines_of, unlike
from tests.selection import selected

SMALL = (
    "--network.hidden",
    "12",
    "12",
    "--network.initializer",
    "he",
    "--data.limit",
    "100",
    "--checkpoint.every",
    "10",
)


def test_values_that_blow_up_at_once_are_named(tmp_path, capsys):
    """The largest penalties float32 can hold: products overflow in the first iteration."""
    options = ("--method.nu", 1e38, "--method.rho", 3e38, "--iterations", 50)
    options += ("--method.w-solver", "unit")
    assert train(*SMALL, *options, "--out", tmp_path / "runs") == 1
    out, err = capsys.readouterr()
    assert "error: values ceased to be finite at iteration 1: q of layer 2" in out
    assert err == ""
    run = directory_in(tmp_path / "runs")
    (line,) = lines_of(run)
    assert (line["lagrangian"], line["finite"]) == (None, False)
    found, _ = checkpoints.newest(run / checkpoints.DIRECTORY)
    assert f"the state after iteration 0 is saved in {found.path}" in out
    assert all(np.isfinite(W).all() for W, _ in runs.read_weights(run).weights)


def test_a_run_stops_in_the_iteration_that_breaks_it(tmp_path, capsys, monkeypatch):
    """A NaN put into b of layer 2 by iteration 8, which no chunk ends at."""
    from experiments.algorithms import admm

    real_run, real_step = admm.pdadmm.admm.run, admm.pdadmm.admm.step

    def poisoned(state):
        layer = state.layers[1]
        due = state.iteration >= 8
        b = jax.numpy.where(due, layer.b.at[0].set(np.nan), layer.b)
        return state._replace(layers=(state.layers[0], layer._replace(b=b), *state.layers[2:]))

    def run(state, data, config, *, steps):
        """The same one iteration at a time, so that the NaN appears where it should."""
        infos = []
        for _ in range(steps):
            state, info = real_step(state, data, config)
            state = poisoned(state)
            finite = np.bool_(True) & (state.iteration < 8)
            infos.append(info._replace(finite=info.finite & finite))
        return state, jax.tree.map(lambda *k: jax.numpy.stack(k), *infos)

    def step(state, data, config):
        state, info = real_step(state, data, config)
        return poisoned(state), info

    monkeypatch.setattr(admm.pdadmm.admm, "run", run)
    monkeypatch.setattr(admm.pdadmm.admm, "step", step)
    jax.clear_caches()  # of the real ones
    often = ("--evaluate-every", 3, "--checkpoint.every", 3)
    assert train(*SMALL, *often, "--iterations", 40, "--out", tmp_path / "broken") == 1
    out, err = capsys.readouterr()
    assert "values ceased to be finite at iteration 8: b of layer 2; the state after iterat" in out
    assert err == ""
    broken = directory_in(tmp_path / "broken")
    assert [line["iteration"] for line in lines_of(broken)] == list(range(1, 9))
    assert [line["finite"] for line in lines_of(broken)] == [True] * 7 + [False]
    numbers = [number for number, _ in checkpoints.sealed(broken / checkpoints.DIRECTORY)]
    assert numbers == [6, 7]

    monkeypatch.setattr(admm.pdadmm.admm, "run", real_run)
    monkeypatch.setattr(admm.pdadmm.admm, "step", real_step)
    jax.clear_caches()
    assert train(*SMALL, "--iterations", 7, "--out", tmp_path / "sound") == 0
    assert farthest(broken, directory_in(tmp_path / "sound")) < 1e-4


def looked(values, factor=10.0, watch=None, layers=3, before=0):
    return divergence.observe(watch or Monitor(), np.asarray(values), layers, before, factor)


def test_a_rise_is_told_once_and_again_if_it_goes_on():
    watch, rise = looked([100, 10, 20, 99])
    assert rise is None
    watch, rise = looked([101, 500, 120], watch=watch, before=4)
    assert rise == divergence.Rise(5, 101.0, 10.0)
    watch, rise = looked([900], watch=watch, before=7)
    assert rise is None
    _, rise = looked([1020], watch=watch, before=8)
    assert (rise.iteration, rise.lowest) == (9, 101.0)


def test_noise_near_zero_and_growth_are_no_rise():
    watch, rise = looked([100, 1e-9, 1e-3, 0.9, -1e-4, 0.9])
    assert rise is None
    _, rise = looked([50], watch=watch, layers=5)
    assert rise is None
    _, rise = looked([50], watch=watch, layers=3)
    assert rise is not None


# With rho far below the certified region the Lagrangian rises after a good start.
DIVERGING = (*SMALL, "--method.nu", 0.1, "--method.rho", 0.001, "--divergence.factor", 1.3)


@pytest.mark.parametrize(
    "answer", selected(["warn", "stop", "raise", "return"], fast=["stop", "return"])
)
def test_a_rising_lagrangian_is_answered(tmp_path, capsys, answer):
    options = ("--iterations", 60, "--divergence.answer", answer, "--divergence.raised", 500)
    code = train(*DIVERGING, *options, "--out", tmp_path / "runs")
    out, err = capsys.readouterr()
    run = directory_in(tmp_path / "runs")
    lines = lines_of(run)
    rho = {line["iteration"]: line["rho"] for line in lines if "rho" in line}
    (told,) = [line for line in out.splitlines() if ": the Lagrangian is" in line]
    assert err == ""
    assert " after iteration 1" in told
    if answer == "stop":
        assert code == 1
        assert told.startswith("error: ")
        assert json.loads((run / "summary.json").read_text())["iterations"] == 20
        assert checkpoints.newest(run / checkpoints.DIRECTORY)[0].number == 10  # while it fell
        return
    assert code == 0
    assert [line["iteration"] for line in lines] == list(range(1, 61))
    raised = {"warn": 99, "raise": 20, "return": 10}[answer]
    assert rho == {k: 0.5 if k > raised else 0.001 for k in range(10, 61, 10)}


@pytest.mark.slow
def test_an_answer_is_remembered_by_a_resumed_run(tmp_path, capsys):
    """Killed after rho was raised: what follows is what would have followed."""
    options = ("--divergence.answer", "raise", "--divergence.raised", 500)
    for name, iterations in (("whole", 60), ("cut", 40)):
        out = tmp_path / name
        assert train(*DIVERGING, *options, "--iterations", iterations, "--out", out) == 0
    cut = directory_in(tmp_path / "cut")
    assert train("--resume", cut, "--iterations", 60) == 0
    assert unlike(cut, directory_in(tmp_path / "whole")) == []


@pytest.mark.slow
def test_rho_is_not_raised_for_ever(tmp_path, capsys):
    options = ("--divergence.answer", "return", "--divergence.raised", 1.001)
    options += ("--divergence.times", 2, "--iterations", 60, "--divergence.factor", 1.05)
    options += ("--evaluate-every", 2, "--checkpoint.every", 2)
    assert train(*DIVERGING, *options, "--out", tmp_path) == 1
    out = capsys.readouterr().out
    assert out.count("on rho is") == 2
    assert "though the steps were shortened 2 times" in out
