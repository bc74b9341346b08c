"""``python -m experiments train`` as a user meets it, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import pdadmm_jax as pdadmm
from experiments import config
from experiments.data import DataConfig, load
from pdadmm_jax.wire import WIRES

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "experiments"]


def run(*arguments, timeout=300):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    options = ["--iterations", 45, "--growth.at", 25, "--growth.layers", 2, "--out", out]
    done = run("train", "--network.hidden", 30, 30, *options)
    assert done.returncode == 0, done.stderr
    (directory,) = out.iterdir()
    return done, directory


def test_the_screen_says_what_happened(trained):
    done, directory = trained
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("digits (bundled with the code): 1293 train, 144 validation, 360")
    assert sum(line.startswith("iteration ") for line in lines) == 6  # 10, 20, 25, 30, 40, 45
    assert {"Lagrangian", "residual", "train", "val"} <= set(lines[2].split())
    assert "64-30-30-30-30-10" in done.stdout
    assert str(directory) in lines[-1]


def test_metrics_have_a_line_per_iteration(trained):
    _, directory = trained
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, 46))
    assert [line["layers"] for line in lines] == [3] * 25 + [5] * 20
    assert [len(line["residual_per_boundary"]) for line in lines] == [2] * 25 + [4] * 20
    assert [k["iteration"] for k in lines if "train_accuracy" in k] == [10, 20, 25, 30, 40, 45]
    for flag in ("finite", "converged", "in_certified_region"):
        assert all(line[flag] for line in lines)
    assert lines[-1]["lagrangian"] < 0.1 * lines[0]["lagrangian"]


def test_weights_give_the_reported_accuracy(trained):
    _, directory = trained
    summary = json.loads((directory / "summary.json").read_text())
    with np.load(directory / "weights.npz", allow_pickle=False) as stored:
        params = [(stored[f"W{k}"], stored[f"b{k}"]) for k in range(1, 6)]
    test = load(DataConfig())
    data = pdadmm.Data(test.x_test, test.y_test)
    accuracy = pdadmm.accuracy(params, data, pdadmm.Hyperparameters())
    assert float(accuracy) == pytest.approx(summary["test_accuracy"])
    assert summary["test_accuracy"] > 0.7


def test_the_run_directory_says_how_it_came_about(trained):
    _, directory = trained
    content = json.loads((directory / "config.json").read_text())
    assert content["config"]["growth"] == {"at": [25], "layers": 2}
    assert content["environment"].keys() >= {"devices", "jax", "python", "pdadmm_jax"}
    assert (directory / "training.png").stat().st_size > 20_000
    assert not list(directory.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method.nu", -1], "nu is -1.0, but has to be a finite number above 0"),
        (["--method.nu", 1e-60], "nu is 1e-60, but float32 reaches from"),
        (["--iterations", 0], "iterations is 0"),
        (["--iterations", "many"], "with base 10: 'many'"),
        (["--data.name", "mnits"], "invalid choice 'mnits'"),
        (["--metod.nu", 1], "Perhaps you meant: --method.nu"),
        (["--iterations", 10**20], "give a number from 1 to 2,147,483,647"),
        (["--evaluate-every", 10**9], "evaluate-every is 1000000000"),
        (["--network.hidden", 0], "widths[1] is 0"),
        (["--network.hidden"], "network.hidden is empty"),
        (["--data.limit", 5000], "limit is 5000, but only 1293"),
        (["--data.validation", 1.5], "validation is 1.5"),
        (["--method.loss", "binary_logistic"], "binary_logistic needs 2 classes"),
        (["--method.loss", "squared_error", "--method.smoothing", 0.1], "smoothing is 0.1, but"),
        (["--growth.at", 900], "growth.at has 900"),
        (["--growth.at", 5, "--network.activation", "tanh"], "a network with tanh"),
        (["--method.certified", "--method.proximal", 0], "proximal is 0"),
        (["--out", "/proc/nowhere"], "choose another with --out"),
        (
            ["--data.name", "mnist", "--data.prepared", "/nowhere", "--data.no-download"],
            "train-images-idx3-ubyte.gz",
        ),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(arguments, message):
    done = run("train", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_command_is_refused():
    done = run("trian")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Available subcommands: train" in done.stderr


def test_values_that_blow_up_are_named(tmp_path):
    """The largest penalties float32 can hold: products overflow, and the run says where."""
    options = ["--method.nu", 1e38, "--method.rho", 3e38, "--iterations", 50, "--out", tmp_path]
    done = run("train", *options)
    assert done.returncode == 1
    assert "values ceased to be finite at iteration 1" in done.stdout
    assert "Traceback" not in done.stderr
    (directory,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    assert lines[0]["lagrangian"] is None
    assert lines[0]["finite"] is False


def test_an_interrupt_saves_what_was_done(tmp_path):
    command = [*COMMAND, "train", "--iterations", "1000000", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("iteration 20/"):
        assert process.poll() is None
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what was done is saved" in output
    assert "Traceback" not in errors
    (directory,) = tmp_path.iterdir()
    assert (directory / "weights.npz").exists()


def test_the_options_name_all_that_the_library_has():
    for names, known in (
        (config.ActivationName, pdadmm.ACTIVATIONS),
        (config.LossName, pdadmm.LOSSES),
        (config.SolverName, pdadmm.SOLVERS),
        (config.WireName, WIRES),
    ):
        assert get_args(names) == tuple(known)


def test_help_teaches():
    done = run("train", "--help")
    assert done.returncode == 0
    for words in (
        "--data.name",
        "--method.rho",
        "--network.hidden",
        "certified",
        "default: digits",
    ):
        assert words in done.stdout
