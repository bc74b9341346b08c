"""Original archives: from the user's directory, else from the network.

TFDS has the address and the sha256 of every archive, and a downloader that checks them. Left alone,
that downloader retries for minutes without a network and waits for ever on a silent one.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core import utils
from tensorflow_datasets.core.download import checksums, download_manager, downloader

from experiments.data.dataset import DataError, NotAtHand

RETRIES = 1
IDX = "-ubyte.gz"  # how names of archives of a single idx file end
FOLDERS = {  # what is in an archive of several files
    "cifar-10-binary.tar.gz": "cifar-10-batches-bin",
    "cifar-100-binary.tar.gz": "cifar-100-binary",
}
TIMEOUT = (5.0, 30.0)  # seconds: to connect, and between two pieces of an answer

_REFUSED = (
    requests.RequestException,
    tfds.download.DownloadError,
    download_manager.NonMatchingChecksumError,
)

Registered = dict[str, tuple[str, checksums.UrlInfo]]  # file name -> address, size and sha256


def registered(name: str, files: Sequence[str]) -> Registered:
    """Looks up what TFDS knows about the archives of a dataset."""
    known = tfds.builder_cls(name).url_infos or {}
    by_file = {info.filename: (url, info) for url, info in known.items()}
    return {file: by_file[file] for file in files}


def given(name: str, wanted: Registered, directory: Path) -> dict[str, Path]:
    """Finds archives in the user's directory, or in a folder there, and verifies them.

    Args:
      name: The dataset, and the folder's name if there is one.
      wanted: The archives.
      directory: The user's.

    Returns:
      File name -> path, for those that are there. What has been unpacked has another name, and no
      checksum to be held to.
    """
    if not directory.is_dir():
        raise NotAtHand(
            f"archives is {directory}, which is no directory: give one with the archives of {name},"
            " or None"
        )
    folder = directory / name if (directory / name).is_dir() else directory
    found = {
        file: path
        for file in wanted
        for path in (folder / name for name in reversed(_names(file)))
        if path.is_file() or (path.is_dir() and file in FOLDERS)
    }
    if not found:
        raise NotAtHand(
            f"archives is {directory}, which has none of {', '.join(wanted)}: give a directory with"
            f" the archives of {name}, or None"
        )
    _verify({file: path for file, path in found.items() if path.name == file}, wanted)
    return found


def _names(file: str) -> list[str]:
    """Returns the names under which an archive is looked for, packed and unpacked, its own first.

    Idx files are unpacked to names with a hyphen or with a dot.
    """
    if file in FOLDERS:
        return [file, FOLDERS[file]]
    if not file.endswith(IDX):
        return [file]
    plain = file.removesuffix(".gz")
    return [file, plain, plain.replace("-idx", ".idx")]


def _verify(paths: dict[str, Path], wanted: Registered) -> None:
    for file, path in paths.items():
        url, info = wanted[file]
        with path.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != info.checksum:
            raise DataError(
                f"{path}: sha256 is {actual}, expected {info.checksum}, that of {url}; replace it"
            )


def fetch(name: str, wanted: Registered, downloads: Path) -> dict[str, Path]:
    """Downloads archives with TFDS, or takes what it has downloaded before.

    Args:
      name: The dataset.
      wanted: The archives.
      downloads: TFDS's download cache; a failed download leaves nothing there that is used later.

    Returns:
      File name -> path.
    """
    try:
        manager = tfds.download.DownloadManager(
            download_dir=downloads, url_infos=dict(wanted.values()), dataset_name=name
        )
        with _bounded():
            # One after the other: the first failure is then the last thing that happens.
            paths = {file: Path(manager.download(url)) for file, (url, _) in wanted.items()}
    except _REFUSED as error:
        raise DataError(f"download failed: {error}") from None
    except OSError as error:
        raise DataError(f"nothing can be written in {downloads} ({error})") from None
    _verify(paths, wanted)  # TFDS trusts what it has downloaded before
    return paths


@contextmanager
def _bounded() -> Iterator[None]:
    """Limits retries and waiting of TFDS's downloader, which has no setting for either."""
    hurried = functools.partial(downloader._open_url, timeout=TIMEOUT)
    with (
        utils.temporary_assignment(downloader, "MAX_RETRIES", RETRIES),
        utils.temporary_assignment(downloader, "_open_url", hurried),
    ):
        yield
