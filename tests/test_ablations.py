"""Ablations: one thing is changed at a time, from the defaults of ``train``."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import pdadmm_jax as pdadmm
from experiments import build
from experiments.options.network import MethodConfig, NetworkConfig
from experiments.study import ablations
from experiments.study.options import AblationsConfig
from tests.commands import assert_refused


def test_every_axis_has_the_defaults_once_and_no_variant_twice():
    for axis, variants in ablations.AXES.items():
        marked = [variant for variant in variants if variant.name.endswith("*")]
        assert len(marked) == 1, axis
        settings = build.admm(NetworkConfig(), replace(MethodConfig(), **marked[0].method))
        assert settings == build.admm(NetworkConfig(), MethodConfig())
        assert (marked[0].initializer, marked[0].shorter) == (None, 0)
        settings = {repr(replace(variant, name="")) for variant in variants}
        assert len(settings) == len({variant.name for variant in variants}) == len(variants)
        for variant in variants:
            build.admm(NetworkConfig(), replace(MethodConfig(), **variant.method))
            assert variant.initializer in build.INITIALIZERS


def test_the_defaults_are_what_is_recommended():
    assert build.admm(NetworkConfig(), MethodConfig()) == pdadmm.admm.recommended()


@pytest.mark.slow
def test_outcomes_are_those_of_the_variants(tmp_path, monkeypatch, capsys):
    stiff = ablations.Variant("stiff", {"nu": 1000.0, "rho": 5000.0})
    grown = ablations.Variant("grown", shorter=1)
    monkeypatch.setattr(
        ablations, "AXES", {"one": (ablations.DEFAULT, stiff), "two": (ablations.DEFAULT, grown)}
    )
    config = AblationsConfig(hidden=(12, 12), iterations=60, seeds=2, out=tmp_path)
    assert ablations.main(config) == 0
    (directory,) = tmp_path.iterdir()
    found = json.loads((directory / "ablations.json").read_text())
    assert found["one"]["defaults"] == found["two"]["defaults"]
    assert all(len(values) == 2 for values in found["two"]["grown"].values())
    # So stiff that next to nothing moves.
    assert min(found["one"]["stiff"]["train_loss"]) > max(found["one"]["defaults"]["train_loss"])
    assert min(found["one"]["defaults"]["validation"]) > 0.3
    assert "stiff" in capsys.readouterr().out
    assert (directory / "ablations.png").exists()
    assert pdadmm.__version__ in (directory / "output.json").read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--hidden", 30, 40), "hidden is (30, 40): give at least two equal widths"),
        (("--iterations", 1), "iterations is 1: give 2 or more"),
        (("--data.validation", 0), "data.validation is 0"),
    ],
)
def test_a_mistake_gets_one_line(words, complaint):
    assert_refused(("study", "ablations", *words), complaint)
