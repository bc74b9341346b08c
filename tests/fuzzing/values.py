"""Values for settings: of the right type, most of them near or beyond an edge."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from random import Random
from typing import Any, Literal

INTEGERS = (-(2**70), -(2**31), -1, 0, 1, 2, 3, 4, 5, 8, 10, 20, 100, 1000, 2**31 - 1, 2**31, 2**70)
FLOATS = (
    *(-1.0, 0.0, -0.0, 1e-4, 0.1, 0.2, 0.5, 0.9, 0.999999, 1.0, 2.0, 10.0),
    *(1e-60, 5e-324, 1e38, 1e39, 1.7e308, float("inf"), float("-inf"), float("nan")),
)
TEXTS = (
    *("", " ", "-", "--", "x", "None", "True", "null", "localhost:8476", "a:b", ":1", "v5e:2x4"),
    *("\n", "a\nb", "\x1b[31m", "\u2028", "\ufeff", "ä", "日", "'\"`$(x)", "%s", "{0}", "\ud800"),
    *("9" * 5000, "x" * 300, "../" * 50, "1e5", "0x10", "1_000", "NaN", "-1", "\x00"),
)


def value_of(random: Random, hint: Any, paths: list[Path]) -> Any:
    """A value of a type, as the command line would make it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return value_of(random, random.choice(arguments), paths)
    if origin is Literal:
        return random.choice(arguments)
    if origin is tuple and arguments[1:] == (...,):
        return tuple(
            value_of(random, arguments[0], paths) for _ in range(random.choice((0, 1, 1, 2, 3)))
        )
    if origin is tuple:
        return tuple(value_of(random, one, paths) for one in arguments)
    if dataclasses.is_dataclass(hint):
        return config_of(random, typing.cast(type, hint), paths)
    simple = {
        int: lambda: random.choice(INTEGERS) if random.random() < 0.5 else random.randrange(1, 40),
        float: lambda: random.choice(FLOATS) if random.random() < 0.5 else random.uniform(0, 1),
        bool: lambda: random.random() < 0.5,
        str: lambda: random.choice(TEXTS),
        Path: lambda: random.choice(paths),
        type(None): lambda: None,
    }
    return simple[hint]()


def config_of(random: Random, config: Any, paths: list[Path]) -> Any:
    """A configuration with some of its settings changed."""
    hints = typing.get_type_hints(config)
    names = [field.name for field in dataclasses.fields(config)]
    few = random.choice((1, 1, 2, 2, 3, len(names)))
    chosen = random.sample(names, min(few, len(names)))
    return config(**{name: value_of(random, hints[name], paths) for name in chosen})


def options_of(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every option of a configuration, as the command line calls it, and its type."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(config).items():
        option = f"{prefix}{name.replace('_', '-')}"
        if dataclasses.is_dataclass(hint):
            found |= options_of(hint, f"{option}.")
        elif hint is bool:
            *above, last = option.rsplit(".", 1)
            found |= {option: hint, ".".join((*above, f"no-{last}")): hint}
        else:
            found[option] = hint
    return found


def paths_in(folder: Path) -> list[Path]:
    """Places that exist, that do not, and that cannot."""
    (folder / "file").write_text("text")
    (folder / "directory").mkdir(exist_ok=True)
    return [
        *(folder, folder / "file", folder / "directory", folder / "none", folder / "file" / "in"),
        *(Path(""), Path("/proc/none"), Path("x" * 300), Path("a\0b"), Path("\ud800"), Path("~")),
    ]
