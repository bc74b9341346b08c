"""Archives that are not what they should be; that sound ones are read is tested elsewhere."""

import gzip
import io
import tarfile

import numpy as np
import pytest
import scipy.io

from experiments.data import DataConfig, DataError, load


def regzip(change):
    """Changes what is in a gzip file."""
    return lambda content: gzip.compress(change(gzip.decompress(content)))


def remat(**variables):
    """Replaces variables of a MATLAB file; None deletes one."""

    def change(content):
        stored = scipy.io.loadmat(io.BytesIO(content)) | variables
        file = io.BytesIO()
        kept = {name: stored[name] for name in ("X", "y") if stored[name] is not None}
        scipy.io.savemat(file, kept)
        return file.getvalue()

    return change


def retar(member, change):
    """Changes one member of a tar.gz file; None deletes it."""

    def rewrite(content):
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(content)) as old,
            tarfile.open(fileobj=out, mode="w:gz") as new,
        ):
            for info in old:
                data = old.extractfile(info).read()
                if info.name == member:
                    data = change(data)
                if data is not None:
                    info.size = len(data)
                    new.addfile(info, io.BytesIO(data))
        return out.getvalue()

    return rewrite


def first_label(value):
    return lambda content: content[:8] + bytes([value]) + content[9:]


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
SVHN, CIFAR10, CIFAR100 = "test_32x32.mat", "cifar-10-binary.tar.gz", "cifar-100-binary.tar.gz"
BATCH = "cifar-10-batches-bin/data_batch_2.bin"
SMALL = np.zeros((16, 16, 3, 25), np.uint8)

DAMAGES = {
    "cut off": ("mnist", IMAGES, lambda c: c[:-100], "damaged gzip file"),
    "no gzip": ("mnist", IMAGES, lambda c: b"<html>", "damaged gzip file"),
    "bits flipped": ("mnist", IMAGES, lambda c: c[:999] + b"#" + c[1000:], "damaged gzip file"),
    "labels for images": ("mnist", IMAGES, regzip(lambda c: c[:3] + b"\1" + c[4:]), "00000801"),
    "empty": ("mnist", LABELS, regzip(lambda c: b""), "starts with , expected idx 00000801"),
    "header only": ("mnist", LABELS, regzip(lambda c: c[:6]), "expected idx 00000801"),
    "few values": ("mnist", LABELS, regzip(lambda c: c[:-2]), "58 values, but its header says 60"),
    "few labels": (
        "kmnist",
        LABELS,
        regzip(lambda c: c[:7] + b"\x3a" + c[8:-2]),
        "60 images but 58 labels",
    ),
    "label 10": ("kmnist", LABELS, regzip(first_label(10)), r"label 10 is not in 0..9"),
    "other size": (
        "fashion_mnist",
        IMAGES,
        regzip(lambda c: c[:11] + b"\x0e" + c[12:15] + b"\x38" + c[16:]),
        r"images of shape \(14, 56, 1\), expected \(28, 28, 1\)",
    ),
    "no mat": ("svhn_cropped", SVHN, lambda c: b"MATLAB", "no MATLAB 5 file with X and y"),
    "mat cut off": ("svhn_cropped", SVHN, lambda c: c[:-999], "no MATLAB 5 file with X and y"),
    "no y": ("svhn_cropped", SVHN, remat(y=None), "no MATLAB 5 file with X and y"),
    "digit 11": ("svhn_cropped", SVHN, remat(y=np.full((25, 1), 11)), "y has other values"),
    "digit 0": ("svhn_cropped", SVHN, remat(y=np.zeros((25, 1))), "y has other values"),
    "small X": ("svhn_cropped", SVHN, remat(X=SMALL), r"images of shape \(16, 16, 3\)"),
    "flat X": ("svhn_cropped", SVHN, remat(X=np.ones((9, 9))), "X is 2-d float64"),
    "few y": ("svhn_cropped", SVHN, remat(y=np.ones((3, 1))), "25 images but 3 labels"),
    "no tar": ("cifar10", CIFAR10, lambda c: b"<html>", "damaged tar.gz file"),
    "tar cut off": ("cifar10", CIFAR10, lambda c: c[:-5000], "damaged tar.gz file"),
    "no batch 2": ("cifar10", CIFAR10, retar(BATCH, lambda c: None), f"lacks {BATCH}"),
    "cut record": ("cifar10", CIFAR10, retar(BATCH, lambda c: c[:-1]), "3073-byte records"),
    "few records": ("cifar10", CIFAR10, retar(BATCH, lambda c: b""), "48 images, expected 60"),
    "coarse 20": (
        "cifar100",
        CIFAR100,
        retar("cifar-100-binary/test.bin", lambda c: b"\x14" + c[1:]),
        r"test split: coarse_label 20 is not in 0..19",
    ),
}


@pytest.mark.parametrize(("name", "file", "damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_bad_archive_is_refused(original, tmp_path, name, file, damage, message):
    made = original(name)
    path = made.directory / file
    path.write_bytes(damage(path.read_bytes()))
    made.register()  # so that the parser is what has to notice
    config = DataConfig(name=name, archives=made.directory, prepared=tmp_path / "p", download=False)
    with pytest.raises(DataError, match=message) as caught:
        load(config)
    assert "\n" not in str(caught.value)
    assert str(made.directory) in str(caught.value)
    assert not (tmp_path / "p").exists()
