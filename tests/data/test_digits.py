import subprocess
import sys

import numpy as np
import pytest

from experiments.data import DataConfig, DataError, digits, load


def test_digits_are_those_of_uci():
    splits = digits.bundled({})
    labels = np.concatenate([splits[split].labels["label"] for split in ("train", "test")])
    pixels = np.concatenate([splits[split].pixels for split in ("train", "test")])
    # The class counts that UCI gives for the test part, and a known total of ink.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert pixels.shape == (1797, 8, 8, 1)
    assert (pixels.min(), pixels.max(), pixels.sum()) == (0, 16, 561718)


def test_arrays_have_the_promised_form():
    dataset = load(DataConfig())
    assert (dataset.name, dataset.classes) == ("digits", 10)
    assert dataset.x_train.shape == (1293, 64)
    assert dataset.x_validation.shape == (144, 64)
    assert dataset.x_test.shape == (360, 64)
    for x in (dataset.x_train, dataset.x_validation, dataset.x_test):
        assert x.dtype == np.float32
        assert x.min() == 0
        assert x.max() == 1
    for y in (dataset.y_train, dataset.y_validation, dataset.y_test):
        assert y.dtype == np.int32
        assert set(y) == set(range(10))


def test_test_split_does_not_depend_on_the_seed():
    one, other = load(DataConfig(seed=1)), load(DataConfig(seed=2))
    np.testing.assert_array_equal(one.x_test, other.x_test)
    assert not np.array_equal(one.x_train, other.x_train)
    assert one.y_test[:6].tolist() == [0, 5, 0, 5, 0, 5]


def test_damage_is_detected(monkeypatch, tmp_path):
    content = bytearray(digits.FILE.read_bytes())
    content[20_000] ^= 1
    (tmp_path / "digits.npz").write_bytes(content)
    monkeypatch.setattr(digits, "FILE", tmp_path / "digits.npz")
    with pytest.raises(DataError, match=f"digits.npz: sha256 is .* expected {digits.SHA256}"):
        load(DataConfig())


def test_licence_lies_beside_the_file():
    text = digits.FILE.with_name("digits-licence.txt").read_text()
    assert "CC BY 4.0" in text
    assert digits.FILE.stat().st_size < 60_000


def test_digits_need_no_tensorflow_datasets():
    program = (
        "import sys; sys.modules['tensorflow_datasets'] = None\n"
        "from experiments.data import DataConfig, DataError, load\n"
        "assert len(load(DataConfig()).x_test) == 360\n"
        "try: load(DataConfig(name='mnist'))\n"
        "except DataError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mnist needs tensorflow_datasets, which is not installed" in done.stdout
