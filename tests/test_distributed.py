"""Several processes: one result, one way out, nobody left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.train import checkpoints
from pdadmm_jax.sweeps.stream import EMPTIED, SCHEDULES
from tests.commands import ALONE, ROOT, assert_refused, await_line, finish, run, run_process, start
from tests.run_directories import directory_in, lines_of

SMALL = ("--network.hidden", "20", "20", "20", "20", "--data.validation", "0")
GROWING = ("--iterations", "30", "--growth.at", "15", "--growth.layers", "3", "--double")
GROWING += ("--method.w-solver", "layer", "--evaluate-every", "15")


def weights_of(out):
    run = directory_in(out)
    assert json.loads((run / "summary.json").read_text())["iterations"] > 0
    with np.load(run / "weights.npz") as file:
        return {name: file[name] for name in file if name[0] in "Wb"}


def children(process):
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()]


def alive(number):
    """Whether there is such a process, zombies apart."""
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The weights that one process finds, growing on the way."""
    out = tmp_path_factory.mktemp("alone")
    code, _, err = run("train", *SMALL, *GROWING, "--out", out)
    jax.config.update("jax_enable_x64", False)
    assert code == 0, err
    return weights_of(out)


@pytest.mark.parametrize(
    ("processes", "options"),
    [(2, ()), pytest.param(4, ("--mesh.layer", 2, "--mesh.data", 2), marks=pytest.mark.slow)],
)
def test_processes_find_what_one_finds(tmp_path, alone, processes, options):
    code, out, err = run_process(
        *("launch", "--processes", processes, "train", *SMALL, *GROWING, *options),
        *("--out", tmp_path),
    )
    assert code == 0, err
    assert "test" in out
    found = weights_of(tmp_path)
    assert found.keys() == alone.keys()
    for name, expected in alone.items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-9)


TIMED = ("launch", "--processes", 2, "time", "--layers", 4, "--neurons", 8, "--samples", 50)
NOWHERE = "http://192.0.2.1:9"  # an address that is nobody's
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


def test_processes_of_one_machine_need_none_of_its_network(tmp_path):
    """Neither its proxies nor the cluster that it may belong to."""
    settings = dict.fromkeys(PROXIES, NOWHERE) | {"no_proxy": None, "NO_PROXY": None}
    settings |= {"JAX_COORDINATOR_BIND_ADDRESS": "192.0.2.1:9", "KUBERNETES_SERVICE_HOST": "there"}
    code, out, err = run_process(*TIMED, settings=settings)
    assert code == 0, err
    assert "on 2 x cpu" in out
    assert "proxy" not in err


