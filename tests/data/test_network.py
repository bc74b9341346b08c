"""Downloads: from a server on this machine, or from one that is not there."""

import http.server
import shutil
import socket
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tensorflow_datasets.core.download import downloader

from experiments.data import DataConfig, DataError, archives, load


@pytest.fixture
def config(tmp_path):
    return DataConfig(name="kmnist", prepared=tmp_path / "prepared")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(original):
    """KMNIST on a server."""
    made = original("kmnist")
    handler = partial(Quiet, directory=made.directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        made.address = f"http://127.0.0.1:{server.server_port}"
        yield made
        server.shutdown()
        thread.join()


def test_archives_are_downloaded_and_prepared(served, config):
    dataset = load(config)
    assert dataset.source.startswith(f"{served.address}/train-images-idx3-ubyte.gz, ")
    np.testing.assert_array_equal(dataset.y_test, served.splits["test"].labels["label"])
    again = load(replace(config, download=False))
    assert again.source.startswith("TFDS data directory")
    np.testing.assert_array_equal(again.x_train, dataset.x_train)


def test_only_what_is_not_given_is_downloaded(served, config, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    file = "train-images-idx3-ubyte.gz"
    (served.directory / file).rename(mine / file)
    assert len(load(replace(config, archives=mine)).x_test) == 25


def test_a_wrong_download_is_refused(served, config):
    path = served.directory / "t10k-labels-idx1-ubyte.gz"
    expected = served.infos[path.name].checksum
    path.write_bytes(b"<html>login</html>")
    with pytest.raises(DataError, match=f"wrong checksum.*{expected}") as caught:
        load(config)
    assert "\n" not in str(caught.value)
    assert not (config.prepared / "pdadmm_jax").exists()


def test_a_damaged_earlier_download_is_refused(served, config):
    load(config)
    shutil.rmtree(config.prepared / "pdadmm_jax")
    cached = next((config.prepared / "downloads").rglob("*t10k-labels*.gz"))
    cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{cached}: sha256 is .*; replace it"):
        load(config)


def test_an_absent_file_is_reported(served, config):
    (served.directory / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz\. HTTP code: 404"):
        load(config)


def test_offline_it_fails_fast_and_says_why(config):
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        load(config)
    assert time.monotonic() - start < 10
    message = str(caught.value)
    for part in (
        "kmnist/3.0.1 (absent)",
        "train-images-idx3-ubyte.gz",
        "download failed",
        "Set archives",
    ):
        assert part in message
    assert "\n" not in message


def test_a_silent_server_is_given_up(original, config, monkeypatch):
    monkeypatch.setattr(archives, "TIMEOUT", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        original("kmnist").address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(DataError, match=r"download failed: .*timed out"):
            load(config)
    assert time.monotonic() - start < 10


def test_the_downloader_of_tfds_is_left_as_it_was(config):
    before = downloader.MAX_RETRIES, downloader._open_url
    with pytest.raises(DataError):
        load(config)
    assert (downloader.MAX_RETRIES, downloader._open_url) == before
