"""Bounds that options are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

MOST = 2**31 - 1  # of anything counted
MOST_OF = {  # of what is made one by one before anything else is looked at
    "layers": 10_000,
    "seeds": 1_000_000,
    "tuning_seeds": 1_000_000,
    "processes": 1_000,
    "stages": 1_000,
}
MOST_DEVICES = 4_096  # virtual ones, each with threads of its own
MOST_SEED = 2**32 - 1  # higher ones would begin again at 0


def check_counts(config: object, least: dict[str, int]) -> None:
    """Refuses whole numbers below 1, or below what their names need, and those that never end."""
    for name, value in vars(config).items():
        if type(value) is int:
            most = MOST_OF.get(name, MOST)
            check_count(name.replace("_", "-"), value, least.get(name, 1), most)


def check_count(option: str, value: int, least: int = 1, most: int = MOST) -> None:
    """Refuses a whole number that is too small or too large."""
    if value < least:
        raise ValueError(f"{option} is {value}: give {least} or more.")
    if value > most:
        raise ValueError(f"{option} is {value}: give {most:,} or less.")


def check_microbatches(microbatches: int | None, batch: int | None) -> None:
    """Refuses more blocks than a batch has samples."""
    if microbatches is not None and batch is not None and microbatches > batch:
        raise ValueError(
            f"microbatches is {microbatches}, but a batch has {batch} samples: give {batch:,} or "
            "less."
        )


def check_chosen(option: str, values: Sequence[object]) -> None:
    """Refuses a choice of nothing, or of one thing twice."""
    if not values:
        raise ValueError(f"{option} is empty: give at least one.")
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{option} has {value} twice: give each once.")


def check_seed(seed: int) -> None:
    """Refuses a seed that first weights cannot be made from."""
    check_count("seed", seed, 0, MOST_SEED)


def changed_options(config: Any) -> list[str]:
    """The options that are not what they are by default."""
    return [f.name for f in fields(config) if getattr(config, f.name) != f.default]
