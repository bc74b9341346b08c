"""Published datasets, on small ones in the formats of the originals."""

import gzip
import json
import pwd
import shutil
import tarfile
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from experiments.data import DataConfig, DataError, archives, catalogue, load, official, store
from experiments.data.dataset import NotAtHand

PUBLISHED = [name for name, entry in catalogue.ENTRIES.items() if entry.archives]


def images(config):
    return official.images(config, catalogue.ENTRIES[config.name])


@pytest.fixture
def config(tmp_path):
    """Loads nothing but what is on this machine."""
    return DataConfig(prepared=tmp_path / "prepared", download=False)


@pytest.mark.parametrize("name", PUBLISHED)
def test_archives_are_read_and_prepared(original, config, name, capsys):
    made = original(name)
    config = replace(config, name=name)
    first, source = images(replace(config, archives=made.directory))
    made.assert_equal(first)
    assert source.startswith(f"archives in {made.directory}, prepared in {config.prepared}")
    assert capsys.readouterr().out == ""  # which is for results
    shutil.rmtree(made.directory)
    again, source = images(config)
    made.assert_equal(again)
    assert source.startswith(f"TFDS data directory {config.prepared}")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_paper_form_of_each(original, config, name):
    made = original(name)
    paper = catalogue.ENTRIES[name].paper
    dataset = load(
        replace(config, name=name, archives=made.directory, protocol="paper", validation=0)
    )
    kept = {
        split: images.pixels[np.isin(images.labels[paper.label], paper.classes or range(10))]
        for split, images in made.splits.items()
    }
    assert dataset.x_train.shape == (len(kept["train"]), 196 if "mnist" in name else 768)
    assert dataset.classes == (2 if paper.classes else 10)
    assert set(dataset.y_train) == set(range(dataset.classes))
    corner = kept["test"][:, :2, :2, 0].mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(dataset.x_test[:, 0], corner, rtol=1e-5)


def test_cifar100_has_fine_and_coarse_labels(original, config):
    made = original("cifar100")
    config = replace(config, name="cifar100", archives=made.directory, validation=0)
    full, paper = load(config), load(replace(config, protocol="paper"))
    assert (full.classes, paper.classes) == (100, 2)
    test = made.splits["test"]
    np.testing.assert_array_equal(full.y_test, test.labels["label"])
    coarse = test.labels["coarse_label"]
    np.testing.assert_array_equal(paper.y_test, coarse[np.isin(coarse, (0, 2))] // 2)


@pytest.mark.parametrize("name", ["mnist", "cifar100", "svhn_cropped"])
def test_a_directory_that_tfds_prepared_is_read_in_published_order(original, config, name):
    made = original(name)
    prepare_as_tfds_does(name, made.splits, config.prepared)
    splits, source = images(replace(config, name=name))
    made.assert_equal(splits)
    assert store.OWN not in source


def prepare_as_tfds_does(name, splits, root):
    """Has TFDS's own builder write array_record files: shuffled, with ids."""

    class Standard(tfds.builder_cls(name), skip_registration=True):
        pkg_dir_path = tfds.builder_cls(name)._get_pkg_dir_path()

        def _split_generators(self, dl_manager):
            return {split: self._examples(split, images) for split, images in splits.items()}

        def _examples(self, split, images):
            for number, pixels in enumerate(images.pixels):
                record = {kind: int(values[number]) for kind, values in images.labels.items()}
                if "id" in self.info.features:
                    record["id"] = f"{split}_{number:05d}"
                yield number, {"image": Image.fromarray(pixels.squeeze()), **record}

    Standard.name = name
    builder = Standard(data_dir=root)
    builder.download_and_prepare(file_format="array_record")
    assert not builder.info.disable_shuffling


def test_a_tfrecord_directory_is_named_but_does_not_stand_in_the_way(original, config):
    made = original("kmnist")
    prepare_as_tfds_does("kmnist", made.splits, config.prepared)
    file = store.directories("kmnist", config.prepared)[0] / "dataset_info.json"
    info = json.loads(file.read_text()) | {"fileFormat": "tfrecord"}
    file.write_text(json.dumps(info))
    config = replace(config, name="kmnist")
    with pytest.raises(DataError, match="for TensorFlow only: not in array_record form"):
        load(config)
    splits, _ = images(replace(config, archives=made.directory))
    made.assert_equal(splits)


def test_what_is_missing_is_said(original, config, tmp_path):
    made = original("mnist")
    (made.directory / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        load(replace(config, name="mnist", archives=made.directory))
    message = str(caught.value)
    for part in (
        f"{config.prepared}/mnist/3.0.1 (absent)",
        f"{config.prepared}/pdadmm_jax/mnist/3.0.1 (absent)",
        f"archives t10k-labels-idx1-ubyte.gz in {made.directory}",
        "download is off",
    ):
        assert part in message
    assert "train-images" not in message
    assert "\n" not in message


def test_the_default_directory_is_that_of_tfds(original, tmp_path):
    made = original("kmnist")
    load(DataConfig(name="kmnist", archives=made.directory))
    assert (tmp_path / "default" / store.OWN / "kmnist").is_dir()


WRONG_PLACES = {
    "nowhere": (lambda place: None, "which is no directory"),
    "a file": (lambda place: place.touch(), "which is no directory"),
    "empty": (lambda place: place.mkdir(), "which has none of train-images-idx3-ubyte.gz, "),
    "damaged": (lambda place: write_idx_damaged(place), "sha256 is .* replace it"),
}


def write_idx_damaged(place):
    place.mkdir()
    (place / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")


@pytest.mark.parametrize("place", WRONG_PLACES)
@pytest.mark.parametrize("prepared", [False, True])
def test_archives_that_are_named_are_used_or_refused(original, config, tmp_path, place, prepared):
    made = original("mnist")
    if prepared:  # which does not take the place of what is named
        load(replace(config, name="mnist", archives=made.directory))
    make, message = WRONG_PLACES[place]
    make(tmp_path / "place")
    with pytest.raises(DataError, match=f"{tmp_path / 'place'}.*{message}"):
        load(replace(config, name="mnist", archives=tmp_path / "place"))


def test_a_prepared_directory_has_to_be_one(original, config, tmp_path):
    original("mnist")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"prepared is .*/file, which is no directory"):
        load(replace(config, name="mnist", prepared=tmp_path / "file"))


def test_where_archives_are_prepared_already_both_are_named(original, config):
    made = original("mnist")
    config = replace(config, name="mnist", archives=made.directory)
    load(config)
    source = load(config).source
    assert source.startswith(f"archives in {made.directory}, TFDS data directory {config.prepared}")


@pytest.mark.parametrize("name", PUBLISHED)
def test_archives_may_be_in_a_folder_of_the_sets_name(original, config, tmp_path, name):
    made = original(name)
    made.directory.rename(tmp_path / name)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"of another set")
    splits, source = images(replace(config, name=name, archives=tmp_path))
    made.assert_equal(splits)
    assert source.startswith(f"archives in {tmp_path}, prepared in")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_unpacked_folders_are_read_and_not_prepared(original, config, name):
    made = original(name)
    (packed,) = made.directory.iterdir()
    with tarfile.open(packed) as archive:
        archive.extractall(made.directory, filter="data")
    packed.unlink()
    config = replace(config, name=name, archives=made.directory)
    splits, source = images(config)
    made.assert_equal(splits)
    assert source == f"archives in {made.directory}"
    assert not config.prepared.exists()
    first = next(made.directory.glob("*/test*.bin"))
    first.unlink()
    with pytest.raises(DataError, match=rf"{first}: cannot be read"):
        load(config)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "mnist" in name])
