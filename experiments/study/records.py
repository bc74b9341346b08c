"""A study's directory: every finished trial a file of its own, so that none is ever run twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments import runs
from experiments.study.trial import Point, Trial

TRIALS = "trials"
PLACES = ("out", "prepared", "archives", "download")  # settings that say where things are


def study_directory(out: Path, name: str, config: Any) -> Path:
    """The directory of the study with this configuration, made if there is none.

    Its name depends on all settings but those that say where things are, so that the same command
    finds it again.

    Raises:
        OSError: it cannot be made or written to.
    """
    settings = _without_places(asdict(config))
    words = json.dumps(settings, sort_keys=True, default=str)
    path = out / f"{name}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
    try:
        (path / TRIALS).mkdir(parents=True, exist_ok=True)
        if not (path / "config.json").exists():
            runs.write_json(path / "config.json", {"study": name, "config": settings})
    except OSError as error:
        raise OSError(
            f"cannot keep a study in {out} ({error.strerror}): choose another with --out."
        ) from error
    return path


def _without_places(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_places(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in PLACES
    }


def save(directory: Path, trial: Trial, points: list[Point]) -> None:
    """Keeps a finished trial."""
    content = {
        "trial": asdict(trial),
        "points": [{**point._asdict(), "readings": dict(point.readings)} for point in points],
        "environment": runs.environment(),
        "finished": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
    }
    runs.write_json(_file(directory, trial), content)


def find(directory: Path, trial: Trial) -> list[Point] | None:
    """The course of a trial, if it is finished.

    Raises:
        ValueError: its file is not what ``save`` writes.
    """
    path = _file(directory, trial)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        if Trial(**content["trial"]) != trial:
            raise ValueError("it is another trial's")
        return [Point(**_numbers(point)) for point in content["points"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, and the trial is run again."
        ) from error


def _numbers(kept: Any) -> Any:
    """Numbers that are not finite are kept as null."""
    if isinstance(kept, dict):
        return {name: _numbers(value) for name, value in kept.items()}
    if isinstance(kept, list):
        return list(map(_numbers, kept))
    return float("nan") if kept is None else kept


def _file(directory: Path, trial: Trial) -> Path:
    return directory / TRIALS / f"{trial.name}.json"
