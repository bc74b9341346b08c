"""Inputs that nobody should give: each works, or is refused by one line, soon.

Every case is made from its kind and its number alone, so that one that fails can be had again.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import json
import re
import shutil
import signal
import tarfile
import types
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest

import pdadmm_jax as pdadmm
from experiments import __main__
from experiments.data import DataConfig, load, store
from experiments.data.catalogue import ENTRIES
from experiments.runtime import run_directory as runs
from experiments.runtime.errors import UsageError, usage_errors
from experiments.train import checkpoints, resume
from experiments.train.checkpoint_manager import opened
from tests.commands import run, train
from tests.data.conftest import WRITERS, make_images
from tests.run_directories import directory_in

FILES = pytest.mark.parametrize("cases", [10, pytest.param(300, marks=pytest.mark.slow)])
LINES = pytest.mark.parametrize("cases", [8, pytest.param(60, marks=pytest.mark.slow)])
SIZES = {"train": 30, "test": 10}


class Hang(BaseException):
    """Too long: no error that a reader could take for its own."""


@contextlib.contextmanager
def in_time(seconds=20):
    def end(*_):
        raise Hang(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def works(case):
    """Whether a case works; if not, it is refused by one line, or this fails."""
    line = ""
    try:
        with in_time(), usage_errors():
            case()
        return True
    except UsageError as refusal:
        line = str(refusal)
    assert re.fullmatch(r".{1,3000}", line), f"no clear line: {line[:300]!r}"
    return False


def judge(kind, cases, outcome):
    """Runs all cases; neither does everything pass, nor is everything refused."""
    found = Counter()
    for number in range(cases):
        try:
            found[outcome(Random(f"{kind} {number}"))] += 1
        except BaseException as error:
            error.add_note(f"This was case {number} of {kind}.")
            raise
    assert cases < 50 or min(found[True], found[False]) > 0.05 * cases, found


# Files that something has happened to


def damaged(random: Random, content: bytes) -> bytes:
    """A file after an accident; now and then after none."""
    start, length = random.randrange(len(content) + 1), random.choice((1, 4, 16, 500))
    flipped = bytearray(content or b"x")
    flipped[start % len(flipped)] ^= 1 << random.randrange(8)
    over = random.choice((bytes(length), b"\xff" * length, random.randbytes(length)))
    accidents = (
        content,
        bytes(flipped),
        content[:start],
        content[:start] + content[start + length :],
        content[:start] + over + content[start + length :],
        content + random.randbytes(length),
        random.randbytes(length),
    )
    return random.choices(accidents, (2, 5, 4, 3, 4, 1, 1))[0]


JUNK = (
    *(None, True, 0, -1, 3, 1.5, 1e308, 10**30, float("nan"), "", "x", "\ud800", [], {}, [[]]),
    *("../secret", "![a](../secret)", "a|b`c", "<script>", "\n\n# x", "y" * 2000, {"a": {"b": []}}),
)


def with_junk(random: Random, value: Any) -> Any:
    """A document with something else in some place, the deeper the likelier."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.1:
        return random.choice(JUNK)
    key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
    changed = value.copy()
    if random.random() < 0.15:
        del changed[key]
    else:
        changed[key] = with_junk(random, changed[key])
    return changed


def spoilt_inside(random: Random, name: str, content: bytes) -> bytes:
    """Damage to what is packed in a file, the packing being sound."""
    out = io.BytesIO()
    if name.endswith(".json"):
        nested = random.random() < 0.03
        junk = json.dumps(with_junk(random, json.loads(content))).encode()
        return b"[" * 100_000 if nested else junk
    if name.endswith(".npz"):
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
            chosen = random.choice(old.namelist())
            for member in old.namelist():
                inner = old.read(member)
                new.writestr(member, damaged(random, inner) if member == chosen else inner)
        return out.getvalue()
    if name.endswith(".tar.gz"):
        with (
            tarfile.open(fileobj=io.BytesIO(content)) as old,
            tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as new,
        ):
            chosen = random.choice(old.getmembers())
            for member in old.getmembers():
                inner = old.extractfile(member).read()
                if member is chosen:
                    inner = damaged(random, inner)
                    member.name = random.choice((member.name, member.name, "../x"))
                    member.type = random.choice((tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE))
                member.size = len(inner)
                new.addfile(member, io.BytesIO(inner))
        return out.getvalue()
    if name.endswith(".gz"):
        return gzip.compress(damaged(random, gzip.decompress(content)), 1)
    return damaged(random, content)


