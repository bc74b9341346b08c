import dataclasses
import typing
from pathlib import Path

import numpy as np
import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.data import NAMES, DataConfig, DataError, load
from experiments.data.catalogue import ENTRIES
from experiments.data.loading import hold_out
from pdadmm_jax.network import Scaling


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(0, 0.9), st.integers(0, 2**32))
def test_hold_out_deals_out_every_sample_once(count, share, seed):
    config = DataConfig(validation=share, seed=seed)
    train, validation = (
        hold_out(count, config) if round(share * count) < count else ([], range(count))
    )
    assert sorted([*train, *validation]) == list(range(count))
    assert len(validation) == round(share * count)


@settings(deadline=None)
@given(st.integers(10, 500), st.integers(0, 99), st.data())
def test_hold_out_is_reproducible_and_limits_are_nested(count, seed, data):
    config = DataConfig(seed=seed)
    train, validation = hold_out(count, config)
    limit = data.draw(st.integers(1, len(train)))
    few, same = hold_out(count, dataclasses.replace(config, limit=limit))
    assert few.tolist() == train[:limit].tolist()
    assert same.tolist() == validation.tolist()


def test_samples_and_labels_stay_together():
    everything = load(DataConfig(validation=0))
    by_image = dict(zip(map(bytes, everything.x_train), everything.y_train, strict=True))
    part = load(DataConfig(validation=0.25, limit=400, seed=3))
    assert part.x_train.shape == (400, 64)
    assert part.x_validation.shape == (359, 64)
    assert everything.x_validation.shape == (0, 64)
    for x, y in ((part.x_train, part.y_train), (part.x_validation, part.y_validation)):
        assert [by_image[bytes(row)] for row in x] == y.tolist()
    np.testing.assert_array_equal(part.x_test, everything.x_test)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "mnst"}, "name is 'mnst': choose one of digits, mnist, "),
        ({"protocol": "papr"}, "protocol is 'papr': choose one of full, paper"),
        ({"protocol": "paper"}, "'paper' is not defined for digits: use 'full'"),
        ({"validation": 1.0}, "validation is 1.0: give a share from 0 up to below 1"),
        ({"validation": -0.1}, "validation is -0.1: give"),
        ({"validation": float("nan")}, "validation is nan: give"),
        ({"validation": 0.9999}, "validation is 0.9999: none of 1437 samples is left"),
        ({"limit": 0}, "limit is 0: give at least 1"),
        ({"limit": 1294}, "limit is 1294, but only 1293 samples can be trained on"),
        ({"seed": -1}, "seed is -1: give 0 or more"),
    ],
)
def test_what_is_out_of_range_is_named(wrong, message):
    with pytest.raises(DataError, match=message):
        load(DataConfig(**wrong))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prepared": Path("a")}, "prepared is a, but digits comes with the code: leave it out"),
        ({"archives": Path("a")}, "archives is a, but digits comes with the code: leave it out"),
        ({"test_file": Path("a.npz")}, "test_file is a.npz, but file is not given"),
        ({"test": 0.5}, "test is 0.5, but file is not given: give both or neither"),
        ({"task": "regression"}, "task is regression, but file is not given"),
    ],
)
def test_what_a_user_names_is_not_passed_over(given, message):
    with pytest.raises(DataError, match=message):
        load(DataConfig(**given))


@pytest.mark.parametrize("limit", [None, 50])
def test_the_training_samples_alone_say_how_to_standardise(limit):
    config = DataConfig(limit=limit, validation=0.5)
    plain, found = load(config), load(dataclasses.replace(config, standardise=True))
    constant = plain.x_train.min(0) == plain.x_train.max(0)
    assert constant.any()
    np.testing.assert_allclose(found.x_train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.x_train.std(0)[~constant], 1, rtol=1e-4)
    rows = plain.x_train.astype(float)
    mean, std = rows.mean(0), np.where(constant, 1, rows.std(0))
    for split in ("train", "validation", "test"):
        rows = getattr(plain, f"x_{split}")
        np.testing.assert_allclose(getattr(found, f"x_{split}"), (rows - mean) / std, atol=1e-5)
    np.testing.assert_array_equal(found.y_train, plain.y_train)
    assert found.x_scaling is not None
    assert found.y_scaling is None
    assert found.labels.tolist() == plain.labels.tolist() == list(range(10))


def test_a_constant_column_keeps_its_size():
    # The mean of equal numbers may be rounded away from them, and the deviation from zero.
    rows = np.column_stack(
        [np.full(7, 0.1), np.arange(7.0), 1e9 + np.arange(7), np.full(7, 1e-300)]
    )
    rows[0, 3] = 0  # varies, but no square of it does
    scaling = Scaling.of(rows)
    assert scaling.scale[[0, 3]].tolist() == [1, 1]
    assert (scaling.apply(rows)[:, 0] == 0).all()
    np.testing.assert_allclose(scaling.apply(rows)[:, 2], scaling.apply(rows)[:, 1], atol=1e-6)
    np.testing.assert_allclose(scaling.undo(scaling.apply(rows)), rows)


def test_large_numbers_and_targets_are_standardised_before_they_are_rounded(tmp_path):
    x, y = 1e12 + np.arange(40.0)[:, None], np.column_stack([1e12 - np.arange(40.0), np.ones(40)])
    np.savez(tmp_path / "x.npz", x=x, y=y)
    found = load(DataConfig(file=tmp_path / "x.npz", standardise=True))
    assert len(np.unique(found.x_train)) == len(found.y_train)
    np.testing.assert_allclose(found.y_train[:, 0], -found.x_train[:, 0], atol=1e-4)
    assert (found.y_train[:, 1] == 0).all()
    restored = found.y_scaling.undo(found.y_test)
    assert set(restored[:, 0].round()) <= set(y[:, 0])
    assert found.x_scaling is not None
    assert found.labels is None


def test_names_agree():
    assert tuple(ENTRIES) == NAMES
    assert typing.get_args(typing.get_type_hints(DataConfig)["name"]) == NAMES


def test_the_command_line_understands_every_field(capsys):
    config = tyro.cli(
        DataConfig, args=["--name", "svhn_cropped", "--limit", "5", "--archives", "a/b"]
    )
    assert (config.name, config.limit, str(config.archives)) == ("svhn_cropped", 5, "a/b")
    with pytest.raises(SystemExit):
        tyro.cli(DataConfig, args=["--help"])
    described = " ".join(capsys.readouterr().out.split())
    assert "Share of the training samples held out" in described
