"""Directories of studies and of trials: a finished trial is a file, and is not run twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter
from typing_extensions import TypedDict

import experiments
import pdadmm_jax as pdadmm
from experiments.compare.trial import Point, Trial
from experiments.runtime import run_directory as runs
from experiments.runtime.json_files import read_json

TRIALS = "trials"
HERE = Path(experiments.__path__[0])
# Trials' results depend on these.
CODE = (
    Path(pdadmm.__path__[0]),
    HERE / "data",
    HERE / "algorithms",
    HERE / "compare" / "methods.py",
    HERE / "compare" / "trial.py",
)
FILES = ("file", "test_file", "files")
PLACES = ("out", "prepared", "archives", "download")  # settings that say where things are


def _numbers(point: Any) -> Any:
    """Numbers that are not finite are saved as null."""
    if not isinstance(point, dict):
        raise ValueError("no numbers by their names")
    return _without_null(point)


def _without_null(saved: Any) -> Any:
    if isinstance(saved, dict):
        return {name: _without_null(value) for name, value in saved.items()}
    if isinstance(saved, list):
        return list(map(_without_null, saved))
    return float("nan") if saved is None else saved


def _begun(point: Point) -> Point:
    if point.passes < 1:
        raise ValueError("passes is below 1")
    return point


class _Saved(TypedDict):
    """What ``find`` needs of a finished trial."""

    trial: Trial
    points: Annotated[
        list[Annotated[Point, BeforeValidator(_numbers), AfterValidator(_begun)]],
        Field(min_length=1),
    ]


_SAVED = TypeAdapter(_Saved)
_ANYTHING = TypeAdapter(Any)


def study_directory(out: Path, name: str, options: Any) -> Path:
    """The directory of the results of a study with this configuration, made if there is none.

    Its name depends on all settings but those that say where things are, and on what is in files of
    the user's, so that the same command finds it again.

    Raises:
        OSError: it cannot be made or written to.
        ValueError: its config.json is another's, or damaged.
    """
    return _directory(out, name, {"study": name, "config": _settings(asdict(options))})


def trials_directory(out: Path, name: str, options: Any) -> Path:
    """The directory of finished trials of this configuration, for all studies that need them.

    Its name depends on code, versions and hardware too: trials that others made are not mixed in.

    Args:
        out: where the studies have their directories.
        name: of the studies.
        options: what they have in common.

    Raises:
        OSError: it cannot be made or written to.
        ValueError: its config.json is another's, or damaged.
    """
    made = {**runs.environment(), "code": _code()}
    content = {"study": name, "config": _settings(asdict(options)), "made": made}
    return _directory(out / TRIALS, name, content)


def _directory(out: Path, name: str, content: dict[str, Any]) -> Path:
    words = json.dumps(content, sort_keys=True, default=str)
    path = out / f"{name}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not (path / runs.CONFIG).exists():
            runs.write_json(path / runs.CONFIG, content)
    except OSError as error:
        raise OSError(
            f"cannot save a study in {out} ({error.strerror}): choose another with --out."
        ) from error
    try:
        found = read_json(path / runs.CONFIG, _ANYTHING)
    except ValueError as error:
        raise ValueError(f"{error}: remove it, and it is written again.") from None
    if found != json.loads(runs.to_json(content)):
        raise ValueError(
            f"{path / runs.CONFIG} is not this study's: remove {path}, or choose another place "
            "with --out."
        )
    return path


@cache
def _code() -> str:
    """SHA-256 of the code."""
    found = hashlib.sha256()
    for part in CODE:
        for path in sorted(part.rglob("*.py")) if part.is_dir() else (part,):
            found.update(path.read_bytes())
    return found.hexdigest()


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """What makes a study another one; of files of the user's, what is in them."""
    settings = {}
    for name, value in options.items():
        if name in FILES:
            paths = value if isinstance(value, tuple) else (value,)
            if contents := [_content(path) for path in paths if path is not None]:
                settings[name] = contents
        elif name not in PLACES:
            settings[name] = _settings(value) if isinstance(value, dict) else value
    return settings


def _content(path: Path) -> str:
    with path.open("rb") as stream:
        return f"sha256 {hashlib.file_digest(stream, 'sha256').hexdigest()}"


def save(directory: Path, trial: Trial, points: list[Point]) -> None:
    """Saves a finished trial in a directory of trials."""
    content = {
        "trial": asdict(trial),
        "points": [point._asdict() for point in points],
        "finished": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
    }
    runs.write_json(_file(directory, trial), content)


def find(directory: Path, trial: Trial) -> list[Point] | None:
    """The history of a trial, if it is finished.

    Raises:
        ValueError: its file is not what ``save`` writes.
    """
    path = _file(directory, trial)
    if not path.exists():
        return None
    try:
        content = read_json(path, _SAVED)
    except ValueError as error:
        raise ValueError(f"{error}: remove it, and the trial is run again.") from None
    if content["trial"] != trial:
        raise ValueError(f"{path} is another trial's: remove it, and the trial is run again.")
    return content["points"]


def _file(directory: Path, trial: Trial) -> Path:
    return directory / f"{trial.name}.json"