def spoil(random: Random, file: Path) -> None:
    """Damages a file, or what is in it."""
    content = file.read_bytes()
    inside = random.random() < 0.6
    file.write_bytes(
        spoilt_inside(random, file.name, content) if inside else damaged(random, content)
    )


class Kind(NamedTuple):
    """Files of one kind: writes sound ones into a folder; reads the folder, and looks at it."""

    write: Callable[[Path], object]
    read: Callable[[Path], object]


def images(name):
    """A small sound data set, and a catalogue entry for it."""
    entry = replace(ENTRIES[name], sizes=SIZES)
    counts = enumerate(SIZES.items())
    return entry, {split: make_images(seed, count, entry) for seed, (split, count) in counts}


def archives(name):
    entry, splits = images(name)

    def read(folder):
        entry.checked(entry.parse({path.name: path for path in folder.iterdir()}), name)

    return Kind(lambda folder: WRITERS[name](folder, splits), read)


def write_own(folder):
    numbers, arrays = np.random.default_rng(0), {}
    for split, count in SIZES.items():
        arrays[f"x_{split}"] = numbers.integers(0, 256, (count, 6, 4)).astype("u1")
        arrays[f"y_{split}"] = np.arange(count) % 3
    np.savez(folder / "own.npz", **arrays)


def write_table(folder):
    rows = [f"{k},{k / 7:.3g},{k % 3}" for k in range(40)]
    (folder / "own.csv").write_text("\n".join(["a,b,label", *rows]))


def write_weights(folder):
    pairs = [(np.ones(shape, "f4"), np.zeros(shape[1], "f4")) for shape in ((4, 3), (3, 2))]
    pdadmm.Network(pairs).save(folder / "weights.npz")


def pairs(images):
    """Images with their labels, in no order, which a file beside them may lose."""
    return sorted(zip(map(bytes, images.pixels), images.labels["label"], strict=True))


def prepared():
    entry, splits = images("mnist")

    def read(folder):
        builder, misses = store.find("mnist", folder)
        if builder is None:
            raise ValueError(", ".join(misses))
        found = entry.checked(store.read(builder, entry), builder.data_dir)
        for split, expected in splits.items():  # nothing else is let through
            assert pairs(found[split]) == pairs(expected)

    return Kind(lambda folder: store.write("mnist", entry, splits, folder), read)


def resumed():
    """A run to go on with: what is taken is a checkpoint as it was written, and none goes."""
    content, facts = {}, {}

    def write(folder):
        small = ("--network.hidden", 4, "--data.limit", 20, "--evaluate-every", 2)
        small += ("--checkpoint.every", 2, "--iterations", 6)
        assert train(*small, "--out", folder / "out") == 0
        run = directory_in(folder / "out")
        for number, path in checkpoints.sealed(run / checkpoints.DIRECTORY):
            content[number] = checkpoints.contents(checkpoints.Found(path, number, {}))
        facts.update(checkpoints.newest(run / checkpoints.DIRECTORY)[0].facts)

    def read(folder):
        run = directory_in(folder / "out")
        before, _ = checkpoints.newest(run / checkpoints.DIRECTORY)
        try:
            config = resume.original_options(["train", "--resume", str(run)])
            config = replace(config, resume=run, iterations=9)
            config.check()
            with opened(config, "train-digits", facts["data"]) as directory:
                done = directory.found.number if directory.found else 0
                arrays = checkpoints.contents(directory.found) if done else {}
                for name, array in content.get(done, {}).items():
                    np.testing.assert_array_equal(arrays[name], array)
        finally:
            after, _ = checkpoints.newest(run / checkpoints.DIRECTORY)
            assert (after and after.number) == (before and before.number)

    return Kind(write, read)


KINDS = {
    **{name: archives(name) for name in ("mnist", "svhn_cropped", "cifar10", "cifar100")},
    "own": Kind(write_own, lambda folder: load(DataConfig(file=folder / "own.npz"))),
    "table": Kind(write_table, lambda folder: load(DataConfig(file=folder / "own.csv"))),
    "weights": Kind(write_weights, runs.read_weights),
    "prepared": prepared(),
    "resumed": resumed(),
}


