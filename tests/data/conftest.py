"""Small datasets in the formats of the originals, and a world without a network."""

import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from experiments.data import archives, catalogue
from experiments.data.dataset import Images

TRAIN, TEST = 60, 25  # images


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Sends every request to a closed port, and keeps the user's own TFDS directory out of it."""
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))


@dataclass
class Original:
    """A dataset as its authors publish it, made up."""

    name: str
    splits: dict[str, Images]
    directory: Path  # of the archives
    address: str = "http://127.0.0.1:1"  # of the server that has them
    infos: dict[str, archives.checksums.UrlInfo] = field(default_factory=dict)

    def register(self):
        """Takes the archives as they are now for the true ones."""
        for path in self.directory.iterdir():
            content = path.read_bytes()
            checksum = hashlib.sha256(content).hexdigest()
            self.infos[path.name] = archives.checksums.UrlInfo(len(content), checksum, path.name)

    def assert_equal(self, splits):
        """Holds what was read against what was made up."""
        assert splits.keys() == self.splits.keys()
        for split, expected in self.splits.items():
            np.testing.assert_array_equal(splits[split].pixels, expected.pixels)
            for kind, labels in expected.labels.items():
                np.testing.assert_array_equal(splits[split].labels[kind], labels)

    def look_up(self, name, files):
        """Stands in for `archives.registered`."""
        assert name == self.name
        return {file: (f"{self.address}/{file}", self.infos[file]) for file in files}


@pytest.fixture
def original(monkeypatch, tmp_path):
    """Makes up a dataset, writes its archives, and has catalogue and TFDS's checksums agree."""

    def make(name):
        entry = catalogue.ENTRIES[name]
        splits = {
            split: make_images(seed, count, entry)
            for seed, (split, count) in enumerate((("train", TRAIN), ("test", TEST)))
        }
        made = Original(name, splits, tmp_path / f"archives of {name}")
        made.directory.mkdir()
        WRITERS[name](made.directory, splits)
        sizes = {"train": TRAIN, "test": TEST}
        monkeypatch.setitem(catalogue.ENTRIES, name, replace(entry, sizes=sizes))
        made.register()
        monkeypatch.setattr(archives, "registered", made.look_up)
        return made

    return make


def make_images(seed, count, entry):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, *entry.shape), dtype=np.uint8)
    labels = {
        kind: random.permutation(np.arange(count) % classes).astype(np.uint8)
        for kind, classes in entry.classes.items()
    }
    return Images(pixels, labels)


def idx_bytes(array):
    """Encodes uint8 values as idx."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def write_idx(directory, splits):
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = splits[split]
        for kind, array in (
            ("images-idx3", images.pixels[..., 0]),
            ("labels-idx1", images.labels["label"]),
        ):
            path = directory / f"{prefix}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx_bytes(array)))


def write_mat(directory, splits):
    for split, images in splits.items():
        labels = images.labels["label"]
        variables = {
            "X": images.pixels.transpose(1, 2, 3, 0),
            "y": np.where(labels == 0, 10, labels).astype(np.uint8)[:, np.newaxis],
        }
        scipy.io.savemat(directory / f"{split}_32x32.mat", variables, do_compression=True)


def cifar_bytes(images, kinds):
    """Encodes images as CIFAR's records: label bytes, then red, green and blue planes."""
    columns = [images.labels[kind][:, np.newaxis] for kind in kinds]
    planes = images.pixels.transpose(0, 3, 1, 2).reshape(len(images.pixels), -1)
    return np.hstack([*columns, planes]).astype(np.uint8).tobytes()


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_cifar10(directory, splits):
    records, size = cifar_bytes(splits["train"], ["label"]), (1 + 3072) * TRAIN // 5
    batches = {
        f"cifar-10-batches-bin/data_batch_{batch + 1}.bin": records[batch * size :][:size]
        for batch in (0, 2, 1, 4, 3)  # as in the original, not in order
    }
    test = {"cifar-10-batches-bin/test_batch.bin": cifar_bytes(splits["test"], ["label"])}
    names = {"cifar-10-batches-bin/batches.meta.txt": b"airplane\n"}
    write_tar(directory / "cifar-10-binary.tar.gz", batches | names | test)


def write_cifar100(directory, splits):
    members = {
        f"cifar-100-binary/{split}.bin": cifar_bytes(images, ["coarse_label", "label"])
        for split, images in splits.items()
    }
    write_tar(directory / "cifar-100-binary.tar.gz", members)


WRITERS = {
    "mnist": write_idx,
    "fashion_mnist": write_idx,
    "kmnist": write_idx,
    "svhn_cropped": write_mat,
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
}
