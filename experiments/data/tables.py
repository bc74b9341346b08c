"""Tables of comma-separated values: one column of targets, numbers in all others.

The first line may name the columns. The targets are in the column named y, label or target, else in
the last one. Semicolons or tabs may stand for the commas.
"""

import csv
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.dataset import DataError

TARGETS = ("y", "label", "target")
TRUTHS = {"true": 1.0, "false": 0.0}


class Line(NamedTuple):
    """A line of a table."""

    number: int  # in the file, from 1
    cells: list[str]


class Layout(NamedTuple):
    """What the columns of a table are."""

    names: tuple[str, ...] | None  # of all columns; None without a header
    width: int  # how many there are
    target: int  # the column of the targets, from 0

    def column(self, index: int) -> str:
        """Returns how to call a column, as the header names it and by its number."""
        name = f" ({self.names[index]})" if self.names else ""
        return f"column {index + 1}{name}"

    @property
    def features(self) -> tuple[str, ...] | None:
        """The names of the features."""
        return self.names and (*self.names[: self.target], *self.names[self.target + 1 :])


class Table(NamedTuple):
    """What a table holds."""

    x: np.ndarray  # (N, features) float64
    y: np.ndarray  # (N,) int64, float64 or text; (0,) without targets
    layout: Layout


def read_csv(
    path: Path, task: str | None = None, like: Layout | None = None, features: int | None = None
) -> Table:
    """Reads a table.

    Args:
      path: The file.
      task: "classification" takes any texts as targets; "regression" none but numbers.
      like: The layout that the table has to have; None for any.
      features: How many features there have to be; then targets may be missing.

    Raises:
      DataError: A cell is no finite number, or lines or columns do not fit each other; named are
        file, line and column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=max(",;\t", key=first.count))
            lines = (Line(reader.line_num, row) for row in reader if row)
            if features is not None:
                return _for_network(path, lines, features)
            return _table(path, lines, task, like)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error.reason}, byte {error.start})") from None
    except csv.Error as error:
        raise DataError(f"{path}: no table ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _for_network(path: Path, lines: Iterator[Line], features: int) -> Table:
    """Reads samples for a trained network, with targets or without."""
    first = next(lines, None)
    if first is None:
        raise DataError(f"{path} has no samples")
    width, lines = len(first.cells), chain([first], lines)
    if width == features + 1:
        return _table(path, lines, None, None)
    if width != features:
        raise DataError(
            f"{path} has {width} columns, but the network takes {features} features, beside which"
            " there may be a target"
        )
    header = not any(map(_is_number, first.cells))
    # As if a target followed, 0 everywhere.
    filled = (
        Line(line.number, [*line.cells, TARGETS[0] if header and line is first else "0"])
        for line in lines
    )
    table = _table(path, filled, None, None)
    return table._replace(y=np.empty(0))


def _table(path: Path, lines: Iterator[Line], task: str | None, like: Layout | None) -> Table:
    begin = list(islice(lines, 2))
    if not begin:
        raise DataError(f"{path} has no samples")
    layout = _layout(path, begin, like)
    body = chain(begin[1:] if layout.names else begin, lines)
    values, targets, numbers = array("d"), [], array("q")
    for line in body:
        if len(line.cells) != layout.width:
            raise DataError(
                f"{path}, line {line.number} has {len(line.cells)} columns, but line "
                f"{begin[0].number} has {layout.width}"
            )
        numbers.append(line.number)
        targets.append(line.cells[layout.target].strip())
        values.fromlist(_features(path, line, layout))
    if not targets:
        raise DataError(f"{path} has no samples, only names of columns")
    x = np.frombuffer(values).reshape(len(targets), layout.width - 1)
    for row, column in np.argwhere(~np.isfinite(x))[:1]:
        where = layout.column(column + (column >= layout.target))
        raise _not_finite(f"{path}, line {numbers[row]}, {where}", float(x[row, column]))
    return Table(x, _targets(path, targets, numbers, layout, task), layout)


def _layout(path: Path, begin: Sequence[Line], like: Layout | None) -> Layout:
    """Finds out whether there is a header, and which column has the targets."""
    first = [cell.strip() for cell in begin[0].cells]
    if len(first) < 2:
        raise DataError(f"{path} has one column: give features and a target")
    named = [column for column, name in enumerate(first) if name.lower() in TARGETS]
    if len(named) > 1:
        raise DataError(
            f"{path} has two columns of targets, {first[named[0]]} and {first[named[1]]}: rename"
            " one"
        )
    target = named[0] if named else like.target if like else len(first) - 1
    header = named or not any(map(_is_number, first)) or _is_title(begin, target)
    names = tuple(first) if header else None
    if names and not names[0]:
        raise DataError(
            f"{path}: column 1 has no name, as if it numbered the rows: remove or name it"
        )
    found = Layout(names, len(first), target)
    if like is not None:
        _check_alike(path, found, like)
    return found


def _is_title(begin: Sequence[Line], target: int) -> bool:
    """Whether the targets alone show that the first line is a header: text above a number."""
    cells = [line.cells[target] for line in begin if target < len(line.cells)]
    return len(cells) == 2 and not _is_number(cells[0]) and _is_number(cells[1])


def _check_alike(path: Path, found: Layout, like: Layout) -> None:
    if found.width != like.width:
        raise DataError(f"{path} has {found.width} columns, but the training samples {like.width}")
    if found.names and like.names and found.names != like.names:
        column = next(k for k in range(found.width) if found.names[k] != like.names[k])
        raise DataError(
            f"{path}: column {column + 1} is {found.names[column]}, but of the training samples "
            f"{like.names[column]}"
        )
    if found.target != like.target:
        raise DataError(f"{path}: the targets are not in {like.column(like.target)}")


def _features(path: Path, line: Line, layout: Layout) -> list[float]:
    cells, target = line.cells, layout.target
    try:
        return list(map(float, chain(cells[:target], cells[target + 1 :])))
    except ValueError:  # a truth, or a mistake to be named
        columns = [column for column in range(layout.width) if column != target]
        return [_number(path, line, column, layout) for column in columns]


def _number(path: Path, line: Line, column: int, layout: Layout) -> float:
    cell = line.cells[column].strip()
    if cell.lower() in TRUTHS:
        return TRUTHS[cell.lower()]
    if not _is_number(cell):
        raise DataError(
            f"{path}, line {line.number}, {layout.column(column)}: {_shown(cell)} is no number"
        )
    return float(cell)


def _targets(
    path: Path, cells: list[str], lines: Sequence[int], layout: Layout, task: str | None
) -> np.ndarray:
    """Takes targets for whole numbers if all of them are, else for numbers, else for texts."""

    def where(row: int) -> str:
        return f"{path}, line {lines[row]}, {layout.column(layout.target)}"

    if "" in cells:
        raise DataError(f"{where(cells.index(''))}: the target is missing")
    numeric = list(map(_is_number, cells))
    if not all(numeric):
        if task == "regression" or (any(numeric) and task is None):
            row = numeric.index(False)
            raise DataError(
                f"{where(row)}: {_shown(cells[row])} is no number, as targets of other lines are:"
                " mend it, or, if all are classes, give --data.task classification"
            )
        return np.array(cells)
    try:
        return np.array(list(map(int, cells)), np.int64)
    except (ValueError, OverflowError):
        y = np.array(list(map(float, cells)))
    for (row,) in np.argwhere(~np.isfinite(y))[:1]:
        raise _not_finite(where(row), float(y[row]))
    return y


def _not_finite(where: str, value: float) -> DataError:
    return DataError(f"{where} is {value}: remove the line, or fill in a number")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _shown(cell: str) -> str:
    return repr(cell) if len(cell) <= 40 else f"{cell[:40]!r}..."
