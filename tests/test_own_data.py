"""Data of one's own on the command line: regression, class names, standardised columns."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

import pdadmm_jax as pdadmm
from experiments.data import DataConfig, load
from experiments.train import figure
from experiments.train.command import remarks
from pdadmm_jax.inference import loss_and_score
from tests.commands import assert_refused, run, train
from tests.run_directories import cut_off, directory_in, lines_of, unlike
from tests.selection import selected

SMALL = ("--network.hidden", 16, 16, "--network.activation", "tanh", "--evaluate-every", 10)
SWEEPS = ("--algorithm", "sweeps", "--sweeps.batch", 16)


WAYS = {
    "one device": (),
    "mesh": ("--mesh.layer", 2, "--mesh.data", 2),
    "stages": (*SWEEPS, "--mesh.layer", 3),
    "double": ("--double",),
}
ACCURATE = ("compare", "race", "study convergence", "study communication", "study ablations")


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    """A table in which prices follow from numbers of very different sizes."""
    random = np.random.default_rng(0)
    rooms, year = random.integers(1, 9, 240), 1900 + 100 * random.random(240)
    price = 1000 * (90 + 20 * rooms + 0.8 * (year - 1950) + random.normal(size=240))
    path = tmp_path_factory.mktemp("data") / "houses.csv"
    np.savetxt(
        path,
        np.column_stack([rooms, year, np.full(240, 7), price]),
        delimiter=",",
        header="rooms,year,planet,price",
        comments="",
    )
    return path


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Two numbers to be met in an npz file, and another file with names of classes."""
    folder = tmp_path_factory.mktemp("data")
    x = np.random.default_rng(1).normal(size=(150, 3))
    np.savez(folder / "two.npz", x=x, y=np.column_stack([x[:, 0], 2 * x[:, 1] - x[:, 2]]))
    np.savez(folder / "pets.npz", x=x, y=np.where(x[:, 0] > 0, "dog", "cat"))
    return folder


def test_a_table_is_learnt_by_regression(houses, tmp_path):
    words = ("--data.file", houses, *SMALL, *SWEEPS, "--iterations", 40)
    code, out, err = run("train", *words, "--out", tmp_path)
    assert code == 0, err
    first, *others = out.splitlines()
    assert first == (
        f"houses ({houses}, of which 48 are set aside for the test): 173 train, 19 validation, 48 "
        "test samples; regression on 1 target(s); standardised"
    )
    assert "network 3 - 16 - 16 - 1 on" in others[0]
    assert any(line.split() == ["loss", "R^2", "error", "(RMS)"] for line in others)
    directory = directory_in(tmp_path)
    summary = json.loads((directory / "summary.json").read_text())
    assert 0.8 < summary["test_r2"] <= summary["train_r2"] + 0.1 < 1.1
    assert summary["data"] == {
        "task": "regression",
        "levels": 1,
        "columns": ["rooms", "year", "planet"],
    }
    assert not [name for name in summary if "accuracy" in name]
    evaluated = [line for line in lines_of(directory) if "train_loss" in line]
    assert {"train_r2", "validation_r2", "validation_loss"} <= evaluated[-1].keys()
    assert f"R^2 {evaluated[-1]['train_r2']:.3f} val {evaluated[-1]['validation_r2']:.3f}" in out
    config = json.loads((directory / "config.json").read_text())["config"]
    assert config["method"]["loss"] == "squared_error"
    assert (directory / "training.png").stat().st_size > 10_000


@pytest.mark.parametrize("words", [("--data.no-standardise",), ("--data.task", "classification")])
def test_only_a_regression_is_standardised_and_only_by_default(arrays, tmp_path, words, capsys):
    file = arrays / ("pets.npz" if "classification" in words else "two.npz")
    assert train("--data.file", file, *words, *SMALL, "--iterations", 2, "--out", tmp_path) == 0
    assert "standardised" not in capsys.readouterr().out
    with np.load(directory_in(tmp_path) / "weights.npz") as kept:
        assert not {"inputs_mean", "targets_mean"} & {*kept}


def test_what_a_prediction_needs_is_kept(houses, tmp_path):
    """From weights.npz, and samples as they are in the file, the numbers of the summary."""
    words = ("--data.file", houses, *SMALL, "--iterations", 20)
    assert train(*words, "--out", tmp_path) == 0
    directory = directory_in(tmp_path)
    given = load(DataConfig(file=houses, standardise=False))
    network = pdadmm.load(directory / "weights.npz")
    error = np.asarray(network.predict(given.x_test)) - given.y_test
    summary = json.loads((directory / "summary.json").read_text())
    assert np.sqrt(np.mean(error**2)) == pytest.approx(summary["test_rmse"], rel=1e-3)
    explained = 1 - np.mean(error**2) / np.var(given.y_test)
    assert explained == pytest.approx(summary["test_r2"], rel=1e-3)


def test_classes_keep_their_names(arrays, tmp_path):
    words = ("--data.file", arrays / "pets.npz", *SMALL, "--iterations", 10, "--out", tmp_path)
    assert train(*words) == 0
    directory = directory_in(tmp_path)
    with np.load(directory / "weights.npz") as kept:
        assert kept["classes"].tolist() == ["cat", "dog"]
        assert not {"inputs_mean", "targets_mean"} & {*kept}
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["data"]["task"] == "classification"
    assert "test_accuracy" in summary
    assert "test_rmse" not in summary


