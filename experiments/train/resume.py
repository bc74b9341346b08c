"""Resuming a run: under which options it was begun, and which of them may change.

This module imports neither JAX nor the library, so that the command line answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from experiments.options.devices import ClusterConfig
from experiments.options.paths import local_path
from experiments.runtime.errors import UsageError, usage_errors
from experiments.train.options import TrainConfig

T = TypeVar("T")

# What does not change what is computed, or only by rounding, or not what has been computed so far.
MAY_CHANGE = (
    *("resume", "out", "iterations", "mesh", "cluster", "distributed", "checkpoint", "divergence"),
    *("data.prepared", "data.archives", "data.download"),
    *("data.file", "data.test_file"),  # may have moved; other data are told by their digest
)


def original_options(words: list[str]) -> TrainConfig | None:
    """The options of the run that a ``train`` command is to resume; None for a new run.

    Raises:
        UsageError: there is no such run, or its config.json is damaged.
    """
    directory = _resumed(words)
    if directory is None:
        return None
    # Where it is to run is said anew.
    found = options_of(directory, "resume")
    return dataclasses.replace(found, resume=None, cluster=ClusterConfig(), distributed=False)


def options_of(directory: Path, option: str) -> TrainConfig:
    """The options that a run was begun or resumed with.

    Args:
        directory: of the run.
        option: by which it was given, for the message.

    Raises:
        UsageError: there is no such run, or its config.json is damaged.
    """
    path = directory / "config.json"
    try:
        return from_plain(TrainConfig, json.loads(path.read_text())["config"])
    except OSError as error:
        raise UsageError(
            f"{option} is {directory}, in which no run was begun ({path.name}: {error.strerror}): "
            "give a run directory that train made."
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        config = _config_of_checkpoint(directory)
        if config is None:
            raise UsageError(
                f"{path} is damaged, or of another command or version ({_short(error)}), and no "
                "checkpoint has its options: begin a new run."
            ) from error
        return config


def plain(config: Any) -> dict[str, Any]:
    """A config as JSON gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def from_plain(kind: type[T], content: Any) -> T:
    """The config that ``plain`` made this of; what it lacks has its default value.

    Raises:
        ValueError: something that the config does not know, or of another type.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{kind.__name__} is {content!r}")
    hints = typing.get_type_hints(kind)
    for name in content.keys() - hints.keys():
        raise ValueError(f"there is no option {name!r}")
    return kind(**{name: _typed(name, hints[name], value) for name, value in content.items()})


def differences(begun: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """The options that differ and must not, each in words."""
    one, other = dict(_flat(begun)), dict(_flat(asked))
    return [
        f"{name} was {_shown(one.get(name))}, not {_shown(other.get(name))}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
        and not any(name == free or name.startswith(f"{free}.") for free in MAY_CHANGE)
    ]


def _resumed(words: list[str]) -> Path | None:
    """What ``--resume`` is followed by; the command line itself is checked later.

    Raises:
        UsageError: it names nothing that can be a directory.
    """
    for word, following in zip(words, [*words[1:], None], strict=True):
        name, equals, value = word.partition("=")
        given = value if equals else following
        if name == "--resume" and given is not None:
            with usage_errors():
                return local_path(given)
    return None


def _config_of_checkpoint(directory: Path) -> TrainConfig | None:
    """The config that the newest whole checkpoint remembers."""
    from experiments.train import checkpoints

    found, _ = checkpoints.newest(directory / checkpoints.DIRECTORY)
    try:
        return from_plain(TrainConfig, found.facts["config"]) if found else None
    except (ValueError, KeyError, TypeError):
        return None


def _typed(name: str, hint: Any, value: Any) -> Any:
    """A value out of JSON as the type of its field."""
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return from_plain(hint, value)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _typed(name, next(kind for kind in args if kind is not types.NoneType), value)
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(name, args[0], entry) for entry in value)
    if origin is typing.Literal and value in args:
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint in (int, bool, str) and type(value) is hint:
        return value
    raise ValueError(f"{name} is {value!r}")


def _flat(content: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Names with dots, and their values."""
    pairs = []
    for name, value in content.items():
        inner = isinstance(value, dict)
        pairs += _flat(value, f"{prefix}{name}.") if inner else [(prefix + name, value)]
    return pairs


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= 100 else f"{words[:100]} ..."
