"""Ten thousand inputs that nobody should give: each works, or is refused by one line.

Every case is made from its kind and its number alone, so that one that fails can be had again.
"""

from __future__ import annotations

import importlib
import re
import time
import types
from collections import Counter
from functools import partial
from random import Random

import numpy as np
import pytest

from experiments import __main__, build
from experiments.errors import UsageError
from tests.fuzzing import directories, documents, files, values, words
from tests.fuzzing.engine import Hang, Kind, assert_no_halves, in_time, works


def settings(random, folder):
    """A configuration of any command, checked, and what the library has against it."""
    config = values.config_of(
        random, random.choice(list(words.CONFIGS.values())), values.paths_in(folder)
    )

    def case():
        config.check()
        if hasattr(config, "method"):
            build.hyperparameters(config.network, config.method)

    return case


KINDS = {
    "settings": Kind(2500, settings),
    "checksums": Kind(300, files.verified),
    "mnist": Kind(800, partial(files.published, "mnist")),
    "svhn_cropped": Kind(700, partial(files.published, "svhn_cropped")),
    "cifar10": Kind(400, partial(files.published, "cifar10")),
    "cifar100": Kind(400, partial(files.published, "cifar100")),
    "own": Kind(1500, files.own),
    "weights": Kind(1000, files.weights),
    "trial": Kind(500, documents.trial),
    "study": Kind(500, documents.settings),
    "metrics": Kind(500, documents.metrics),
    "page": Kind(500, documents.page),
    "resumed": Kind(400, directories.resumed),
    "prepared": Kind(200, directories.prepared),
}
LINES = 1200  # command lines that are read and checked
STUDIES = 80  # commands that come to their first iteration


def judged(cases, name, outcome):
    """How many cases had which outcome; one that fails says which one it is."""
    found = Counter()
    for number in range(cases):
        try:
            found[outcome(Random(f"{name} {number}"))] += 1
        except BaseException as error:
            error.add_note(f"This was case {number} of {name}.")
            raise
    assert found.total() == cases
    return found


def assert_both(found):
    """Neither does everything pass, nor is everything refused."""
    assert min(found[True], found[False]) > 0.05 * found.total(), found


def test_there_are_ten_thousand_cases():
    assert sum(kind.cases for kind in KINDS.values()) + LINES + STUDIES >= 10_000


def test_no_command_is_left_out():
    with pytest.raises(UsageError, match="Available subcommands: ") as refused:
        __main__.parse(["nonsense"])
    (known,) = re.findall("Available subcommands: (.*) For full", str(refused.value))
    assert known.split(", ") == list(words.CONFIGS)


@pytest.mark.parametrize("name", KINDS)
def test_every_file_and_setting_works_or_is_refused(name, tmp_path):
    kind = KINDS[name]
    assert_both(judged(kind.cases, name, lambda random: works(kind.make(random, tmp_path))))
    assert_no_halves(tmp_path)
    assert not files.Bomb.gone_off


@pytest.fixture
def idle(monkeypatch):
    """Commands whose own work is to return."""
    idle = types.SimpleNamespace(main=lambda *_: 0)
    monkeypatch.setattr(__main__, "importlib", types.SimpleNamespace(import_module=lambda _: idle))
    monkeypatch.setattr(importlib.import_module("experiments.launch"), "main", idle.main)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("command", words.CONFIGS)
def test_every_command_line_is_obeyed_or_refused(command, tmp_path):
    def outcome(random):
        with in_time():
            return words.obeyed(words.words_of(random, command, tmp_path))

    assert_both(judged(LINES // len(words.CONFIGS), command, outcome))


@pytest.fixture
def stopped(monkeypatch, tmp_path):
    """Commands that end where their first iteration would begin, and data to begin with."""

    def begun(*_, **__):
        raise words.Begun

    for module, name in (
        ("train", "follow"),
        ("study.compare", "at_work"),
        ("study.convergence", "course"),
        ("study.communication", "traffic"),
        ("study.ablations", "train"),
    ):
        monkeypatch.setattr(importlib.import_module(f"experiments.{module}"), name, begun)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # nothing is kept for later runs
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "16")  # as is set for all tests
    np.savez(tmp_path / "own.npz", **files.sound_set("u1"))


@pytest.mark.usefixtures("stopped")
def test_every_study_begins_or_is_refused(tmp_path):
    def outcome(random):
        with in_time():
            return words.obeyed(words.study_of(random, tmp_path))

    assert_both(judged(STUDIES, "study of", outcome))
    assert_no_halves(tmp_path)


@pytest.mark.parametrize(
    ("case", "failure"),
    [
        (lambda: [][0], IndexError),
        (lambda: (_ for _ in ()).throw(ValueError("")), AssertionError),
        (lambda: (_ for _ in ()).throw(ValueError("x" * 5000)), AssertionError),
    ],
)
def test_what_should_fail_these_tests_does(case, failure):
    with pytest.raises(failure):
        works(case)


def test_a_hang_is_no_refusal():
    def hangs():
        try:
            time.sleep(60)
        except Exception as error:
            raise ValueError("a reader's own error") from error

    with pytest.raises(Hang):
        works(hangs, seconds=0.05)