@pytest.mark.parametrize("way", selected(WAYS, fast=["mesh", "stages"]))
def test_several_targets_on_several_devices(arrays, tmp_path, way):
    options = ("--data.file", arrays / "two.npz", *SMALL, "--iterations", 30, *WAYS[way])
    assert train(*options, "--out", tmp_path) == 0
    summary = json.loads((directory_in(tmp_path) / "summary.json").read_text())
    assert 0.1 < summary["validation_r2"] < 1
    assert "test_rmse" not in summary  # of two targets in units of their own


def test_a_resumed_regression_is_the_uninterrupted_one(houses, tmp_path):
    words = ("--data.file", houses, *SMALL, "--checkpoint.every", 10)
    assert (
        train(*words, "--iterations", 30, "--checkpoint.keep", 9, "--out", tmp_path / "runs") == 0
    )
    whole = directory_in(tmp_path / "runs")
    cut = cut_off(whole, tmp_path / "cut", after=10)
    moved = tmp_path / "moved.csv"
    moved.write_bytes(houses.read_bytes())
    assert train("--resume", cut, "--data.file", moved) == 0
    assert unlike(cut, whole) == []
    kept, again = (dict(np.load(run / "weights.npz")) for run in (whole, cut))
    assert {"inputs_mean", "targets_scale"} <= {*kept}
    assert all(np.array_equal(kept[name], again[name]) for name in kept if "_" in name)


def test_other_data_are_not_resumed(houses, tmp_path, capsys):
    moved = tmp_path / "houses.csv"
    moved.write_bytes(houses.read_bytes())
    words = ("--data.file", moved, *SMALL, "--iterations", 2)
    assert train(*words, "--out", tmp_path / "runs") == 0
    moved.write_text(moved.read_text().replace("1", "2"))
    capsys.readouterr()
    assert train("--resume", directory_in(tmp_path / "runs"), "--iterations", 4) == 2
    assert "was begun on other data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "notes"),
    [
        ({}, ["note: values reach", "note: 80 classes among 58 samples"]),
        ({"task": "regression", "standardise": False}, ["note: values reach"]),
        ({"task": "regression"}, []),
    ],
)
def test_what_may_not_be_meant_is_said(tmp_path, given, notes):
    rows = [f"{k},{2000 - k},{k}" for k in range(80)]
    (tmp_path / "x.csv").write_text("\n".join(rows))
    dataset = load(DataConfig(file=tmp_path / "x.csv", **given))
    found = remarks(dataset, own=True)
    assert [line[: len(note)] for line, note in zip(found, notes, strict=True)] == notes


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        *((command, "the targets of houses are numbers, but this command") for command in ACCURATE),
        ("train --method.loss multiclass_hinge", "loss is multiclass_hinge, a loss for classes"),
        ("train --method.smoothing 0.1", "smoothing is 0.1, but squared_error has none"),
        ("train --data.task classification", "the target has 2"),
        ("train --data.test-file none.csv", "test_file is none.csv, which is no file"),
    ],
)
def test_what_does_not_fit_is_refused(houses, tmp_path, command, complaint):
    out = ("--out", tmp_path / "runs")
    assert_refused((*command.split(), "--data.file", houses, *out), complaint)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("values", "bottom"),
    [([0.2, 0.9], 0.2), ([-3e4, 0.8], -1), ([-9.0, -3.0], -9), ([-0.5, 1], -0.5)],
)
def test_a_bad_start_leaves_room_for_the_rest_of_the_curve(values, bottom):
    axes = Figure().subplots()
    axes.margins(0)
    axes.plot(values)
    figure._cut_below(axes)
    assert axes.get_ylim() == (bottom, values[-1])


@pytest.mark.parametrize("filled", [False, True])
def test_r2_is_the_share_of_the_variance_of_these_samples(filled):
    random = np.random.default_rng(0)
    x, W = random.normal(size=(40, 3)).astype("f4"), random.normal(size=(3, 4)).astype("f4")
    params = [(W, np.zeros(4, "f4")), (np.eye(4, dtype="f4"), np.zeros(4, "f4"))]
    y = (100 + random.normal(size=(40, 4))).astype("f4")
    y[:, 3] = 0.1  # constant, of which no share can be accounted for
    config = pdadmm.sweeps.Config(activation="relu", loss="squared_error")
    valid = np.arange(40) < 30 if filled else None
    loss, r2 = loss_and_score(params, pdadmm.Data(x, y, valid), config)
    rows = slice(30 if filled else 40)
    said, truth = np.maximum(x @ W, 0)[rows], y[rows]
    error, variance = ((said - truth) ** 2).mean(0), truth.var(0)
    np.testing.assert_allclose(loss, error.sum() / 2, rtol=1e-5)
    np.testing.assert_allclose(r2, np.mean(1 - error[:3] / variance[:3]), rtol=1e-4)
    assert np.isnan(loss_and_score(params, pdadmm.Data(x, np.full_like(y, 0.1)), config)[1])
