"""Directories of ours, with several files each, that something has happened to."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np

from experiments import __main__, checkpoints, resuming, runs
from experiments.data import store
from experiments.keeper import opened
from experiments.reliability import damage
from experiments.reliability.processes import directory_in
from tests.fuzzing.documents import spoilt
from tests.fuzzing.engine import Case, damaged
from tests.fuzzing.files import small

_TRAINED = (
    *("train", "--network.hidden", "4", "--data.limit", "20", "--iterations", "6"),
    *("--evaluate-every", "2", "--checkpoint.every", "2", "--checkpoint.keep", "2"),
)


@functools.cache
def _trained() -> tuple[Path, dict[int, dict[str, np.ndarray]]]:
    """A run with two checkpoints, and what is in them."""
    out = Path(tempfile.mkdtemp())
    assert __main__.run([*_TRAINED, "--out", str(out)]) == 0
    run = directory_in(out)
    content = {}
    for number, path in checkpoints.sealed(run / checkpoints.DIRECTORY):
        found = checkpoints.Found(path, number, {})
        content[number] = checkpoints.contents(found)
    return run, content


def resumed(random: Random, folder: Path) -> Case:
    """A run to go on with, some of whose files are spoilt: none of its good checkpoints goes."""
    sound, content = _trained()
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(sound, run)
    for _ in range(random.choice((1, 1, 2, 4))):
        _spoil(random, run)
    before, _ = checkpoints.newest(run / checkpoints.DIRECTORY)

    def case() -> None:
        try:
            _go_on(run, content)
        finally:
            after, _ = checkpoints.newest(run / checkpoints.DIRECTORY)
            assert (after and after.number) == (before and before.number)

    return case


def _go_on(run: Path, content: dict[int, dict[str, np.ndarray]]) -> None:
    config = resuming.begun_with(["train", "--resume", str(run)])
    assert config is not None
    config = replace(config, resume=run, iterations=9)
    config.check()
    facts = checkpoints.newest(_trained()[0] / checkpoints.DIRECTORY)[0]
    assert facts is not None
    with opened(config, "train-digits", facts.facts["data"]) as directory:
        assert not directory.finished
        done = 0
        if directory.found:
            done = directory.found.number
            arrays = checkpoints.contents(directory.found)
            for name, array in content[done].items():
                np.testing.assert_array_equal(arrays[name], array)
        assert len(runs.read_metrics(run)) in (0, done)


def _spoil(random: Random, run: Path) -> None:
    """Spoils a file of the run, or of its checkpoints."""
    name = random.choice((runs.CONFIG, runs.SUMMARY, runs.METRICS, checkpoints.DIRECTORY))
    path = run / name
    if name == checkpoints.DIRECTORY:
        damage.damaged(path, random)
    elif random.random() < 0.1:
        path.unlink(missing_ok=True)
    elif path.exists():
        as_json = name != runs.METRICS and random.random() < 0.7
        path.write_bytes(
            spoilt(random, _json(path)) if as_json else damaged(random, path.read_bytes())
        )


def _json(path: Path) -> object:
    """What a file holds, which may be spoilt already."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}


@functools.cache
def _prepared(folder: Path) -> Path:
    """A small data set as it is prepared."""
    entry, splits = small("mnist")
    store.write("mnist", entry, splits, folder / "sound")
    return store.directories("mnist", folder / "sound")[1]


def prepared(random: Random, folder: Path) -> Case:
    """A prepared data set, one of whose files is damaged, gone or another's."""
    sound = _prepared(folder)
    entry, splits = small("mnist")
    root = folder / "prepared"
    shutil.rmtree(root, ignore_errors=True)
    directory = store.directories("mnist", root)[1]
    shutil.copytree(sound, directory)
    files = sorted(path for path in directory.iterdir() if path.is_file())
    file = random.choice(files)
    accidents: tuple[Callable[[], object], ...] = (
        lambda: file.write_bytes(damaged(random, file.read_bytes())),
        lambda: file.unlink(),
        lambda: (
            shutil.copy(random.choice(files), file.with_name("copy"))
            and os.replace(file.with_name("copy"), file)
        ),
    )
    random.choices(accidents, (8, 1, 1))[0]()

    def case() -> None:
        builder, misses = store.find("mnist", root)
        if builder is None:
            raise ValueError(", ".join(misses))
        found = entry.checked(store.read(builder, entry), builder.data_dir)
        for split, images in splits.items():  # nothing else is let through
            np.testing.assert_array_equal(found[split].pixels, images.pixels)

    return case
