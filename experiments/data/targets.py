"""From targets as a user gives them to class numbers, or to rows of numbers."""

from collections.abc import Mapping

import numpy as np

from experiments.data.dataset import DataError

Found = Mapping[str, np.ndarray]  # what to call an array -> the array
LEARN_NUMBERS = "to learn numbers, give --data.task regression"


def is_regression(y: np.ndarray, task: str | None) -> bool:
    """Whether targets are numbers to be met: floats are, unless the user says otherwise."""
    return task == "regression" or (task is None and y.dtype.kind == "f")


def numbers(what: str, y: np.ndarray) -> np.ndarray:
    """Returns targets as (N, targets) float64.

    Args:
      what: Where they are, for the message.
      y: (N,) or (N, targets).

    Raises:
      DataError: They are no numbers, or not finite.
    """
    _check_shape(what, y)
    if y.dtype.kind not in "biuf":
        raise DataError(f"{what} is {y.dtype}: give numbers, or --data.task classification")
    with np.errstate(over="ignore"):  # of more than double precision; named below
        rows = y.astype(np.float64)
    check_finite(what, rows)
    return rows[:, np.newaxis] if rows.ndim == 1 else rows


def classes(found: Found) -> tuple[list[np.ndarray], np.ndarray]:
    """Numbers the classes from 0, in ascending order of what they are called.

    Args:
      found: Labels of the training samples, then those of others: whole numbers, booleans, texts.

    Returns:
      Class numbers of each, (N,) int32; and what the classes are called, (C,).

    Raises:
      DataError: They are no labels, or others have a class that the training samples have not.
    """
    given = {what: _labels(what, y) for what, y in found.items()}
    (what, train), *others = given.items()
    known = np.unique(train)
    if len(known) < 2:
        raise DataError(f"{what} is {known[0]} throughout, but 2 classes are needed")
    for other, y in others:
        if known.dtype.kind == "U":  # a table's labels may all look like numbers here, not there
            y = given[other] = y.astype(str)
        elif y.dtype.kind == "U":
            raise DataError(f"{other} holds texts, but the training labels are {known.dtype}")
        if (unknown := np.setdiff1d(y, known)).size:
            raise DataError(
                f"{other} has {unknown[0]}, which the training labels have not"
                + ("" if known.dtype.kind == "U" else f"; {LEARN_NUMBERS}")
            )
    return [np.searchsorted(known, y).astype(np.int32) for y in given.values()], known


def _labels(what: str, y: np.ndarray) -> np.ndarray:
    """Checks labels and returns them as (N,) int64, bool or text."""
    _check_shape(what, y)
    if y.ndim == 2 and y.shape[1] > 1:
        raise DataError(
            f"{what} has the shape {y.shape}: give class numbers, such as those that"
            f" argmax(axis=1) makes of one-hot rows; {LEARN_NUMBERS}"
        )
    y = y.reshape(-1)
    if y.dtype.kind == "S":
        try:
            return np.char.decode(y, "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{what} has bytes that are no text in UTF-8") from None
    if y.dtype.kind in "bU":
        return y
    if y.dtype.kind not in "iuf":
        raise DataError(f"{what} is {y.dtype}: give whole numbers or texts")
    with np.errstate(invalid="ignore"):
        whole = y.astype(np.int64)
    if (odd := y[(whole != y) | ((y < 0) != (whole < 0))]).size:
        raise DataError(f"{what} has {odd[0]}, which is no class; {LEARN_NUMBERS}")
    return whole


def _check_shape(what: str, y: np.ndarray) -> None:
    if y.ndim not in (1, 2) or not y.size:
        raise DataError(f"{what} has the shape {y.shape}: give (N,), and N above 0")


def check_finite(what: str, rows: np.ndarray) -> None:
    """Raises `DataError` for the first value that is not finite, naming its place."""
    for place in np.argwhere(~np.isfinite(rows))[:1]:
        names = ("row", "column") if rows.ndim == 2 else ("row",)
        parts = (f"{name} {k}" for name, k in zip(names, place, strict=False))
        index = ", ".join(map(str, place))
        raise DataError(
            f"{what}[{index}] is {rows[tuple(place)]} ({', '.join(parts)}, counted from 0): remove"
            " the sample, or fill in a number"
        )
