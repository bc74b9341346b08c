"""Data sets of the user's own: what is read, how it is scaled, and what is refused."""

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from experiments.data import DataConfig, DataError, load
from experiments.data.protocol import halve

RESERVED = Path(os.environ.get("PDADMM_ARCHIVES", "none")) / "reserved"
TRAIN, TEST = 40, 12


def arrays(shape=(6, 4), dtype=np.uint8, seed=0):
    """A sound data set of three classes, 0, 3 and 7."""
    random = np.random.default_rng(seed)
    labels = np.array([0, 3, 7], np.uint8)
    values = {"u": lambda size: random.integers(0, 256, size), "f": random.random}
    made = {}
    for split, count in (("train", TRAIN), ("test", TEST)):
        x = values.get(np.dtype(dtype).kind, lambda size: random.integers(0, 2, size))
        made[f"x_{split}"] = x((count, *shape)).astype(dtype)
        made[f"y_{split}"] = labels[random.permutation(np.arange(count) % 3)]
    return made


@pytest.fixture
def own(tmp_path):
    """Writes arrays into a file and loads it; None takes an array away."""

    def make(changes=None, *, shape=(6, 4), dtype=np.uint8, **config):
        content = arrays(shape, dtype) | (changes or {})
        path = tmp_path / "my own.npz"
        np.savez(path, **{name: each for name, each in content.items() if each is not None})
        return load(DataConfig(file=path, validation=0, **config))

    return make


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3), (24,)])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.uint8, 255), (np.uint16, 65_535), (np.float64, 1), ("?", 1), (">f4", 1)],
)
def test_samples_are_scaled_and_labels_numbered(own, shape, dtype, scale):
    found, given = own(shape=shape, dtype=dtype), arrays(shape, dtype)
    assert (found.name, found.classes) == ("my-own", 3)
    expected = (given["x_test"].reshape(TEST, -1) / scale).astype(np.float32)
    np.testing.assert_allclose(found.x_test, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.y_test, np.searchsorted([0, 3, 7], given["y_test"]))
    assert (found.x_train.dtype, found.y_train.dtype) == (np.float32, np.int32)
    assert (found.x_train.shape, len(found.y_train)) == ((TRAIN, expected.shape[1]), TRAIN)


def test_images_are_halved_by_the_papers_protocol(own):
    found = own(shape=(6, 4, 3), protocol="paper")
    expected = halve(arrays((6, 4, 3))["x_test"]).reshape(TEST, 18) / 255
    np.testing.assert_allclose(found.x_test, expected, rtol=1e-6)


def test_samples_are_held_out_as_of_other_sets(own, tmp_path):
    everything = own()
    part = load(DataConfig(file=tmp_path / "my own.npz", validation=0.25, limit=20))
    assert (len(part.y_train), len(part.y_validation), len(part.y_test)) == (20, 10, TEST)
    known = {bytes(row) for row in everything.x_train}
    assert {bytes(row) for row in (*part.x_train, *part.x_validation)} <= known


def test_marked_samples_are_counted(own):
    marks = np.arange(TEST) < 5
    assert own({"x_test_lossless": marks}).source.endswith(", x_test_lossless marks 5 of 12")
    assert own({"x_test_lossless": marks[1:], "notes": np.array("a")}).source.endswith(".npz")


