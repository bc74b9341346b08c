"""JSON files of ours that something has happened to."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from experiments import report, runs
from experiments.config import ReportConfig
from experiments.shown import SHOWN
from experiments.study import records
from experiments.study.config import CompareConfig
from experiments.study.trial import Point, Trial
from tests.fuzzing.engine import Case, assert_no_halves, damaged

JUNK = (
    *(None, True, 0, -1, 3, 1.5, 1e308, 10**30, float("nan"), float("inf"), "", "x", "\ud800"),
    *("../secret", "/etc/hostname", "![a](../secret)", "a|b`c", "<script>", "\n\n# x", "y" * 2000),
    *([], {}, [[]], {"text": 1}, {"table": {}}, [1, "a", None], {"a": {"b": []}}),
)
TRIAL = Trial("adam", 0.003, 1, True)
POINT = Point(4, 0.1, 0.0, 1.0, 0.5, float("inf"), 0.25)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def spoilt(random: Random, document: Any) -> bytes:
    """A document with something else in some place, or damaged as a file."""
    if random.random() < 0.35:
        return damaged(random, runs.to_json(document, indent=2).encode())
    if random.random() < 0.03:
        return random.choice((b"[", b'{"a":')) * 100_000
    document = json.loads(runs.to_json(document))
    for _ in range(random.choice((0, 1, 1, 1, 2))):
        document = _with_junk(random, document)
    return json.dumps(document).encode()


def _with_junk(random: Random, value: Any) -> Any:
    """Replaces, removes or adds something, the deeper the likelier."""
    if not isinstance(value, (dict, list)) or not value or random.random() < 0.1:
        return random.choice(JUNK)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key, kind = random.choice(list(keys)), random.random()
    changed = value.copy()
    if kind < 0.15:
        del changed[key]
    elif kind < 0.25 and isinstance(changed, dict):
        changed[random.choice(("x", "text", "table", "passes"))] = random.choice(JUNK)
    elif kind < 0.35 and isinstance(changed, list):
        changed.insert(key, random.choice((random.choice(JUNK), changed[key])))
    else:
        changed[key] = _with_junk(random, changed[key])
    return changed


@functools.cache
def _shown() -> dict[str, Any]:
    table = {
        "title": "a table",
        "columns": ["", "n"],
        "rows": [["a", "1"], ["b", "2"]],
        "right": [False, True],
    }
    return {
        "command": "python -m experiments compare",
        "finished": "2026-01-01 00:00:00",
        "environment": runs.environment(),
        "parts": [{"text": "so it was"}, {"table": table}],
        "figures": ["figure.png"],
    }


def page(random: Random, folder: Path) -> Case:
    """A report of two runs, one of which is spoilt: all of a page is written, or nothing."""
    for name, content in (
        ("sound", runs.to_json(_shown()).encode()),
        ("spoilt", spoilt(random, _shown())),
    ):
        directory = folder / name
        directory.mkdir(exist_ok=True)
        (directory / SHOWN).write_bytes(content)
        (directory / "figure.png").write_bytes(PNG)
    (folder / "secret").write_bytes(PNG + b"secret")
    if random.random() < 0.2:
        (folder / "spoilt" / "figure.png").write_bytes(damaged(random, PNG))

    def case() -> None:
        for name in ("report.md", "report.html"):
            (folder / name).unlink(missing_ok=True)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                report.main(ReportConfig(folder))
        except BaseException:
            assert not list(folder.glob("report.*"))
            raise
        finally:
            assert_no_halves(folder)
        assert "c2VjcmV0" not in (folder / "report.html").read_text()  # base64 of secret

    return case


def trial(random: Random, folder: Path) -> Case:
    """A finished trial of a study."""
    content = {"trial": asdict(TRIAL), "points": [POINT._asdict()] * 2}
    (folder / f"{TRIAL.name}.json").write_bytes(spoilt(random, content))

    def case() -> None:
        points = records.find(folder, TRIAL)
        assert points
        for *numbers, readings in points:
            assert all(isinstance(number, (int, float)) for number in numbers)
            assert isinstance(readings, dict)

    return case


def settings(random: Random, folder: Path) -> Case:
    """The config.json of a study that is gone on with."""
    config = CompareConfig(out=folder)
    directory = records.study_directory(folder, "compare", config)
    file = directory / "config.json"
    sound = file.read_bytes()
    file.write_bytes(spoilt(random, json.loads(sound)))

    def case() -> None:
        try:
            assert records.study_directory(folder, "compare", config) == directory
        finally:
            file.write_bytes(sound)

    return case


def metrics(random: Random, folder: Path) -> Case:
    """The metrics of a run."""
    line = {
        **{"iteration": 1, "layers": 3, "lagrangian": 0.5, "objective": 0.5, "residual": 1e-9},
        **{"residual_per_boundary": [1e-5, 2e-5], "finite": True, "converged": True},
        **{"train_loss": 0.5, "train_accuracy": 0.9, "seconds": 0.1},
    }
    lines = [runs.to_json(line | {"iteration": k}).encode() for k in (1, 2, 3)]
    lines[random.randrange(3)] = spoilt(random, line).replace(b"\n", b"")
    (folder / runs.METRICS).write_bytes(b"\n".join(lines) + b"\n")
    return lambda: runs.read_metrics(folder)