@pytest.mark.parametrize("old", ["", "-idx"])
@pytest.mark.parametrize("unpacked", ["*", "*images*"])
def test_unpacked_archives_are_read_and_not_prepared(original, config, name, old, unpacked):
    made = original(name)
    for path in made.directory.glob(unpacked):
        plain = path.with_suffix("").name.replace(old or "none", ".idx")
        (made.directory / plain).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    splits, source = images(replace(config, name=name, archives=made.directory))
    made.assert_equal(splits)
    assert source == f"archives in {made.directory}"
    assert not config.prepared.exists()
    first = next(made.directory.glob("t10k-images*"))
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{first}: 19599 values, but its header says 19600"):
        load(replace(config, name=name, archives=made.directory))


def test_a_wrong_checksum_is_named(original, config):
    made = original("cifar10")
    path = made.directory / "cifar-10-binary.tar.gz"
    expected = made.infos[path.name].checksum
    path.write_bytes(path.read_bytes() + b"!")
    made_of = replace(config, name="cifar10", archives=made.directory)
    with pytest.raises(DataError, match=rf"{path}: sha256 is \w{{64}}, expected {expected}"):
        load(made_of)
    assert not config.prepared.exists()


def test_registered_checksums_are_those_of_tfds():
    for name in PUBLISHED:
        entry = catalogue.ENTRIES[name]
        for file, (url, info) in archives.registered(name, entry.archives).items():
            assert url.endswith(file)
            assert len(info.checksum) == 64


def test_a_directory_that_cannot_be_written_is_named(original, config, tmp_path):
    made = original("mnist")
    (tmp_path / "file").touch()
    config = replace(config, name="mnist", prepared=tmp_path / "file" / "prepared")
    with pytest.raises(DataError, match=r"cannot write .*/file/prepared.* choose another prepared"):
        load(replace(config, archives=made.directory))
    with pytest.raises(DataError, match=r"nothing can be written in .*/file/prepared/downloads"):
        load(replace(config, download=True))


@pytest.mark.parametrize("place", ["gs://bucket/sets", "~nobody-here/sets"])
def test_where_tfds_keeps_its_data_has_to_be_here(place, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", place)
    with pytest.raises(DataError, match=rf"^{place} is .* set TFDS_DATA_DIR or prepared$"):
        load(DataConfig(name="mnist", download=False))
    assert not list(tmp_path.iterdir())


def test_tfds_needs_no_home_where_its_directory_is_given(monkeypatch, tmp_path):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", mock.Mock(side_effect=KeyError("uid not found")))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with pytest.raises(DataError, match="tensorflow_datasets is in a home directory that nobody"):
        load(DataConfig(name="mnist", download=False))
    with pytest.raises(NotAtHand, match="download is off"):
        load(DataConfig(name="mnist", download=False, prepared=tmp_path))
