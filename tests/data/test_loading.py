import dataclasses
import typing

import numpy as np
import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.data import NAMES, DataConfig, DataError, load
from experiments.data.catalogue import ENTRIES
from experiments.data.loading import hold_out


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