TALL = np.zeros((TRAIN, 7, 4), np.uint8)
WRONG = {
    "no labels": ({"y_train": None}, "lacks y_train: give x_train, y_train, x_test, y_test"),
    "nothing": (dict.fromkeys(arrays()), "it has no arrays"),
    "other size": ({"x_train": TALL}, r"images of shape \(6, 4, 1\), expected \(7, 4, 1\)"),
    "no samples": ({"x_test": np.zeros((0, 6, 4), np.uint8)}, r"x_test has the shape \(0, 6, 4\)"),
    "no axes": ({"x_test": np.uint8(3)}, r"x_test has the shape \(\)"),
    "signed": ({"x_train": TALL.astype(int)}, "x_train is int64: give uint8, uint16, or floats"),
    "complex": ({"x_train": TALL.astype(complex)}, "x_train is complex128"),
    "not finite": ({"x_test": np.full((TEST, 6, 4), np.nan)}, "x_test has values that are not fin"),
    "not scaled": ({"x_test": np.full((TEST, 6, 4), 1.5)}, "reaches from 1.5 to 1.5: scale it"),
    "two kinds": ({"x_test": np.zeros((TEST, 6, 4))}, "x_train is uint8, but x_test float64"),
    "few labels": ({"y_train": np.array([0, 3, 7] * 10)}, "40 images but 30 labels"),
    "one class": (
        {"y_train": np.zeros(TRAIN, int), "y_test": np.zeros(TEST, int)},
        "y_train is 0 throughout",
    ),
    "new class": ({"y_test": np.arange(TEST)}, "y_test has 1, which y_train has not"),
    "negative": ({"y_test": np.arange(TEST) - 1}, "y_test has -1: give labels from 0 up"),
    "fractions": ({"y_test": np.zeros(TEST)}, "y_test is float64: give whole numbers"),
    "one-hot": ({"y_test": np.eye(12, dtype=int)}, r"y_test has the shape \(12, 12\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_data_set_is_named(own, case):
    changes, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        own(changes)


@pytest.mark.parametrize("shape", [(7, 4), (24,)])
def test_what_cannot_be_halved_is_named(own, shape):
    with pytest.raises(DataError, match=r"halves images, not . x .+: use 'full'"):
        own(shape=shape, protocol="paper")


def test_labels_may_be_a_column(own):
    labels = arrays()["y_test"]
    np.testing.assert_array_equal(own({"y_test": labels[:, np.newaxis]}).y_test, own().y_test)


def test_nothing_is_executed(own):
    with pytest.raises(DataError, match=r"x_train.npy holds Python objects"):
        own({"x_train": np.array([print, None])})


def forged(path, header):
    """Replaces an array by one whose header promises something else."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "x_test.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "no sound npz file"),
        (lambda path: path.write_bytes(b"\x80\4K\1."), "no sound npz file"),
        (lambda path: path.write_bytes(b""), "no sound npz file"),
        (
            lambda path: forged(
                path, b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000000000,)}\n"
            ),
            "but its header says 9000000000",
        ),
        (lambda path: forged(path, b"__import__('os').abort()\n"), "no sound npz file"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damaged_files_are_named(own, tmp_path, change, message):
    own()
    path = tmp_path / "my own.npz"
    change(path)
    with pytest.raises(DataError, match=message):
        load(DataConfig(file=path))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"file": Path("none.npz")}, "file is none.npz, which is no file"),
        ({"name": "mnist"}, "name is mnist, but file is given: use only one"),
        ({"archives": Path("a")}, "archives is a, but file is given: use only one"),
    ],
)
def test_only_one_place_is_read(own, tmp_path, other, message):
    own()
    config = DataConfig(file=tmp_path / "my own.npz")
    with pytest.raises(DataError, match=message):
        dataclasses.replace(config, **other).check()


@pytest.mark.slow
@pytest.mark.skipif(not RESERVED.is_dir(), reason="PDADMM_ARCHIVES has no reserved files")
def test_the_reserved_files_are_read_at_the_papers_resolution():
    found = {
        path.stem: load(DataConfig(file=path, protocol="paper", validation=0))
        for path in RESERVED.glob("*.npz")
    }
    sizes = {
        name: (one.x_train.shape, one.x_test.shape, one.classes) for name, one in found.items()
    }
    assert sizes == {
        "kmnist_partial7011": ((7011, 196), (10_000, 196), 10),
        "cifar10_0_6_jpegtest": ((10_000, 768), (2000, 768), 2),
    }
    assert found["cifar10_0_6_jpegtest"].source.endswith("x_test_lossless marks 215 of 2,000")