@pytest.mark.slow
def test_processes_of_one_machine_need_no_name_of_it():
    renamed = ("unshare", "--uts", "bash", "-c", 'hostname nowhere-at-all && exec "$0" "$@"')
    if subprocess.run([*renamed, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine cannot be given another name here")
    words = [*renamed, sys.executable, "-m", "experiments", *map(str, TIMED)]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=os.environ | ALONE,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "on 2 x cpu" in done.stdout


def together(out, *words):
    """Exit code, screen and run directory of two processes that train."""
    launched = ("launch", "--processes", 2, "train", *SMALL, *words, "--out", out)
    code, screen, err = run_process(*launched)
    assert "Traceback" not in err
    return code, screen, directory_in(out)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_processes_sweep_as_one_does(tmp_path, schedule):
    options = ("--algorithm", "sweeps", "--sweeps.batch", 100, "--iterations", 6, "--double")
    options += ("--evaluate-every", 3, "--data.limit", 400, "--sweeps.cosine", None)
    found = together(tmp_path / "two", *options, "--sweeps.schedule", schedule)[-1]
    code, _, err = run("train", *SMALL, *options, "--out", tmp_path / "one")
    assert code == 0, err
    found, expected = weights_of(found.parent), weights_of(tmp_path / "one")
    farthest = max(np.max(np.abs(found[name] - expected[name])) for name in expected)
    if schedule in EMPTIED:
        assert farthest < 1e-9
    else:  # the weights move late, by which they are others
        assert 1e-6 < farthest < 0.1


@pytest.mark.slow
def test_processes_name_what_blows_up(tmp_path):
    options = ("--method.nu", 1e38, "--method.rho", 3e38, "--iterations", 50)
    options += ("--method.w-solver", "unit", "--network.initializer", "orthogonal")
    code, screen, directory = together(tmp_path, *options)
    assert code == 1
    assert "error: values ceased to be finite at iteration 1: q of layer 2" in screen
    found, _ = checkpoints.newest(directory / checkpoints.DIRECTORY)
    assert (found.number, f"is saved in {found.path}" in screen) == (0, True)


@pytest.mark.slow
def test_processes_answer_a_rise_as_one_does(tmp_path):
    options = ("--method.nu", 0.1, "--method.rho", 0.001, "--divergence.factor", 1.3)
    options += ("--divergence.answer", "return", "--divergence.raised", 500, "--double")
    options += ("--iterations", 60, "--checkpoint.every", 10, "--method.w-solver", "layer")
    code, screen, directory = together(tmp_path / "two", *options)
    assert code == 0
    assert screen.count("rho is 0.5") == 1
    assert run("train", *SMALL, *options, "--out", tmp_path / "one")[0] == 0
    found, expected = map(lines_of, (directory, *(tmp_path / "one").iterdir()))
    for mine, other in zip(found, expected, strict=True):
        assert (mine["iteration"], mine.get("rho")) == (other["iteration"], other.get("rho"))
        np.testing.assert_allclose(mine["lagrangian"], other["lagrangian"], rtol=1e-6)


def endless(tmp_path, processes):
    """A run that is well under way, and its processes."""
    command = start(
        *("launch", "--processes", processes, "train", *SMALL, "--out", tmp_path),
        *("--iterations", 10**6, "--evaluate-every", 5),
    )
    await_line(command, "iteration 15")
    return command, children(command)


@pytest.mark.parametrize(
    ("processes", "victim", "number"),
    [
        (2, 0, signal.SIGKILL),
        pytest.param(2, 1, signal.SIGSTOP, marks=pytest.mark.slow),
        pytest.param(4, 0, signal.SIGSTOP, marks=pytest.mark.slow),
        pytest.param(4, 3, signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_all_end_when_one_is_killed_or_stopped(tmp_path, processes, victim, number):
    command, started = endless(tmp_path, processes)
    os.kill(started[victim], number)
    begin = time.monotonic()
    code, _, err = finish(command, 30)
    assert time.monotonic() - begin < 10
    assert code == 1
    done = "killed" if number == signal.SIGKILL else "stopped"
    assert f"error: process {victim} was {done} by {number.name}" in err
    assert not any(map(alive, started))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["launcher", 1])
def test_all_stop_together_when_one_is_asked_to(tmp_path, victim):
    command, started = endless(tmp_path, 2)
    os.kill(command.pid if victim == "launcher" else started[victim], signal.SIGTERM)
    code, out, err = finish(command, 60)
    assert code == 130, err
    assert "interrupted after iteration" in out
    assert weights_of(tmp_path)
    assert not any(map(alive, started))


@pytest.mark.slow
def test_nobody_outlives_the_launcher(tmp_path):
    command, started = endless(tmp_path, 2)
    command.kill()
    finish(command, 30)
    deadline = time.monotonic() + 10
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, started))


@pytest.mark.slow
def test_an_error_in_one_process_ends_all(tmp_path):
    """The run directory cannot be made: only the first process finds out."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    code, _, err = run_process("launch", "--processes", 2, "train", *SMALL, "--out", blocked)
    assert code == 2
    assert [line for line in err.splitlines() if line.startswith("error: cannot make a run")]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("launch",), "launch needs a command to run, train, time or race"),
        (("launch", "--processes", 0, "train"), "processes is 0"),
        (("launch", "--processes", 1000, "--pin", "train"), "cores to pin them to"),
        (("launch", "--processes", 2, "train", "--iterations", "many"), "iterations"),
        (("train", "--distributed", "--cluster.process", 1), "cluster.coordinator is not"),
        (
            (
                *("train", "--distributed", "--cluster.coordinator", "localhost:1"),
                *("--cluster.processes", 2, "--cluster.process", 2),
            ),
            "cluster.process is 2, but 2 processes have numbers from 0 to 1",
        ),
        (
            (
                *("train", "--distributed", "--cluster.coordinator", "nowhere"),
                *("--cluster.processes", 2, "--cluster.process", 0),
            ),
            "cluster.coordinator is 'nowhere', but has to be HOST:PORT",
        ),
        (("train", "--cluster.processes", 2), "cluster.processes is given without --distributed"),
        (("launch", "--processes", 2, "scaling"), "'scaling'"),
        (("train", "--mesh.layer", 99), "99 stages x 1 data shards takes 99 devices"),
        (("train", "--mesh.data", 0), "mesh.data is 0"),
    ],
)
def test_wrong_settings_get_one_line(words, complaint):
    assert_refused(words, complaint)
