"""The commands that measure speed, on sizes at which nothing is learnt from their numbers."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from experiments.benchmark import published, speed
from tests.commands import assert_refused, finished
from tests.problems import problem
from tests.selection import selected

SMALL = ("--layers", 4, "--neurons", 48, "--samples", 200, "--iterations", 2, "--repeats", 2)


@pytest.mark.slow
@pytest.mark.x64
@pytest.mark.parametrize("seed", range(2))
def test_the_published_algorithm_makes_the_same_iterates(seed):
    """At the same step sizes and with its output problem solved to the end."""
    settings = pdadmm.admm.Config(
        nu=0.3, rho=2.0, p_solver=pdadmm.admm.Search(), W_solver=pdadmm.admm.Search()
    )
    data, state = problem((7, 6, 6, 6, 4), settings, samples=30, seed=seed)
    variables = published.variables_of(state, data)
    for _ in range(20):
        variables, effort = published.iterate(variables, data.y, 0.3, 2.0, 3000, 0.0)
        state, _ = pdadmm.admm.step(state, data, settings)
        assert effort.trials >= 2 * (3 + 4)
    for one, other in zip(
        jax.tree.leaves(variables),
        jax.tree.leaves(published.variables_of(state, data)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-7)


@pytest.mark.parametrize("precision", selected(["float32", "bfloat16"], fast=["bfloat16"]))
def test_speed_compares_iterations_with_their_products_and_adam(tmp_path, precision):
    out, found = finished("speed", tmp_path, *SMALL, "--precision", precision)
    assert "of the products" in out
    assert f"products in {precision}" in out
    assert found["seconds"].keys() == {"products", "pdADMM", speed.RECOMMENDED, "Adam"}
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in found["seconds"].values())
    parts = found["seconds_by_kind"]
    assert {"products", "sums", "element by element"} <= parts.keys()
    assert min(parts.values()) > 0
    counted = found["multiply_adds"]
    assert counted["needed"] == 200 * (2 * 784 * 48 + 4 * (2 * 48 * 48 + 48 * 10))
    assert counted["compiled"] == pytest.approx(counted["needed"], rel=0.15)
    assert found["memory"]["in_place"] >= found["memory"]["state"]


def test_speed_of_sweeps_is_compared_with_adam(tmp_path):
    """With as few bytes too: a batch reads and writes what one of Adam does."""
    network = ("--hidden", 64, 64, 48, "--features", 32, "--batch", 100, "--samples", 250)
    out, found = finished("speed sweeps", tmp_path, *network, "--passes", 1, "--repeats", 2)
    assert "32-2x64-48-10, 100 at once" in out
    (one,) = found.values()
    assert one["seconds"].keys() == {"Adam", "sweeps"}
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in one["seconds"].values())
    adam, sweeps = one["bytes"]["Adam"], one["bytes"]["sweeps"]
    assert sweeps["products"] == adam["products"]
    assert sweeps["copies"] <= 1.01 * adam["copies"] + 1000


@pytest.mark.slow
def test_literal_compares_iterations_with_the_published_ones(tmp_path):
    out, found = finished("speed literal", tmp_path, *SMALL)
    assert "times slower at the same step sizes" in out
    assert len(found["seconds"]) == 5
    # Every search evaluates the objective at its start and at one trial or more.
    assert all(effort["trials"] >= 2 * (3 + 4) for effort in found["efforts"].values())


@pytest.mark.slow
def test_sizes_grow_eightfold(tmp_path):
    small = ("--samples", 20, "--neurons", 8, "--layers", 3, "--iterations", 2, "--repeats", 1)
    _, found = finished("speed sizes", tmp_path, *small)
    values = {name: [point["value"] for point in points] for name, points in found.items()}
    assert values == {
        "samples": [20, 40, 80, 160],
        "neurons": [8, 16, 32, 64],
        "layers": [3, 6, 12, 24],
    }
    for name, points in found.items():
        first, *_, last = (point["multiply_adds"] for point in points)
        assert last / first >= {"samples": 8, "neurons": 38, "layers": 8}[name]


@pytest.mark.slow
def test_startup_times_new_processes(tmp_path):
    out, found = finished(
        "speed startup", tmp_path, "--layers", 3, 5, "--neurons", 8, "--repeats", 1
    )
    assert "as long to compile as 3" in out
    assert [name for name in found if "load" in name] == [
        "3 layers: load a step",
        "5 layers: load a step",
    ]
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in found.values())


@pytest.mark.slow
def test_precision_shows_drift_with_and_without_refreshing(tmp_path):
    small = ("--iterations", 60, "--refresh-every", 20, "--neurons", 12)
    _, found = finished("speed precision", tmp_path, *small)
    courses = {(one["precision"], one["refreshed"]): one for one in found["histories"]}
    assert len(courses) == 6
    for one in courses.values():
        assert one["iterations"] == [20, 40, 60]
        assert one["lagrangian"][-1] < one["lagrangian"][0]
    last = {key: one["drift"][-1] for key, one in courses.items()}
    assert last["float32", True] < last["bfloat16", True] < last["bfloat16", False]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("speed", "--layers", 2), "layers is 2: give 3 or more"),
        (("speed", "--precision", "fp8"), "fp8"),
        (
            ("speed", "--neurons", 2_000_000),
            "10 layers of up to 2,000,000 neurons on 10,000 samples need",
        ),
        (("speed", "literal", "--samples", 0), "samples is 0: give 1 or more"),
        (("speed", "sweeps", "--hidden", 0), "hidden is 0: give 1 or more"),
        (
            ("speed", "sweeps", "--hidden", 9, "--batch", 70, "--samples", 60),
            "batch is 70, but there are 60 samples",
        ),
        (("speed", "sizes", "--repeats", 0), "repeats is 0: give 1 or more"),
        (("speed", "startup", "--layers", 10, 1), "layers is 1: give 2 or more"),
        (("speed", "precision", "--iterations", 100), "iterations is 100: give at least 2 x 100"),
        (("speed", "precision", "--out", "/proc/none"), "choose another with --out"),
    ],
)
def test_a_mistake_gets_one_line(words, complaint):
    assert_refused(words, complaint)
