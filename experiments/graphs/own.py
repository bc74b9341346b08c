"""A graph of the user's: an npz file, or a directory with nodes.csv and edges.csv.

    edges       (E, 2), numbers of nodes from 0; directions and repetitions do not count
    features    (N, F)
    labels      (N,), numbers of classes from 0, or -1 for a node whose class is unknown
    train, validation, test   numbers of nodes, or a boolean for each node; all three or none

nodes.csv has a line for every node: the class, an empty cell if that is unknown, in the column
label; train, validation, test or nothing in the column split, if there is one; features in all
others.  edges.csv has two numbers of nodes on every line, counted from 0 in the order of nodes.csv.
Both begin with the names of their columns.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data.dataset import DataError
from experiments.graphs.graph import UNKNOWN, Graph, Split, made

ARRAYS = ("edges", "features", "labels")
NODES, EDGES = "nodes.csv", "edges.csv"


def of_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> Graph:
    """The graph of a file's arrays.

    Raises:
        DataError: an array is missing, or they do not fit each other.
    """
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise DataError(f"{path} lacks {', '.join(missing)}: give {', '.join(ARRAYS)}")
    edges, features, labels = (arrays[name] for name in ARRAYS)
    return made(str(path), edges, features, labels, _split(path, arrays))


def _split(path: Path, arrays: Mapping[str, np.ndarray]) -> Split | None:
    """The parts that are given, masks as numbers of nodes."""
    given = [name for name in Split._fields if name in arrays]
    if not given:
        return None
    if len(given) < len(Split._fields):
        raise DataError(
            f"{path} has {', '.join(given)} alone: give {', '.join(Split._fields)}, or none of them"
        )
    parts = [arrays[name] for name in given]
    for name, part in zip(given, parts, strict=True):
        if part.dtype == bool and part.shape != arrays["labels"].shape:
            raise DataError(
                f"{path}: {name} has the shape {part.shape}, but labels {arrays['labels'].shape}: "
                "give one boolean for each node, or numbers of nodes"
            )
    return Split(*(np.flatnonzero(part) if part.dtype == bool else part for part in parts))


def of_tables(directory: Path) -> Graph:
    """The graph of a directory's tables.

    Raises:
        DataError: a table is missing, damaged, or does not fit the other.
    """
    nodes, edges = Table.read(directory / NODES), Table.read(directory / EDGES)
    if "label" not in nodes.names:
        raise DataError(f"{nodes.path} has no column label: it has {', '.join(nodes.names)}")
    numeric = [name for name in nodes.names if name not in ("label", "split")]
    arrays = {
        "edges": _whole(edges, edges.names).T,
        "features": np.array(nodes.columns(numeric, float), np.float64).T,
        "labels": _whole(nodes, ["label"])[0],
    }
    if "split" in nodes.names:
        (parts,) = nodes.columns(["split"], _part)
        arrays |= {name: np.flatnonzero(np.array(parts) == name) for name in Split._fields}
    return of_arrays(directory, arrays)


def _whole(table: Table, names: Sequence[str]) -> np.ndarray:
    """Columns of whole numbers, (columns, lines); ``UNKNOWN`` where a cell is empty."""
    try:
        return np.array(table.columns(names, lambda cell: int(cell or UNKNOWN)), np.int64)
    except OverflowError:
        raise DataError(f"{table.path} has numbers beyond 64 bits in {', '.join(names)}") from None


def _part(cell: str) -> str:
    if cell not in ("", *Split._fields):
        raise ValueError
    return cell


class Table(NamedTuple):
    """A csv file as texts: the names of its columns, and its lines with their numbers."""

    path: Path
    names: list[str]
    lines: list[tuple[int, list[str]]]

    @classmethod
    def read(cls, path: Path) -> Table:
        """Reads a file.

        Raises:
            DataError: it is no table with one name for each column.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.reader(stream)
                rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: no table in UTF-8 ({error})") from None
        if len(rows) < 2:
            raise DataError(f"{path} has no line below the names of its columns")
        (_, names), *lines = rows
        if len(set(names)) < len(names):
            raise DataError(f"{path} has two columns of one name: {', '.join(names)}")
        for number, row in lines:
            if len(row) != len(names):
                raise DataError(
                    f"{path}, line {number} has {len(row)} columns, but line 1 {len(names)}"
                )
        return cls(path, names, lines)

    def columns(self, names: Sequence[str], parse: Callable[[str], Any]) -> list[list[Any]]:
        """Columns of numbers, or whatever else cells are parsed to.

        Raises:
            DataError: ``parse`` refuses a cell with a ValueError; named are line and column.
        """
        found: list[list[Any]] = []
        for name in names:
            column, place = [], self.names.index(name)
            for number, row in self.lines:
                try:
                    column.append(parse(row[place]))
                except ValueError:
                    raise DataError(
                        f"{self.path}, line {number}, column {name}: {row[place]!r} cannot be one"
                    ) from None
            found.append(column)
        return found
