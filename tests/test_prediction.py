"""Trained networks are evaluated and asked on the command line."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

import pdadmm_jax as pdadmm
from experiments.data import DataConfig, load
from tests.commands import assert_refused, run, train
from tests.run_directories import directory_in

SMALL = ("--algorithm", "sweeps", "--sweeps.batch", 32, "--network.hidden", 16, 16)
rng = np.random.default_rng(0)
X = np.column_stack([rng.normal(size=200), 1e5 + 300 * rng.normal(size=200)])
PRICE = 1000 * (50 + 20 * X[:, 0] - (X[:, 1] - 1e5) / 30)


def trained(folder, *words):
    assert train(*SMALL, *words, "--out", folder / "runs") == 0
    return directory_in(folder / "runs")


def table(path, rows, names):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("digits"), "--iterations", 30)


@pytest.fixture(scope="module")
def prices(tmp_path_factory):
    """A regression on numbers far from 1, standardised."""
    folder = tmp_path_factory.mktemp("prices")
    path = table(folder / "houses.csv", np.column_stack([X, PRICE]), ["size", "plot", "price"])
    words = ("--data.file", path, "--iterations", 80)
    return trained(folder, *words), path


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Classes with names, images in uint8."""
    folder = tmp_path_factory.mktemp("pets")
    x = rng.integers(0, 256, (120, 4, 4)).astype(np.uint8)
    y = np.where(x[:, 0, 0] > 127, "dog", "cat")
    np.savez(folder / "pets.npz", x=x, y=y)
    return trained(folder, "--data.file", folder / "pets.npz", "--iterations", 40), x, y


def test_the_runs_own_samples_give_what_the_summary_says(digits):
    summary = json.loads((digits / "summary.json").read_text())
    for split in ("train", "validation", "test"):
        code, out, err = run("evaluate", digits, "--data.split", split)
        assert (code, err) == (0, "")
        accuracy = f"accuracy {summary[f'{split}_accuracy']:.2%}"
        assert out.startswith(f"digits, {split} samples: ")
        assert out.endswith(f"loss {summary[f'{split}_loss']:.4g}, {accuracy}\n")


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_predictions_are_those_of_the_network(digits, tmp_path, suffix):
    path = tmp_path / f"said{suffix}"
    code, out, err = run("predict", digits, "--out", path)
    assert (code, err) == (0, "")
    assert out == f"digits, test samples: 360 predictions saved to {path}\n"
    network = pdadmm.load(digits / "weights.npz")
    x = load(DataConfig()).x_test
    if suffix == ".npz":
        found = np.load(path)
        np.testing.assert_allclose(found["outputs"], network.forward(x), rtol=1e-6)
        said = found["prediction"]
    else:
        said = np.genfromtxt(path, names=True, dtype=int)["prediction"]
    np.testing.assert_array_equal(said, network.predict(x))


def test_numbers_are_predicted_in_their_own_units(prices, tmp_path):
    directory, path = prices
    summary = json.loads((directory / "summary.json").read_text())
    code, out, _ = run("evaluate", directory)
    assert code == 0
    assert f"R^2 {summary['test_r2']:.4f}, error (RMS) {summary['test_rmse']:.4g}\n" in out
    code, out, _ = run("evaluate", directory, "--data.file", path)
    assert code == 0
    assert "200 samples" in out
    bare = table(tmp_path / "new.csv", X[:20], ["size", "plot"])  # without the price
    assert run("predict", directory, "--data.file", bare, "--out", tmp_path / "p.csv").code == 0
    said = np.genfromtxt(tmp_path / "p.csv", names=True)["prediction"]
    assert np.abs(said - PRICE[:20]).mean() < 0.3 * PRICE.std()
    assert_refused(("evaluate", directory, "--data.file", bare), "has no targets to compare with")


