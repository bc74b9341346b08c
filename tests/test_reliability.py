"""The commands that try reliability, in short; the README has their figures in full."""

from __future__ import annotations

import json

import pytest

from experiments.reliability import crash, ranks, soak
from experiments.reliability.config import CrashConfig
from experiments.reliability.ranks import Case
from tests.commands import assert_refused


@pytest.fixture(autouse=True)
def _own_programs(monkeypatch, tmp_path_factory):
    """The processes share what they compile."""
    base = tmp_path_factory.getbasetemp() / "reliability-programs"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(base))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def test_killed_runs_end_like_one_left_alone(tmp_path, capsys):
    assert crash.main(CrashConfig(kills=2, seed=3, iterations=70, out=tmp_path)) == 0
    assert "2 of 2 identical to the run left alone" in capsys.readouterr().out
    (directory,) = tmp_path.iterdir()
    crashes = json.loads((directory / "crash.json").read_text())["crashes"]
    assert [one["wrong"] for one in crashes] == [[]] * 2


def test_a_process_killed_during_a_save_costs_nothing(tmp_path):
    expected = ranks.left_alone(tmp_path / "alone", 2)
    found = ranks.tried(Case(2, 1, "kill", "saving"), tmp_path / "killed", expected)
    assert found.wrong == []
    assert found.seconds < ranks.SECONDS_TO_LEAVE


def test_two_thousand_iterations_leave_nothing_behind(tmp_path):
    found = soak.soaked(tmp_path, 2000)
    assert found.iterations == 2000
    assert soak.wrong_with(found) == []
    assert found.drift > 0
    assert soak.wrong_with(found._replace(memory=(100, 106, 106), rise=1e-5, drift=1e-3)) == [
        "memory grew by 6.0%",
        "the Lagrangian rose by 1.0e-05 of its first value",
        "p W + b drifted by 1.0e-03",
    ]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("crash", "--kills", 0), "kills is 0"),
        (("ranks", "--processes", 1), "processes has to name"),
    ],
)
def test_numbers_that_try_nothing_are_refused(words, complaint):
    assert_refused(words, complaint)
