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
    values = {
        "u": lambda size: random.integers(0, 256, size),
        "i": lambda size: random.integers(-9, 10, size),
        "f": lambda size: 2 * random.random(size) - 0.5,
    }
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
    [
        *[(np.uint8, 255), (np.uint16, 65_535), (">u2", 65_535), (np.float64, 1), ("?", 1)],
        *[(">f4", 1), (np.float16, 1), (np.longdouble, 1), ("i1", 1), (">i8", 1), ("u4", 1)],
    ],
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


def spoilt(shape, place, value=np.nan):
    """Zeros but for one value."""
    rows = np.zeros(shape)
    rows[place] = value
    return rows


TALL = np.zeros((TRAIN, 7, 4), np.uint8)
WRONG = {
    "no labels": ({"y_train": None}, "lacks y_train: give x_train, y_train, x_test, y_test"),
    "no test labels": ({"y_test": None}, "lacks y_test: give x_train, y_train, x_test, y_test"),
    "nothing": (dict.fromkeys(arrays()), "lacks x_train, y_train: .*; it has no arrays"),
    "x alone": (dict.fromkeys(arrays()) | {"x": TALL}, "lacks y: give x, y; it has x"),
    "other size": ({"x_train": TALL}, "x_test has samples of 6 x 4 x 1, but .* have 7 x 4 x 1"),
    "no samples": ({"x_test": np.zeros((0, 6, 4), np.uint8)}, r"x_test has the shape \(0, 6, 4\)"),
    "no axes": ({"x_test": np.uint8(3)}, r"x_test has the shape \(\)"),
    "complex": ({"x_train": TALL.astype(complex)}, "x_train is complex128: give real numbers"),
    "dates": ({"x_train": TALL.astype("M8[s]")}, r"x_train is datetime64\[s\]"),
    "not finite": (
        {"x_test": spoilt((TEST, 6, 4), (5, 3, 1))},
        r"x_test\[5, 3, 1\] is nan \(row 5",
    ),
    "row and column": (
        {"x_train": spoilt((TRAIN, 24), (7, 20), -np.inf)},
        r"x_train\[7, 20\] is -inf \(row 7, column 20, counted from 0\): remove the sample, or",
    ),
    "two kinds": (
        {"x_test": np.zeros((TEST, 6, 4))},
        "x_test is float64, but the training samples are uint8",
    ),
    "few labels": ({"y_train": np.array([0, 3, 7] * 10)}, "x_train has 40 samples, but y_train 30"),
    "one class": (
        {"y_train": np.zeros(TRAIN, int), "y_test": np.zeros(TEST, int)},
        "y_train is 0 throughout",
    ),
    "new class": ({"y_test": np.arange(TEST)}, "y_test has 1, which the training labels have not"),
    "fractions": (
        {"y_test": np.full(TEST, 0.5)},
        "y_test has 0.5, which is no class; to learn num",
    ),
    "too long": (
        {"y_test": np.full(TEST, 2**63)},
        "y_test has 9223372036854775808, which is no cl",
    ),
    "texts": ({"y_test": np.full(TEST, "a")}, "y_test holds texts, but the training labels are"),
    "one-hot": ({"y_test": np.eye(12, dtype=int)}, r"y_test has the shape \(12, 12\): .*argmax"),
    "no text": ({"y_train": np.full(TRAIN, b"\xff")}, "y_train has bytes that are no text"),
    "no number": ({"y_train": spoilt((TRAIN,), 9)}, r"y_train\[9\] is nan \(row 9, counted from 0"),
    "other targets": (
        {"y_train": np.zeros((TRAIN, 2)), "y_test": np.zeros((TEST, 3))},
        "y_test has 3 targets for every sample, but the training samples have 2",
    ),
    "beyond": (
        {"x_train": spoilt((TRAIN, 6, 4), (1, 1, 1), 1e300), "x_test": np.zeros((TEST, 6, 4))},
        "x_train has 1e.300, too large for single precision: .* --data.standardise",
    ),
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


@pytest.mark.parametrize("value", [1 + 2e-16, np.nextafter(np.float32(1), np.float32(2)), -3e5])
def test_numbers_are_taken_as_they_are(own, value):
    x = np.full((TRAIN, 6, 4), value)
    assert (own({"x_train": x, "x_test": x[:TEST].astype("f4")}).x_train == np.float32(value)).all()


@pytest.mark.parametrize(
    "called",
    [(-1, 0, 5), ("cat", "dog", "hen"), (b"cat", b"dog", b"hen"), (-(2**62), 0, 2**62)],
)
def test_labels_of_any_kind_are_numbered_in_order(own, called):
    numbers = {"train": np.arange(TRAIN) % 3, "test": np.arange(TEST) % 3}
    for shape in (-1, (-1, 1)):
        y = {f"y_{k}": np.asarray(called)[rows].reshape(shape) for k, rows in numbers.items()}
        found = own(y)
        assert found.labels.tolist() == [k.decode() if type(k) is bytes else k for k in called]
        np.testing.assert_array_equal(found.y_test, numbers["test"])
        assert (found.classes, found.outputs, found.regression) == (3, 3, False)


def test_booleans_are_two_classes(own):
    found = own({"y_train": np.arange(TRAIN) % 2 == 0, "y_test": np.arange(TEST) % 2})
    assert (found.classes, found.y_test.tolist()) == (2, [0, 1] * 6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8", np.longdouble])
@pytest.mark.parametrize("targets", [(), (1,), (3,)])
def test_floats_are_numbers_to_be_met(own, dtype, targets):
    y = {f"y_{k}": np.ones((n, *targets), dtype) for k, n in (("train", TRAIN), ("test", TEST))}
    found = own(y)
    assert found.y_train.shape == (TRAIN, *(targets or (1,)))
    assert found.y_test.dtype == np.float32
    assert (found.regression, found.outputs, found.labels) == (True, *(targets or (1,)), None)
    with pytest.raises(DataError, match=r"targets of my-own are numbers, .* measures accuracies"):
        assert found.classes


def test_the_user_may_say_what_targets_are(own):
    ages = own(task="regression", standardise=False)
    np.testing.assert_array_equal(ages.y_test[:, 0], arrays()["y_test"])
    whole = {name: rows.astype(float) for name, rows in arrays().items() if name[0] == "y"}
    np.testing.assert_array_equal(own(whole, task="classification").y_test, own().y_test)
    assert own(whole).regression
    with pytest.raises(DataError, match=r"y_train is <U1: give numbers, or --data.task class"):
        own({"y_train": np.full(TRAIN, "a")}, task="regression")


def test_without_test_samples_some_are_set_aside(own):
    few = {"x_test": None, "y_test": None}
    one, again, other = own(few), own(few), own(few, seed=1)
    assert (len(one.y_train), len(one.y_test)) == (32, 8)
    assert one.source.endswith("my own.npz, of which 8 are set aside for the test")
    np.testing.assert_array_equal(one.x_test, again.x_test)
    assert not np.array_equal(one.x_test, other.x_test)
    rows = sorted(map(bytes, (*one.x_train, *one.x_test)))
    assert rows == sorted(map(bytes, own().x_train))
    whole = arrays()
    unnamed = dict.fromkeys(whole) | {"x": whole["x_train"], "y": whole["y_train"]}
    np.testing.assert_array_equal(own(unnamed).x_test, one.x_test)
    assert len(own(few, test=0.5).y_test) == 20
    with pytest.raises(DataError, match=r"test is 0.99: none of 40 samples is left"):
        own(few, test=0.99)
    with pytest.raises(DataError, match=r"test is 0.3, but there are test samples"):
        own(test=0.3)


def test_test_samples_may_have_a_file_of_their_own(own, tmp_path):
    whole = arrays()
    path, few = tmp_path / "test.npz", {"x_test": None, "y_test": None}
    for names in (("x", "y"), ("x_test", "y_test")):
        np.savez(path, **dict(zip(names, (whole["x_test"], whole["y_test"]), strict=True)))
        found = own(few, test_file=path)
        np.testing.assert_array_equal(found.x_test, own().x_test)
        assert found.source.endswith(f"my own.npz, test samples of {path}")
    with pytest.raises(DataError, match=r"test_file is given, but .* has x_test: use only one"):
        own(test_file=path)


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
        ({"prepared": Path("a")}, "prepared is a, but file is given: use only one"),
        ({"test_file": Path("none.npz")}, "test_file is none.npz, which is no file"),
        ({"test": 1.0}, "test is 1.0: give a share above 0 and below 1"),
        ({"test": float("nan")}, "test is nan"),
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