def test_classes_are_predicted_by_name(pets, tmp_path):
    directory, x, y = pets
    np.savez(tmp_path / "new.npz", x=x[:10])
    words = ("--data.file", tmp_path / "new.npz", "--out", tmp_path / "p.csv")
    assert run("predict", directory, *words).code == 0
    first, *said = (tmp_path / "p.csv").read_text().splitlines()
    assert first == "prediction"
    assert np.mean(np.array(said) == y[:10]) > 0.7
    np.savez(tmp_path / "all.npz", x=x, y=y)
    code, out, _ = run("evaluate", directory, "--data.file", tmp_path / "all.npz")
    assert code == 0
    assert "120 samples, loss" in out


def test_a_network_of_the_librarys_is_asked_too(tmp_path):
    data = pdadmm.Data(X.astype("f4"), PRICE[:, None].astype("f4"))
    fitted = pdadmm.fit(data, (2, 16, 1), 40, standardise=True)
    fitted.network.save(tmp_path / "network.npz")
    np.savez(tmp_path / "new.npz", x=X, y=PRICE)
    words = (tmp_path / "network.npz", "--data.file", tmp_path / "new.npz")
    code, out, _ = run("evaluate", *words)
    assert code == 0
    assert f"R^2 {float(fitted.network.evaluate(data)[1]):.4f}" in out
    assert_refused(("evaluate", words[0]), "a network without samples of its own")


def _changed(digits, pets, prices, folder, name):
    """A command that is a mistake, and what is said of it."""
    directory, x, _ = pets
    if name == "features":
        np.savez(folder / "x.npz", x=np.zeros((5, 7)))
        return (prices[0], "--data.file", folder / "x.npz"), "7 features, but the network takes 2"
    if name == "columns":
        path = table(folder / "x.csv", np.zeros((5, 4)), ["a", "b", "c", "d"])
        return (prices[0], "--data.file", path), "4 columns, but the network takes 2 features"
    if name == "order":
        path = table(folder / "x.csv", X[:5, ::-1], ["plot", "size"])
        return (prices[0], "--data.file", path), "feature 1 is plot, but of the training samples"
    if name == "stored":
        np.savez(folder / "x.npz", x=x / 255)
        return (directory, "--data.file", folder / "x.npz"), "float64, but the training samples"
    if name == "class":
        np.savez(folder / "x.npz", x=x, y=np.full(len(x), "cow"))
        return (directory, "--data.file", folder / "x.npz"), "cow"
    if name == "no x":
        np.savez(folder / "x.npz", a=x)
        return (directory, "--data.file", folder / "x.npz"), "lacks x: it has a"
    if name == "nan":
        np.savez(folder / "x.npz", x=np.full((3, 2), np.nan))
        return (prices[0], "--data.file", folder / "x.npz"), "is nan (row 0, column 0"
    if name == "run":
        return (folder / "absent",), "which is not there"
    if name == "empty run":
        return (folder,), "weights.npz"
    if name == "file":
        return (digits, "--data.file", folder / "absent.npz"), "which is no file"
    return (digits, "--data.file", directory / "weights.npz", "--data.split", "train"), "leave one"


@pytest.mark.parametrize(
    "name",
    [
        *("features", "columns", "order", "stored", "class", "no x", "nan"),
        *("run", "empty run", "file", "split"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(digits, pets, prices, tmp_path, name):
    words, complaint = _changed(digits, pets, prices, tmp_path, name)
    assert_refused(("evaluate", *words), complaint)


def test_a_run_that_has_not_ended_says_so(digits, tmp_path):
    run = shutil.copytree(digits, tmp_path / "run")
    (run / "summary.json").unlink()
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 64)))
    words = ("evaluate", run, "--data.file", tmp_path / "x.npz")
    assert_refused(words, f"has no summary.json: let it end (train --resume {run})")


def test_a_place_that_takes_no_file_is_named(digits):
    assert_refused(("predict", digits, "--out", "/proc/said.csv"), "out is /proc/said.csv, which")


@pytest.mark.parametrize("out", ["said.txt", "absent/said.csv"])
def test_an_output_that_cannot_be_is_refused(digits, tmp_path, out):
    assert_refused(("predict", digits, "--out", tmp_path / out), str(tmp_path / out))
