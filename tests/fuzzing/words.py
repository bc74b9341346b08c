"""Command lines: options that exist with values that may do, and what people mistype."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from random import Random
from typing import Any

from experiments import config
from experiments.__main__ import LAUNCHABLE, run
from experiments.reliability import config as reliability
from experiments.speed import config as speed
from experiments.study import config as study
from tests.fuzzing.values import TEXTS, options_of, paths_in, value_of

CONFIGS: dict[str, Any] = {
    "train": config.TrainConfig,
    "compare": study.CompareConfig,
    "performance": study.PerformanceConfig,
    "ablations": study.AblationsConfig,
    "time": config.TimeConfig,
    "speed": speed.SpeedConfig,
    "literal": speed.LiteralConfig,
    "sizes": speed.SizesConfig,
    "startup": speed.StartupConfig,
    "precision": speed.PrecisionConfig,
    "convergence": study.ConvergenceConfig,
    "communication": study.CommunicationConfig,
    "compile": config.CompileConfig,
    "scaling": config.ScalingConfig,
    "crash": reliability.CrashConfig,
    "damage": reliability.DamageConfig,
    "ranks": reliability.RanksConfig,
    "soak": reliability.SoakConfig,
    "report": config.ReportConfig,
    "launch": config.LaunchConfig,
}
OPTIONS = {command: options_of(found) for command, found in CONFIGS.items()}


def words_of(random: Random, command: str, folder: Path) -> list[str]:
    """A command line, sound or not."""
    words = [command]
    options = OPTIONS[command]
    chosen = random.sample(sorted(options), min(random.choice((0, 1, 1, 2, 3)), len(options)))
    for option in chosen:
        words += [f"--{option}", *_values(random, options[option], folder)]
    if command == "launch" and random.random() < 0.8:
        words += words_of(random, random.choice(LAUNCHABLE), folder)
    return _mistyped(random, words) if random.random() < 0.4 else words


def _values(random: Random, hint: Any, folder: Path) -> list[str]:
    if hint is bool:
        return []
    if random.random() < 0.1:
        return [random.choice(TEXTS)]
    value = value_of(random, hint, paths_in(folder))
    return [str(one) for one in (value if isinstance(value, tuple) else (value,))]


def _mistyped(random: Random, words: list[str]) -> list[str]:
    # Seldom the command itself, of which there is less to get wrong.
    place = random.randrange(1, len(words)) if random.random() < 0.8 and words[1:] else 0
    word = words[place]
    letter = random.randrange(max(len(word), 1))
    return random.choice(
        (
            [*words[:place], *words[place + 1 :]],
            [*words[:place], word, *words[place:]],
            [*words[:place], word[:letter] + word[letter + 1 :], *words[place + 1 :]],
            [*words[:place], word[:letter] + "x" + word[letter:], *words[place + 1 :]],
            [*words[:place], word.swapcase(), *words[place + 1 :]],
            [*words[:place], random.choice(TEXTS), *words[place:]],
            [*words, random.choice(("--help", "-h", "--", "--help=1", "train", "extra"))],
            list(reversed(words)),
        )
    )


class Begun(BaseException):
    """A command has come to its first iteration."""


def obeyed(words: list[str]) -> bool:
    """Whether a command line works; else it is refused as the user should see it."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(words)
    except SystemExit as stop:  # --help
        code = stop.code or 0
    except Begun:
        code = 0
    if code == 0:
        assert not err.getvalue()
        return True
    assert code == 2, f"exit code {code}"
    assert not out.getvalue(), out.getvalue()
    (line,) = err.getvalue().splitlines()
    assert line.startswith("error: ")
    assert len(line) > len("error: ")
    return False


STUDIES = ("train", "compare", "performance", "convergence", "communication", "ablations")
SMALL = {"hidden": (["8"], ["8", "8"], ["8", "8", "8"], ["8", "8", "6"], ["0"], ["1000000000"], [])}
PLACES = ("out", "prepared", "archives", "runs", "cluster")


def study_of(random: Random, folder: Path) -> list[str]:
    """A command that would train, with settings that are looked at before it does."""
    command = random.choice(STUDIES)
    options = {
        name: hint
        for name, hint in OPTIONS[command].items()
        if not set(name.split("."))
        & {*PLACES, "files", "name", "sets", "distributed", "neurons", "layers"}
    }
    words = [command]
    for option in random.sample(sorted(options), random.choice((1, 1, 2, 3, 4))):
        small = SMALL.get(option.split(".")[-1])
        values = random.choice(small) if small else _values(random, options[option], folder)
        words += [f"--{option}", *values]
    if command == "performance":
        words += ["--sets", "--files", str(folder / "own.npz"), "--neurons", "8", "--layers", "4"]
    return [*words, "--out", str(folder / "runs")]
