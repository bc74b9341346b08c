"""``--resume``: a run that was cut short ends like one that was not."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal

import jax
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from experiments import build
from experiments.data import DataConfig, load
from experiments.options.devices import MeshConfig
from experiments.train import checkpoints
from experiments.train.admm import ADMMTrainer
from experiments.train.options import TrainConfig
from tests.commands import await_line, finish, last_of, saved, start, train
from tests.run_directories import cut_off, directory_in, flip, lines_of, unlike
from tests.selection import selected

OPTIONS = ("--network.hidden", "20", "20", "--data.limit", "150", "--growth.at", "25")
OPTIONS += ("--growth.layers", "2", "--refresh-every", "20", "--checkpoint.every", "10")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbs, with all of its checkpoints."""
    out = tmp_path_factory.mktemp("whole")
    assert train(*OPTIONS, "--iterations", 45, "--checkpoint.keep", 9, "--out", out / "runs") == 0
    return directory_in(out / "runs")


@pytest.fixture
def cut(whole, tmp_path):
    """Makes a copy of it as it was after an iteration, and some lines of metrics further."""
    return lambda after: cut_off(whole, tmp_path / f"run-{after}", after)


@pytest.mark.parametrize("after", selected([0, 20, 40], fast=[20]))  # the network grew after 25
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(whole, cut, after, capsys):
    run = cut(after)
    assert train("--resume", run) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert ("resuming after iteration" in out) == (after > 0)
    assert unlike(run, whole) == []
    mine, others = (json.loads((k / "summary.json").read_text()) for k in (run, whole))
    assert {k: v for k, v in mine.items() if "seconds" not in k} == {
        k: v for k, v in others.items() if "seconds" not in k
    }


def test_options_that_came_later_have_their_default(cut, capsys):
    run = cut(40)
    manifest = run / checkpoints.DIRECTORY / "0000000040" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["sha256"], content["facts"]["config"]["algorithm"]
    manifest.write_text(checkpoints._text(content))
    assert train("--resume", run) == 0
    assert "resuming after iteration 40" in capsys.readouterr().out


def test_seconds_are_counted_on(cut):
    run = cut(40)
    (found, _) = checkpoints.newest(run / checkpoints.DIRECTORY)
    assert train("--resume", run) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["seconds"] > found.facts["seconds"] > 0


def endless(run):
    """Goes on with a run in a process of its own, which is well under way."""
    process = start("train", "--resume", run, "--iterations", 10**6)
    await_line(process, "iteration 80/")
    return process


@pytest.mark.slow
def test_a_killed_run_goes_on_without_a_gap_or_a_line_too_many(cut):
    run = cut(40)
    process = endless(run)
    process.send_signal(signal.SIGKILL)
    finish(process)
    found, _ = checkpoints.newest(run / checkpoints.DIRECTORY)
    last = found.number + 10
    assert train("--resume", run, "--iterations", last) == 0
    assert [line["iteration"] for line in lines_of(run)] == list(range(1, last + 1))


@pytest.mark.parametrize(
    "number", selected([signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], fast=[signal.SIGHUP])
)
def test_an_interrupt_saves_and_says_where(cut, number):
    run = cut(40)
    process = endless(run)
    process.send_signal(number)
    code, out, err = finish(process)
    found, _ = checkpoints.newest(run / checkpoints.DIRECTORY)
    assert (code, err) == (130, "")
    assert f"interrupted after iteration {found.number}" in out
    assert f"the state is saved in {found.path}; --resume {run} continues" in out
    assert json.loads((run / "summary.json").read_text())["iterations"] == found.number


def test_a_finished_run_has_nothing_left_to_do(whole, capsys):
    before = sorted((path, path.stat().st_mtime_ns) for path in whole.rglob("*"))
    assert train("--resume", whole) == 0
    assert f"nothing is left to do: {whole} has all its 45 iterations" in capsys.readouterr().out
    assert sorted((path, path.stat().st_mtime_ns) for path in whole.rglob("*")) == before


