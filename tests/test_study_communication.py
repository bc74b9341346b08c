"""The communication command: bytes as counted and as they have to be, and what they buy."""

from __future__ import annotations

import json
from functools import partial

import jax
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from experiments.benchmark.compiled_program import messages
from experiments.data import DataConfig
from experiments.options.network import NetworkConfig
from experiments.study import communication
from experiments.study.communication import (
    Traffic,
    bytes_per_iteration,
    mean_and_deviation,
    recorded,
    summary,
)
from experiments.study.history import History, Report, error
from experiments.study.options import CommunicationConfig
from tests.commands import assert_refused, finished, run_process, stopping
from tests.selection import selected

WIDTH, SAMPLES = 30, 200
SMALL = ("--data.limit", SAMPLES, "--network.hidden", WIDTH, WIDTH, WIDTH, "--iterations", 60)
# Two arrays cross every boundary; rows of the integer types bring their scale.
ROW = {"full": 4 * WIDTH, "int4": WIDTH // 2 + 4}


def made(*ends, residual=1.0):
    """Courses of two iterations, each ending as given: Lagrangian and accuracy."""
    return [
        History(
            seed,
            4.0,
            Report(
                np.asarray([3.0, last]), np.ones(2), np.full(2, residual), np.isfinite([3, last])
            ),
            [2],
            [(0.5, 1.0)],
            [(0.6, accuracy)],
        )
        for seed, (last, accuracy) in enumerate(ends)
    ]


def test_ends_are_summed_up_over_seeds_that_stayed_finite():
    end = summary(Traffic("int8", 10, 3, made((2.0, 0.8), (5.0, 0.9), (np.nan, 0.1))))
    assert end.lagrangian == (3.5, pytest.approx(4.5**0.5))
    assert end.accuracy == (pytest.approx(0.85), pytest.approx(0.005**0.5))
    assert end.loss == (0.6, 0)
    assert (end.rises, end.largest_rise) == (1, 0.5)


def test_a_single_seed_deviates_by_nothing():
    assert mean_and_deviation([0.7]) == (0.7, 0.0)


def test_bytes_add_up_over_boundaries_and_iterations():
    np.testing.assert_allclose(Traffic("full", 500_000, 3, []).sent([1, 10]), [1.5, 15])


def test_a_line_tells_the_first_of_many_errors():
    assert error(["a"]) == "error: a"
    assert error(["a", "b", "c"]) == "error: a (and 2 more)"


def test_what_is_handed_over_after_the_loop_is_one_iteration_s_worth():
    """So that bytes are those of one times all iterations, evaluations between them or not."""
    settings = pdadmm.admm.Config()
    mesh = pdadmm.make_mesh(3, 1, jax.devices()[:3])
    shapes = jax.ShapeDtypeStruct((40, 8), np.float32), jax.ShapeDtypeStruct((40,), np.int32)
    state, data = pdadmm.admm.abstract(
        pdadmm.Data(*shapes), (8, 6, 6, 6, 3), settings, mesh=mesh, message_dtype="int8"
    )
    run = jax.jit(partial(recorded, key=None, steps=3))
    text = run.lower(state, data, settings).compile().as_text()
    assert bytes_per_iteration(text) == 2 * 40 * (6 + 4)
    sent = [one for one in messages(text) if one.kind == "collective-permute"]
    assert sum(one.bytes for one in sent if not one.in_loop) == bytes_per_iteration(text)


def test_every_message_dtype_is_trained_and_its_bytes_counted(tmp_path):
    words = (*SMALL, "--seeds", 2, "--message-dtypes", *ROW)
    out, found = finished("study communication", tmp_path, *words)
    assert "200 samples, 60 iterations on " in out
    assert list(found) == list(ROW)
    full = found["full"]["end"]
    for dtype, one in found.items():
        assert one["bytes_per_boundary_and_iteration"] == 2 * SAMPLES * ROW[dtype]
        assert one["boundaries"] == 3
        assert [len(each["lagrangian"]) for each in one["histories"]] == [61, 61]
        finals = [each["validation"][-1][1] for each in one["histories"]]
        assert one["end"]["accuracy"][0] == pytest.approx(np.mean(finals))
        assert one["end"]["accuracy"][0] > 0.5
        assert one["end"]["lagrangian"][0] == pytest.approx(full["lagrangian"][0], rel=0.05)
        assert one["end"]["rises"] == 0
    ends = {one["end"]["lagrangian"][0] for one in found.values()}
    assert len(ends) == len(ROW)  # each has been rounded its own way


@pytest.mark.slow
def test_devices_are_made_where_nobody_has_said_how_many(tmp_path):
    words = ("--data.limit", 50, "--network.hidden", 16, 16, "--iterations", 10, "--seeds", 1)
    words += ("--stages", 2, "--message-dtypes", "full", "bfloat16")
    settings = {"JAX_NUM_CPU_DEVICES": None}
    code, out, err = run_process(
        "study", "communication", *words, "--out", tmp_path, settings=settings
    )
    assert code == 0, err
    assert "10 iterations on 2 x cpu" in out
    assert "0.500" in out  # of the bytes of float32


@pytest.mark.parametrize(
    ("stops", "kept"), selected([(1, {}), (5, {"int8": 2})], fast=[(5, {"int8": 2})])
)
def test_an_interrupt_keeps_finished_runs(tmp_path, monkeypatch, capsys, stops, kept):
    """Two seeds of two evaluations for each of two types, stopped at one of them."""
    monkeypatch.setattr(communication, "stop_requests", lambda: stopping(stops))
    config = CommunicationConfig(
        DataConfig(limit=40),
        NetworkConfig(hidden=(8, 8)),
        message_dtypes=("int8", "full"),
        stages=2,
        iterations=20,
        seeds=2,
        out=tmp_path,
    )
    assert communication.main(config) == 130
    (directory,) = tmp_path.iterdir()
    found = json.loads((directory / "communication.json").read_text())
    assert {dtype: len(one["histories"]) for dtype, one in found.items()} == kept
    assert "interrupted: runs that were finished are saved" in capsys.readouterr().out
    assert (directory / "communication.png").exists() == bool(kept)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--stages", 17, "--network.hidden", *[4] * 17),
            "stages is 17, but JAX has 16 cpu device(s): ask for fewer stages",
        ),
        (("--stages", 1), "stages is 1: give 2 or more"),
        (("--stages", 5), "stages is 5, but the network has 4 layers: give 4 or less"),
        (("--message-dtypes", "int8"), "message-dtypes lacks 'full'"),
        (("--message-dtypes", "full", "int8", "full"), "message-dtypes names one twice"),
        (("--message-dtypes", "full", "int2"), "int2"),
        (("--iterations", 100, "--evaluate-every", 1), "evaluate-every is 1: give 3 or more"),
        (("--data.validation", 0), "samples not one: give a larger share"),
        (("--method.rho", 0), "rho is 0.0, but has to be a finite number above 0"),
    ],
)
def test_a_mistake_gets_one_line(words, complaint):
    assert_refused(("study", "communication", *words), complaint)
