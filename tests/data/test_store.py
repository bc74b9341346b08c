"""Prepared directories: interrupted, written twice at once, damaged."""

import shutil
import threading
from dataclasses import replace

import pytest

from experiments.data import DataConfig, DataError, catalogue, load, official, store


def images(config):
    return official.images(config, catalogue.ENTRIES[config.name])


def leftovers(root):
    return [path for path in (root / store.OWN).rglob("*") if path.is_file()]


@pytest.fixture
def config(tmp_path):
    """Loads nothing but what is on this machine."""
    return DataConfig(prepared=tmp_path / "prepared", download=False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_an_interrupted_preparation_leaves_nothing(original, config, monkeypatch, error):
    made = original("mnist")
    config = replace(config, name="mnist", archives=made.directory)
    generate = store._Writer._generate_examples

    def interrupted(self, images):
        for number, example in generate(self, images):
            if len(images.pixels) < 60 and number == 20:  # the first split is written by now
                raise error
            yield number, example

    with monkeypatch.context() as patch:
        patch.setattr(store._Writer, "_generate_examples", interrupted)
        with pytest.raises((KeyboardInterrupt, DataError)):
            load(config)
    assert leftovers(config.prepared) == []
    splits, _ = images(config)
    made.assert_equal(splits)


def test_a_killed_preparation_is_not_taken_for_complete(original, config):
    made = original("mnist")
    config = replace(config, name="mnist", archives=made.directory)
    images(config)
    directory = store.directories("mnist", config.prepared)[1]
    # What TFDS leaves when it has no chance to clean up.
    directory.rename(directory.with_name("incomplete.ABCDEF_3.0.1"))
    splits, source = images(config)
    assert source.startswith("archives in")
    made.assert_equal(splits)


def test_two_at_once_both_succeed(original, config, monkeypatch):
    made = original("kmnist")
    config = replace(config, name="kmnist", archives=made.directory)
    both_write = threading.Barrier(2, timeout=20)
    split_generators = store._Writer._split_generators

    def wait(self, dl_manager):
        both_write.wait()
        return split_generators(self, dl_manager)

    monkeypatch.setattr(store._Writer, "_split_generators", wait)
    results = []
    threads = [threading.Thread(target=lambda: results.append(images(config)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    for splits in results:
        made.assert_equal(splits)


def flip_a_bit(directory):
    path = next(directory.glob("*train*"))
    content = bytearray(path.read_bytes())
    content[5000] ^= 4
    path.write_bytes(content)


def swap_the_splits(directory):
    train, test = next(directory.glob("*train*")), next(directory.glob("*test*"))
    shutil.copy(test, train)


def change_info(old, new):
    def change(directory):
        file = directory / "dataset_info.json"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return change


DAMAGES = {
    "bit flipped": (flip_a_bit, "unreadable"),
    "cut off": (lambda d: next(d.glob("*test*")).write_bytes(b""), "unreadable"),
    "gone": (lambda d: next(d.glob("*test*")).unlink(), "unreadable"),
    "other split": (swap_the_splits, "unreadable"),
    "no info": (lambda d: (d / "dataset_info.json").unlink(), "incomplete"),
    "no features": (lambda d: (d / "features.json").unlink(), "unreadable"),
    "no json": (lambda d: (d / "dataset_info.json").write_text("{"), "unreadable"),
    "no such split": (change_info('"test"', '"exam"'), "unreadable"),
    "fewer images": (change_info('"60"', '"59"'), "59 images, expected 60"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_prepared_directory_is_refused(original, config, damage, message):
    made = original("mnist")
    config = replace(config, name="mnist")
    images(replace(config, archives=made.directory))
    directory = store.directories("mnist", config.prepared)[1]
    damage(directory)
    with pytest.raises(DataError, match=rf"^{directory}.*{message}") as caught:
        load(replace(config, archives=made.directory))
    assert "\n" not in str(caught.value)


def test_a_prepared_directory_of_another_image_size_is_refused(original, config, monkeypatch):
    made = original("mnist")
    config = replace(config, name="mnist", archives=made.directory)
    images(config)
    other = replace(catalogue.ENTRIES["mnist"], shape=(14, 14, 1))
    monkeypatch.setitem(catalogue.ENTRIES, "mnist", other)
    with pytest.raises(DataError, match=r"an image is \(28, 28, 1\) uint8, expected \(14, 14, 1\)"):
        load(config)