def test_more_iterations_go_on_from_the_end(whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    assert train("--resume", run, "--iterations", 50) == 0
    assert "resuming after iteration 45" in capsys.readouterr().out
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == list(range(1, 51))
    assert lines[:45] == (whole / "metrics.jsonl").read_text().splitlines()
    assert json.loads((run / "config.json").read_text())["config"]["iterations"] == 50


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--method.nu", 0.2, "--network.hidden", 20, 30, "--seed", 1),
            "method.nu was 0.1, not 0.2; network.hidden was 20 20, not 20 30; seed was 0, not 1",
        ),
        (("--iterations", 30), "iterations is 30, but"),
        (("--evaluate-every", 5), "evaluate_every was 10, not 5"),
        (("--checkpoint.keep", -1), "checkpoint.keep is -1"),
    ],
)
def test_another_configuration_is_refused(whole, words, complaint, capsys):
    assert train("--resume", whole, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert complaint in line


def test_another_configuration_is_refused_without_a_checkpoint_too(tmp_path, capsys):
    words = ("--network.hidden", 8, "--iterations", 2, "--checkpoint.keep", 0, "--out", tmp_path)
    assert train(*words) == 0
    (run,) = tmp_path.iterdir()
    assert train("--resume", run, "--algorithm", "sweeps") == 2
    assert "algorithm was admm, not sweeps" in capsys.readouterr().err
    assert train("--resume", run) == 0
    assert "nothing is left to do" in capsys.readouterr().out


def test_other_data_of_the_same_name_are_refused(cut, monkeypatch, capsys):
    run = cut(20)
    monkeypatch.setattr(build, "digest", lambda _: "another")
    assert train("--resume", run) == 2
    assert "was begun on other data" in capsys.readouterr().err


def test_a_second_run_on_the_directory_is_refused(cut, capsys):
    from experiments.runtime import run_directory as runs

    run = cut(20)
    with runs.locked(run):
        assert train("--resume", run) == 2
    assert f"another process is at work in {run}" in capsys.readouterr().err
    with runs.locked(run):  # it went with its holder
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_where_nothing_can_be_locked_a_run_goes_on_with_a_warning(
    tmp_path, number, monkeypatch, capsys
):
    """File systems over a network may have no locks, or none for directories."""

    def refuse(handle, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    words = ("--network.hidden", 8, "--iterations", 2, "--checkpoint.keep", 0, "--out", tmp_path)
    assert train(*words) == 0
    (line,) = capsys.readouterr().err.splitlines()
    reason = f"the file system of {directory_in(tmp_path)} has no locks ({os.strerror(number)})"
    assert line.startswith(f"warning: {reason}")


def test_what_is_damaged_is_named_and_done_again(whole, cut, capsys):
    run = cut(40)
    newest = checkpoints.sealed(run / checkpoints.DIRECTORY)[-1][1]
    file = max(
        (path for path in newest.rglob("*") if path.is_file()), key=lambda k: k.stat().st_size
    )
    file.write_bytes(file.read_bytes()[:-1])
    assert train("--resume", run) == 0
    assert f"warning: checkpoint 40 is not used, for {file} has" in capsys.readouterr().err
    assert unlike(run, whole) == []


def test_where_no_checkpoint_is_whole_that_is_said(cut, capsys):
    run = cut(40)
    for _, path in checkpoints.sealed(run / checkpoints.DIRECTORY):
        flip(path / "manifest.json", random.Random(0))
    assert train("--resume", run) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "manifest.json is damaged" in line


def test_a_damaged_config_is_taken_from_the_checkpoint(whole, cut):
    run = cut(40)
    (run / "config.json").write_text('{"config": ')
    assert train("--resume", run) == 0
    assert unlike(run, whole) == []


def test_damaged_metrics_are_set_aside(cut, capsys):
    run = cut(40)
    lines = run / "metrics.jsonl"
    lines.write_text(lines.read_text().replace("1", "2", 1))
    assert train("--resume", run) == 0
    assert "metrics.jsonl is not what was written" in capsys.readouterr().err
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 5
    assert (run / "metrics.jsonl.damaged").exists()


@pytest.mark.parametrize("words", [("nowhere",), (".",)])
def test_a_directory_without_a_run_is_refused(words, capsys):
    assert train("--resume", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "in which no run was begun" in line


# On other devices than before: the trainer itself, without the command around it.


def trainer_on(stages, shards, message_dtype="full"):
    config = TrainConfig(mesh=MeshConfig(message_dtype=message_dtype), evaluate_every=5)
    dataset = load(DataConfig(limit=101))
    count = stages * shards
    mesh = None if count == 1 else pdadmm.make_mesh(stages, shards, jax.devices()[:count])
    splits = build.splits(dataset, np.float64 if jax.config.jax_enable_x64 else np.float32, mesh)
    settings = pdadmm.admm.Config(nu=0.1, rho=0.5, p_solver="layer", W_solver="layer")
    return ADMMTrainer(config, splits, (64, 8, 8, 8, 10), settings, mesh)


@pytest.mark.slow
def test_rounded_messages_are_remembered_on_the_same_mesh(tmp_path):
    mode = trainer_on(2, 1, "int8")
    start = last_of(mode, mode.init(), 5)
    found = saved(mode, start, tmp_path)
    expected = jax.tree.map(np.asarray, last_of(mode, start, 10).state)
    assert np.any(expected.messages.f_sent)
    resumed = last_of(mode, mode.restore(found), 10).state
    jax.tree.map(np.testing.assert_array_equal, resumed, expected)


@pytest.mark.slow
@pytest.mark.x64
def test_other_meshes_go_on_to_rounding(tmp_path):
    """From 8 stages to 2 with shared samples, and to a single device."""
    wide, narrow, alone = trainer_on(8, 1), trainer_on(2, 2), trainer_on(1, 1)
    start = last_of(wide, wide.init(), 5)
    found = saved(wide, start, tmp_path / "wide")
    expected = pdadmm.admm.reshard(last_of(wide, start, 15).state, None)
    found = saved(narrow, last_of(narrow, narrow.restore(found), 10), tmp_path / "narrow")
    resumed = last_of(alone, alone.restore(found), 15).state
    assert int(resumed.iteration) == 15
    for have, want in zip(*map(jax.tree.leaves, (resumed, expected)), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-12 * np.max(np.abs(want)))
