"""Datasets that are published as archives: prepared before, else from the archives."""

import os
from pathlib import Path

from experiments.data import archives, store
from experiments.data.catalogue import Entry
from experiments.data.config import DataConfig
from experiments.data.dataset import DataError, NotAtHand, Splits
from experiments.options.paths import local_path


def images(config: DataConfig, entry: Entry) -> tuple[Splits, str]:
    """Reads a dataset, preparing it first if need be.

    Archives that the user names are looked at even if the dataset is prepared. What they hold is
    checked before anything is written, and read back after that, so the first load returns what all
    later ones do. Unpacked files, which no checksum is known of, are read and never prepared.

    Returns:
      The images, and a line that says where they are from.
    """
    name, root = config.name, data_directory(config.prepared)
    if root.exists() and not root.is_dir():
        raise DataError(f"prepared is {root}, which is no directory: give another or none")
    directory = config.archives
    wanted = archives.registered(name, entry.archives)
    given = archives.given(name, wanted, directory) if directory else {}
    if any(path.name != file for file, path in given.items()):  # unpacked
        paths, origin = _complete(config, wanted, given, root, "not looked for: files are unpacked")
        return entry.checked(entry.parse(paths), f"{name} from {origin}"), origin
    builder, misses = store.find(name, root)
    if builder is not None:
        prepared = f"TFDS data directory {builder.data_dir}"
        return _read(builder, entry, f"archives in {directory}, {prepared}" if given else prepared)
    paths, origin = _complete(config, wanted, given, root, ", ".join(misses))
    store.write(name, entry, entry.checked(entry.parse(paths), f"{name} from {origin}"), root)
    builder, misses = store.find(name, root)
    if builder is None:
        raise DataError(f"{name}: prepared, but not to be read: {', '.join(misses)}")
    return _read(builder, entry, f"{origin}, prepared in {builder.data_dir}")


def data_directory(prepared: Path | None) -> Path:
    """Returns the TFDS data directory to use: TFDS's own default if none is given.

    Raises:
        DataError: TFDS_DATA_DIR is no path of this machine, or there is no home directory.
    """
    if prepared is not None:
        return prepared
    try:
        return local_path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    except ValueError as error:
        raise DataError(f"{error} Or set TFDS_DATA_DIR or prepared") from None


def _read(builder: store.Builder, entry: Entry, source: str) -> tuple[Splits, str]:
    return entry.checked(store.read(builder, entry), builder.data_dir), source


def _complete(
    config: DataConfig,
    wanted: archives.Registered,
    given: dict[str, Path],
    root: Path,
    prepared: str,
) -> tuple[dict[str, Path], str]:
    """Adds the archives that the user has not given, and says where all of them are from."""
    missing = {file: wanted[file] for file in wanted if file not in given}
    origins = [f"archives in {config.archives}"] if given else []
    origins += [url for url, _ in missing.values()]
    if not missing:
        return given, origins[0]
    reason = "download is off"
    if config.download:
        try:
            fetched = archives.fetch(config.name, missing, root / "downloads")
            return given | fetched, ", ".join(origins)
        except DataError as error:
            reason = str(error)
    raise NotAtHand(
        f"{config.name} not found: prepared in {prepared}; archives {', '.join(missing)}"
        f" in {config.archives or 'no directory, as none is given'}; {reason}. Set archives to a"
        " directory with these files, or prepared to a TFDS data directory"
    )