@FILES
@pytest.mark.parametrize("name", KINDS)
def test_every_file_works_or_is_refused(name, cases, tmp_path):
    sound, folder = tmp_path / "sound", tmp_path / "spoilt"
    sound.mkdir()
    KINDS[name].write(sound)

    def outcome(random):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sound, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for file in random.sample(files, random.choice((1, 1, len(files) // 2 or 1))):
            spoil(random, file)
        return works(lambda: KINDS[name].read(folder))

    assert works(lambda: KINDS[name].read(shutil.copytree(sound, folder)))
    judge(name, cases, outcome)
    assert not list(tmp_path.rglob("*.partial"))


class Bomb:
    """What goes off when a pickle is loaded."""

    gone_off = False

    def __reduce__(self):
        return setattr, (Bomb, "gone_off", True)


FORGED = (
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000000000,), }",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    b"{'descr': [('a', '<f4'), ('b', '<i2')], 'fortran_order': False, 'shape': (2,), }",
    b"{'descr': '<f4', 'fortran_order': 1, 'shape': [3], }",
    b"__import__('tests.test_fuzz').test_fuzz.Bomb().__reduce__()",
    b"(" * 5000,
    None,  # an array of objects, pickled
)


@pytest.mark.parametrize("header", FORGED)
@pytest.mark.parametrize(("name", "array"), [("own", "x_train"), ("weights", "W1")])
def test_what_is_read_is_never_executed(name, array, header, tmp_path):
    KINDS[name].write(tmp_path)
    (file,) = tmp_path.iterdir()
    arrays, member = dict(np.load(file)), io.BytesIO()
    np.save(member, np.array([Bomb()] * 3, object) if header is None else arrays.pop(array))
    content = member.getvalue()
    if header is not None:
        start = content.index(b"{")
        content = content[:start] + header + content[start:]
    np.savez(file, **{key: value for key, value in arrays.items() if key != array})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(f"{array}.npy", content)
    assert not works(lambda: KINDS[name].read(tmp_path))
    assert not Bomb.gone_off


# Command lines

TEXTS = (
    *("", " ", "-", "--", "x", "None", "True", "localhost:8476", "a:b", "v5e:2x4", "/proc/none"),
    *("a\nb", "\x1b[31m", "\u2028", "ä", "'\"`$(x)", "%s", "{0}", "\x00", "9" * 5000, "x" * 300),
    *("-1", "0", "1", "2", "3", "8", "100", "2147483648", "1e5", "0.1", "0.5", "1.0", "1e-60"),
    *("1e39", "inf", "nan", "relu", "adam", "sgd", "mnist", "full", "int8", "raise"),
)


def options_of(command):
    """All options that its help names, and those among them that it cannot do without."""
    text = run(*command.split(), "--help").out
    entries = re.split(r"\n  (?=-)", text)
    required = [entry.split()[0] for entry in entries[1:] if "(required)" in entry]
    return sorted(set(re.findall(r"--[a-z][\w.-]*", text))), required


def words_of(random, command, options, required):
    """A command line, sound or not."""
    words = command.split()
    for option in required:
        words += [option, random.choice(TEXTS)]
    for option in random.sample(options, min(random.choice((0, 1, 1, 2, 3)), len(options))):
        words += [option, *random.choices(TEXTS, k=random.choice((0, 1, 1, 1, 2)))]
    place = random.randrange(len(words))
    word, letter = words[place], random.randrange(len(words[place]) + 1)
    mistyped = (
        [*words[:place], word[:letter] + word[letter + 1 :], *words[place + 1 :]],
        [*words[:place], word.swapcase(), *words[place + 1 :]],
        [*words, random.choice(("--help", "--", "train", "extra"))],
    )
    return random.choice(mistyped) if random.random() < 0.3 else words


def obeyed(words):
    """Whether a command line works; else it is refused as the user should see it."""
    with in_time():
        code, out, err = run(*words)
    assert code in (0, 2), words
    if code:
        assert not out
        assert re.fullmatch(r"error: .+\n", err), err
    else:
        assert not err
    return not code


COMMANDS = re.search(r"choose one of (.*)\.", run("nonsense").err)[1].split(", ")


@LINES
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_line_is_obeyed_or_refused(command, cases, monkeypatch):
    options, required = options_of(command)
    idle = types.SimpleNamespace(main=lambda *_: 0)  # a command whose own work is to return
    monkeypatch.setattr(importlib.import_module("experiments.runtime.launch"), "main", idle.main)
    monkeypatch.setattr(__main__, "importlib", types.SimpleNamespace(import_module=lambda _: idle))
    judge(command, cases, lambda random: obeyed(words_of(random, command, options, required)))
