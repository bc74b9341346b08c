"""``train --algorithm sweeps``: saved, resumed and stopped like any other run."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from experiments import build
from experiments.data import DataConfig, load
from experiments.options.network import MethodConfig, SweepsConfig
from experiments.train import checkpoints
from experiments.train.options import TrainConfig
from experiments.train.sweeps import SweepsTrainer
from pdadmm_jax.sweeps import stream
from tests.commands import last_of, saved, train
from tests.run_directories import cut_off, directory_in, lines_of, unlike

SMALL = ("--network.hidden", "20", "20", "--data.limit", "150", "--checkpoint.every", "10")
SWEEPS = ("--algorithm", "sweeps")
WAYS = {
    "all": (),
    "batches": ("--sweeps.batch", 32, "--sweeps.rate", 0.003),
    "estimated rates": ("--sweeps.batch", 32),
    "constant": ("--sweeps.cosine", None),
}
PROXIMAL = pdadmm.sweeps.Config()
ADAM = pdadmm.sweeps.Config(batch=40, rule=pdadmm.sweeps.Adam(3e-3))


def swept(out, *words, code=0):
    """The directory of a run that ends with a code."""
    assert train(*SWEEPS, *SMALL, *words, "--out", out) == code
    return directory_in(out)


@pytest.fixture(scope="module", params=WAYS)
def whole(request, tmp_path_factory):
    """A run that nobody disturbs, with all of its checkpoints."""
    out = tmp_path_factory.mktemp("whole")
    return swept(out, *WAYS[request.param], "--iterations", 35, "--checkpoint.keep", 9)


def test_a_run_learns_and_says_so(whole):
    lines, summary = lines_of(whole), json.loads((whole / "summary.json").read_text())
    assert [line["iteration"] for line in lines] == list(range(1, 36))
    assert summary["loss"] == lines[-1]["loss"] < 0.3 * lines[0]["loss"]
    assert summary["train_accuracy"] > 0.9
    assert summary["test_accuracy"] > 0.7
    assert (whole / "training.png").stat().st_size > 10_000


@pytest.mark.parametrize("after", [0, 20])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(whole, tmp_path, after, capsys):
    run = cut_off(whole, tmp_path / "run", after)
    assert train("--resume", run) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert ("resuming after iteration" in out) == (after > 0)
    assert unlike(run, whole) == []


def test_a_pipeline_that_stays_full_is_resumed_as_it_was(tmp_path, capsys):
    """With a first pass that ends before any batch has come to the last layer."""
    words = ("--network.hidden", 8, 8, 8, 8, "--mesh.layer", 4, "--data.limit", 100)
    words += ("--sweeps.batch", 50, "--sweeps.microbatches", 1, "--iterations", 12)
    words += ("--algorithm", "sweeps", "--checkpoint.every", 4, "--evaluate-every", 2)
    words += ("--checkpoint.keep", 9)
    assert train(*words, "--out", tmp_path) == 0
    whole = directory_in(tmp_path)
    assert lines_of(whole)[0]["loss"] is None
    assert lines_of(whole)[-1]["loss"] > 0
    run = cut_off(whole, tmp_path / "run", 8)
    assert train("--resume", run) == 0
    assert "resuming after iteration 8" in capsys.readouterr().out
    assert unlike(run, whole) == []


@pytest.mark.parametrize("stages", [2, 1])
def test_a_run_whose_batches_were_split_otherwise_begins_with_an_empty_pipeline(
    stages, tmp_path, monkeypatch
):
    """As by a version with other defaults; on other stages it begins so anyway."""
    words = ("--algorithm", "sweeps", "--network.hidden", 8, 8, "--mesh.layer", 2)
    words += ("--data.limit", 100, "--sweeps.batch", 50, "--sweeps.schedule", "one_batch_late")
    with monkeypatch.context() as patched:
        patched.setattr(stream, "default_microbatches", lambda *_: 4)
        assert train(*words, "--iterations", 3, "--out", tmp_path) == 0
    run = directory_in(tmp_path)
    assert train("--resume", run, "--iterations", 6, "--mesh.layer", stages) == 0
    assert [line["iteration"] for line in lines_of(run)] == [1, 2, 3, 4, 5, 6]


def trainer_on(stages, config):
    mesh = None if stages == 1 else pdadmm.make_mesh(stages, devices=jax.devices()[:stages])
    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32
    splits = build.splits(load(DataConfig(limit=101)), dtype, mesh)
    return SweepsTrainer(TrainConfig(evaluate_every=5), splits, (64, 8, 8, 8, 8, 10), config, mesh)


@pytest.mark.x64
@pytest.mark.parametrize("config", [PROXIMAL, pytest.param(ADAM, marks=pytest.mark.slow)])
def test_other_meshes_go_on_to_rounding(tmp_path, config):
    """From 4 stages, a ring, to 2 and to a single device."""
    wide, narrow, alone = (trainer_on(stages, config) for stages in (4, 2, 1))
    found = saved(wide, last_of(wide, wide.init(), 5), tmp_path / "wide")
    found = saved(narrow, last_of(narrow, narrow.restore(found), 10), tmp_path / "narrow")
    resumed = last_of(alone, alone.restore(found), 15)
    expected = last_of(wide, wide.init(), 15)
    for have, want in zip(
        *(jax.tree.leaves(pdadmm.params(end.state)) for end in (resumed, expected)),
        strict=True,
    ):
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-10 * np.max(np.abs(want)))


@pytest.mark.parametrize(
    ("way", "before", "after"),
    [
        (("--sweeps.nu", 0.2, "--sweeps.clipping", 1e9), ("nu", 0.2), 200.0),
        (("--sweeps.rate", 5.0), ("rate", 5.0), 0.005),
    ],
)
def test_a_rising_loss_is_answered(tmp_path, capsys, way, before, after):
    """Steps a thousand times too long are made a thousand times shorter."""
    batch = ("--sweeps.batch", 32) if before[0] == "rate" else ()
    options = ("--divergence.answer", "return", "--divergence.raised", 1000, "--iterations", 40)
    options += ("--network.initializer", "he", "--sweeps.cosine", None)
    run = swept(tmp_path, *way, *batch, *options)
    out = capsys.readouterr().out
    assert "warning: the loss is" in out
    assert f"on {before[0]} is {after:g}" in out
    numbers = {line[before[0]] for line in lines_of(run) if before[0] in line}
    assert after in numbers
    assert json.loads((run / "summary.json").read_text())["train_accuracy"] > 0.9


def test_clipped_updates_diverge_at_no_penalty(tmp_path, capsys):
    run = swept(tmp_path, "--sweeps.nu", 0.2, "--iterations", 40)
    assert "warning" not in capsys.readouterr().out
    assert json.loads((run / "summary.json").read_text())["train_accuracy"] > 0.9


@pytest.mark.parametrize(
    ("loss", "words", "least_f"),
    [
        ("squared_error", {}, 0.25),
        ("squared_error", {"least_f": 0.0}, 0.0),
        ("squared_error", {"cosine": None}, None),
        ("softmax_cross_entropy", {}, None),
        ("softmax_cross_entropy", {"least_f": 0.5}, 0.5),
    ],
)
def test_layers_of_a_regression_rest_at_noise_unless_told_otherwise(loss, words, least_f):
    options = TrainConfig(method=MethodConfig(loss=loss), sweeps=SweepsConfig(**words))
    assert build.sweeps(options, (3, 8, 1), 100).rule.least_f == least_f


@pytest.mark.parametrize("batch", [(), ("--sweeps.batch", 32)])
def test_a_rate_falls_as_it_is_told(tmp_path, batch):
    """To nothing after 3 passes, from where on the weights stay."""
    run = swept(tmp_path, *batch, "--sweeps.cosine", 3, "--iterations", 6)
    losses = [line["loss"] for line in lines_of(run)]
    assert losses[0] > losses[1] > losses[2] > losses[3]
    np.testing.assert_allclose(losses[4:], losses[3], rtol=0.02)


def test_by_default_the_rate_ends_with_the_iterations_a_run_is_given(tmp_path, capsys):
    """With those of a resumed run it goes on where that rate would be."""
    options = dict.fromkeys(("default", "explicit", "resumed"), ("--sweeps.batch", 32))
    options["explicit"] += ("--sweeps.cosine", 4)
    runs = {
        name: swept(tmp_path / name, *words, "--iterations", 4) for name, words in options.items()
    }
    losses = {name: [line["loss"] for line in lines_of(run)] for name, run in runs.items()}
    assert losses["default"] == losses["explicit"]
    assert capsys.readouterr().out.count(", falling over 4 passes") == 3
    assert train("--resume", runs["resumed"], "--iterations", 12) == 0
    assert ", falling over 12 passes" in capsys.readouterr().out
    assert lines_of(runs["resumed"])[-1]["loss"] < 0.9 * losses["default"][-1]
    assert train("--resume", runs["explicit"], "--iterations", 12) == 0
    np.testing.assert_allclose(
        [line["loss"] for line in lines_of(runs["explicit"])][5:], losses["default"][-1], rtol=0.05
    )


def test_values_that_blow_up_are_named(tmp_path, capsys):
    run = swept(tmp_path, "--sweeps.batch", 32, "--sweeps.rate", 1e38, code=1)
    out, err = capsys.readouterr()
    assert err == ""
    assert "error: values ceased to be finite at iteration 1: " in out
    found, _ = checkpoints.newest(run / checkpoints.DIRECTORY)
    assert f"the state after iteration 0 is saved in {found.path}" in out
    with np.load(run / "weights.npz") as weights:
        assert all(np.isfinite(weights[name]).all() for name in ("W1", "b1", "W2", "b2"))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--sweeps.nu", 5), "sweeps.nu is 5.0, but the algorithm is admm: add --algorithm sweeps"),
        ((*SWEEPS, "--method.rho", 1), "method.rho is given, but sweeps over all"),
        ((*SWEEPS, "--growth.at", 9), "growth.at is given, but sweeps over all"),
        (
            (*SWEEPS, "--sweeps.rate", 1),
            "sweeps.rate is given, but sweeps over all",
        ),
        (
            (*SWEEPS, "--sweeps.batch", 9, "--sweeps.ridge", 1),
            "sweeps.ridge is given, but sweeps over batches have no use for it",
        ),
        ((*SWEEPS, "--sweeps.batch", 0), "sweeps.batch is 0: give 1 or more"),
        ((*SWEEPS, "--sweeps.nu", 0), "nu is 0.0, but has to be a finite number"),
        ((*SWEEPS, "--sweeps.momentum", 1), "momentum is 1.0"),
        (
            (*SWEEPS, "--sweeps.batch", 9, "--mesh.layer", 8, "--mesh.data", 2),
            "batch is 9, but 2 data shards have to share it evenly",
        ),
        (
            (
                *SWEEPS,
                "--sweeps.batch",
                9,
                "--sweeps.schedule",
                "one_batch_late",
                "--sweeps.microbatches",
                2,
                "--mesh.layer",
                3,
            ),
            "microbatches is 2, but 'one_batch_late' needs at least 5 on these stages: give 5",
        ),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(words, complaint, capsys):
    assert train(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


@pytest.mark.parametrize(
    ("words", "rule", "rate"),
    [
        ((), "adam", 0.01),  # 5 updates, one iteration's
        (("--sweeps.cosine", None), "adam", 0.003),
        (("--sweeps.cosine", 20), "prodigy", 1.0),  # 100
        (("--sweeps.cosine", 19), "adam", 0.01),
        (("--sweeps.cosine", 20, "--sweeps.rate", 0.02), "adam", 0.02),
        (("--sweeps.cosine", 20, "--sweeps.rate", 0.5, "--sweeps.rule", "prodigy"), "prodigy", 0.5),
    ],
)
def test_a_rate_is_estimated_if_it_is_not_given_and_updates_are_enough(tmp_path, words, rule, rate):
    run = swept(tmp_path, "--sweeps.batch", 30, "--iterations", 1, *words)
    chosen = json.loads((run / "config.json").read_text())["config"]["sweeps"]
    assert (chosen["rule"], chosen["rate"]) == (rule, pytest.approx(rate))


@pytest.mark.slow
def test_a_run_keeps_what_was_chosen_for_its_stages_on_others(tmp_path):
    words = ("--algorithm", "sweeps", "--network.hidden", 8, 8, 8, "--data.limit", 100)
    words += ("--sweeps.batch", 50, "--mesh.layer", 4, "--out", tmp_path)
    assert train(*words, "--iterations", 4, "--evaluate-every", 2) == 0
    run = directory_in(tmp_path)
    chosen = json.loads((run / "config.json").read_text())["config"]["sweeps"]
    assert (chosen["schedule"], chosen["rule"]) == ("streaming", "lion")
    assert chosen["rate"] == pytest.approx(2e-3)
    assert train("--resume", run, "--iterations", 8, "--mesh.layer", 1) == 0
    assert [line["iteration"] for line in lines_of(run)] == list(range(1, 9))
