"""The real MNIST and Fashion-MNIST, from a directory that PDADMM_ARCHIVES names."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.data import DataConfig, load, loading
from experiments.data.archives import given, registered
from experiments.data.catalogue import ENTRIES

ARCHIVES = Path(os.environ.get("PDADMM_ARCHIVES", "none"))
TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]

needs = {
    name: pytest.mark.skipif(
        not (ARCHIVES / name).is_dir(), reason=f"PDADMM_ARCHIVES has no {name}"
    )
    for name in ("mnist", "fashion_mnist")
}


@pytest.mark.slow
@needs["mnist"]
def test_mnist_from_archives_and_from_the_prepared_directory(tmp_path):
    config = DataConfig(name="mnist", prepared=tmp_path, download=False)
    first = load(replace(config, archives=ARCHIVES / "mnist"))
    again = load(config)
    for field in ("x_train", "y_train", "x_validation", "y_validation", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(again, field), getattr(first, field))
    assert (first.source, again.source) == (
        f"archives in {ARCHIVES / 'mnist'}, prepared in {tmp_path}/pdadmm_jax/mnist/3.0.1",
        f"TFDS data directory {tmp_path}/pdadmm_jax/mnist/3.0.1",
    )
    assert first.x_train.shape == (54_000, 784)
    assert first.x_validation.shape == (6_000, 784)
    assert first.x_test.shape == (10_000, 784)
    labels = np.concatenate([first.y_train, first.y_validation])
    assert np.bincount(labels).tolist() == TRAIN
    assert np.bincount(first.y_test).tolist() == TEST
    # The usual mean of the training images.
    total = first.x_train.sum(dtype=float) + first.x_validation.sum(dtype=float)
    assert total / (60_000 * 784) == pytest.approx(0.1307, abs=1e-4)

    paper = load(replace(config, protocol="paper", validation=0))
    assert paper.x_train.shape == (55_000, 196)
    order = loading.hold_out(55_000, replace(config, validation=0))[0]
    published = np.empty(55_000, int)
    published[order] = paper.y_train
    assert published[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    np.testing.assert_allclose(paper.x_test.mean(), first.x_test.mean(), rtol=1e-4)


@pytest.mark.slow
@needs["fashion_mnist"]
def test_fashion_mnist_archives():
    entry = ENTRIES["fashion_mnist"]
    wanted = registered("fashion_mnist", entry.archives)
    paths = given("fashion_mnist", wanted, ARCHIVES / "fashion_mnist")
    splits = entry.checked(entry.parse(paths), "archives")
    assert np.bincount(splits["train"].labels["label"]).tolist() == [6_000] * 10
    assert np.bincount(splits["test"].labels["label"]).tolist() == [1_000] * 10
    assert splits["train"].pixels.mean() / 255 == pytest.approx(0.2860, abs=1e-4)
