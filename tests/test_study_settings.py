"""What tuning would add to the recommended settings."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments.data.config import DataConfig
from experiments.runtime.errors import UsageError
from experiments.study import settings
from experiments.study.options import SettingsConfig
from pdadmm_jax import admm, sweeps
from tests.commands import assert_refused


def test_a_factor_changes_the_number_that_it_is_about():
    full, batches = (sweeps.recommended((4, 500, 500, 3), batch) for batch in (None, 32))
    assert settings.scaled(full, 3.0) == full.replace(nu=3 * full.nu)
    assert settings.scaled(batches, 3.0).rule == sweeps.Adam(3 * batches.rule.rate)
    assert settings.scaled(full, 1.0) == full
    penalties = admm.recommended()
    assert settings.scaled(penalties, 3.0) == penalties.replace(
        nu=3 * penalties.nu, rho=3 * penalties.nu
    )
    estimated = sweeps.recommended((4, 500, 500, 3), 32, updates=500)
    assert settings.number(estimated) == pytest.approx(2e-4)
    assert settings.scaled(estimated, 3.0).rule == sweeps.Prodigy(
        updates=500, start=3 * estimated.rule.start
    )


def test_what_is_recommended_is_compared_with_the_best(tmp_path, capsys):
    small = {"layers": (3,), "neurons": 32, "passes": 30, "batch_passes": 10, "seeds": 2}
    options = SettingsConfig(**small, factors=(1.0, 1e4), out=tmp_path)
    assert settings.main(options) == 0
    (directory,) = tmp_path.iterdir()
    full, estimated, batches, penalties = json.loads((directory / "settings.json").read_text())[
        "rows"
    ]
    assert (full["way"], full["recommended"]) == ("all samples", 10)
    assert (estimated["recommended"], batches["recommended"]) == (0.001, 0.01)
    assert (batches["way"], batches["layers"]) == ("batches, one rate", 3)
    assert (penalties["way"], penalties["recommended"]) == ("Algorithm 1", pytest.approx(0.1))
    for row in (full, estimated, batches, penalties):
        well, badly = row["validation"]["1.0"], row["validation"]["10000.0"]
        assert min(well) > max(badly) + 0.2  # a crawl, and steps that are far too long
        assert row["gap"] == 0
    assert "best - recommended" in capsys.readouterr().out
    assert (directory / "settings.png").exists()


def test_numbers_are_scored_by_how_much_of_them_is_explained(tmp_path, capsys):
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 4))
    y = x[:, 0] * x[:, 1]
    parts = {"x_train": x[:250], "y_train": y[:250], "x_test": x[250:], "y_test": y[250:]}
    np.savez(tmp_path / "product.npz", **parts)
    small = {"layers": (3,), "neurons": 32, "passes": 40, "batch_passes": 40, "seeds": 1}
    data = DataConfig(file=tmp_path / "product.npz", standardise=True, validation=0.2)
    options = SettingsConfig(data, **small, factors=(1.0,), out=tmp_path / "runs")
    assert settings.main(options) == 0
    assert "held-out R^2, %" in capsys.readouterr().out
    (path,) = (tmp_path / "runs").glob("*/settings.json")
    rows = json.loads(path.read_text())["rows"]
    assert all(0.5 < row["validation"]["1.0"][0] <= 1 for row in rows)


def test_too_few_updates_for_estimated_rates_are_told(tmp_path, capsys):
    data = DataConfig(limit=100, validation=0.2)
    options = SettingsConfig(
        data, (2,), 8, 2, 99, iterations=2, factors=(1.0,), seeds=1, out=tmp_path
    )
    assert settings.main(options) == 0
    assert "99 updates in batches: as rates are estimated from 100 on" in capsys.readouterr().out


def test_a_factor_beyond_numbers_is_refused(tmp_path):
    options = SettingsConfig(layers=(2,), neurons=8, factors=(1e300, 1.0), seeds=1, out=tmp_path)
    with pytest.raises(UsageError, match="nu is 1e\\+301, but float32 reaches"):
        settings.main(options)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--factors", 0.1, 10), "factors are (0.1, 10.0): give 1 too"),
        (("--factors", 1, 0), "factors has 0.0: give finite numbers above 0"),
        (("--layers", 1), "layers is 1: give 2 or more"),
        (("--data.validation", 0), "data.validation is 0"),
    ],
)
def test_a_mistake_gets_one_line(words, complaint):
    assert_refused(("study", "settings", *words), complaint)
