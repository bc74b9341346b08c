"""The race: what is timed, and what is said of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.__main__ import parse
from experiments.benchmark.batch_model import HARDWARE, best_layout, seconds_per_batch
from experiments.data import DataConfig
from experiments.race.command import NAMES, _words
from experiments.race.courses import Course
from experiments.race.options import METHODS, ON_ONE, RaceConfig
from experiments.race.predictions import predicted
from tests.commands import assert_refused, run
from tests.run_directories import directory_in
from tests.selection import selected

SMALL = RaceConfig(hidden=(12, 12), batch=50, seconds=0.2, rates=(0.003,), seeds=1)


def trained(options):
    """What the processes that train print."""
    code, screen, err = run("race", "--courses", *_words(options))
    assert code == 0, err
    return json.loads(screen)


def test_the_first_time_counts():
    course = Course([1.0, 2.0, 3.0], [0.5, 1.0, 1.5], [80.0, 91.0, 90.0])
    assert course.reached(90.0) == (2.0, 1.0)
    assert course.reached(91.5) == (math.inf, math.inf)


@pytest.mark.parametrize(
    "name", selected(METHODS, fast=["adam", "gpipe", "sweeps_streaming", "admm_on_stages"])
)
def test_every_method_trains(name):
    """In one process with two devices, which is the same program."""
    options = replace(SMALL, methods=(name,), accuracy=30.0, seconds=20.0, parts=2)
    found = trained(options)[name]
    assert found["rate"] == (None if name.startswith("admm") else 0.003)
    (course,) = found["courses"]
    assert course["accuracy"][-1] >= 30.0 > max(course["accuracy"][:-1], default=0.0)
    assert course["seconds"] == sorted(course["seconds"])
    parts = 1 if name.startswith("admm") else 2
    assert course["passes"] == [(k + 1) / parts for k in range(len(course["passes"]))]


def test_a_rate_is_chosen_on_held_out_samples():
    """One by which nothing moves is not."""
    options = replace(SMALL, methods=("adam",), rates=(1e-9, 0.01), accuracy=80.0, seconds=2.0)
    assert trained(options)["adam"]["rate"] == 0.01


def test_processes_are_told_all_options(tmp_path):
    options = RaceConfig(
        data=DataConfig("mnist", limit=100, download=False, archives=tmp_path),
        rates=(0.5,),
        methods=("gpipe",),
        microbatches=4,
        out=tmp_path,
    )
    config = parse(["race", *_words(options)]).__closure__
    assert config is not None
    assert options in [cell.cell_contents for cell in config]


def test_all_have_names():
    assert set(NAMES) == set(METHODS)
    assert set(ON_ONE) < set(METHODS)


def test_predictions_are_passes_as_measured_times_seconds_of_the_model():
    widths, (on, *_) = (64, *[64] * 8), HARDWARE
    passes = {"adam": 3.0, "gpipe": math.inf, "sweeps_one_batch_late": 4.0, "admm": 5.0}
    found = predicted(passes, widths, samples=1000, batch=128)
    assert {one.method for one in found} == {"adam", "gpipe", "sweeps_one_batch_late"}
    assert len(found) == len(HARDWARE) * (1 + 2 * 5)
    at = {(one.method, one.hardware, one.devices): one for one in found}
    alone = seconds_per_batch(widths, 1, 128, "data_parallel", on)
    assert at["adam", on.name, 1].seconds == pytest.approx(3 * 8 * alone)
    late = at["sweeps_one_batch_late", on.name, 8]
    assert late.layout == best_layout(widths, 8, 128, "one_batch_late", on)
    assert late.seconds == pytest.approx(4 * 8 * late.layout.seconds)
    # GPipe, cut off here, takes as many passes as one device.
    assert at["gpipe", on.name, 4].seconds == pytest.approx(
        3 * 8 * best_layout(widths, 4, 128, "gpipe", on).seconds
    )


@pytest.mark.slow
def test_one_process_races_two(tmp_path):
    code, screen, err = run(
        *("race", "--hidden", 12, 12, "--seconds", 1, "--rates", 0.003, "--seeds", 2),
        *("--methods", "adam", "data_parallel", "sweeps_zero_bubble", "admm", "sweeps_streaming"),
        *("--accuracy", 30, "--out", tmp_path),
    )
    assert code == 0, err
    for name in ("back-propagation", "back-prop., data-parallel", "sweeps, zero bubble"):
        assert name in screen
    directory = Path(directory_in(tmp_path))
    assert (directory / "race.png").stat().st_size > 10_000
    found = json.loads((directory / "race.json").read_text())
    results = found["results"]
    assert [one["processes"] for one in results if one["name"] == "back-propagation"] == [1]
    assert len(results) == 5
    reached = {one["method"] for one in results if one["seconds"] is not None} - {"admm"}
    assert "adam" in reached
    assert reached <= {one["method"] for one in found["predicted"]}
    assert screen.count("PREDICTED, not measured") == len(HARDWARE)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--accuracy", 101), "accuracy is 101"),
        (("--seconds", 0), "seconds is 0"),
        (("--rates", 0.1, 0), "rates is (0.1, 0.0)"),
        (("--data.validation", 0), "data.validation is 0"),
        (("--processes", 1), "processes is 1: give 2 or more"),
        (("--hidden", 0), "hidden is 0"),
        (("--methods",), "methods is empty"),
        (("--methods", "adam", "admm", "adam"), "methods has adam twice"),
    ],
)
def test_races_without_sense_are_refused(options, complaint):
    assert_refused(("race", *options), complaint)
