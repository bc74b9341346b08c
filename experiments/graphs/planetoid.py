"""Planetoid's files: ind.NAME.x, tx, allx, y, ty, ally, graph and test.index in one directory.

Rows of allx and ally are the nodes from 0 up; those of tx and ty belong to the nodes that
test.index names, in its order.  Of Citeseer some numbers between the first and the last of them are
missing: nodes that have no edges, no features and no class.  As is usual they stay, so that all
others keep their numbers: with features of 0, and in no part of the split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from experiments.data.dataset import DataError
from experiments.graphs.graph import UNKNOWN, Graph, Split, made
from experiments.graphs.pickles import Csr, read_pickle

VALIDATION = 500  # nodes of the public split, those after the training nodes


def read_planetoid(directory: Path, name: str) -> Graph:
    """Reads a graph with its public split.

    Trained on are the nodes of y, the first ones; the next 500 are for validation; those of
    test.index for the test.

    Args:
        directory: of the files.
        name: in the files' names, such as "cora".

    Raises:
        DataError: a file is missing, damaged, holds something else, or does not fit the others.
    """

    def file(part: str) -> Path:
        return directory / f"ind.{name}.{part}"

    allx, tx = (_rows(file(part)) for part in ("allx", "tx"))
    y, ally, ty = (_classes(file(part)) for part in ("y", "ally", "ty"))
    test = _numbers(file("test.index"))
    known = allx.shape[0]
    if len(ally) != known or len(y) + VALIDATION > known or not np.array_equal(y, ally[: len(y)]):
        raise DataError(
            f"{file('ally')} has {len(ally)} rows, {file('allx')} {known}: there have to be as "
            f"many, {len(y) + VALIDATION} at least, which begin with the {len(y)} of y"
        )
    if not len(test) == len(ty) == tx.shape[0] or tx.shape[1] != allx.shape[1]:
        raise DataError(
            f"{file('test.index')} has {len(test)} nodes, {file('ty')} {len(ty)} rows and "
            f"{file('tx')} {tx.shape[0]}, of {tx.shape[1]} features where allx has {allx.shape[1]}"
        )
    nodes = int(test.max()) + 1
    if test.min() < known or len(np.unique(test)) != len(test) or nodes >= known + 2 * len(test):
        raise DataError(
            f"{file('test.index')} has to number each of its nodes once, from {known} up, and with "
            "fewer gaps than nodes"
        )
    labels = np.full(nodes, UNKNOWN)
    labels[:known], labels[test] = ally, ty
    # Row i of tx goes to row test[i].
    places = sparse.csr_array(
        (np.ones(len(test), tx.dtype), (test - known, np.arange(len(test)))),
        shape=(nodes - known, len(test)),
    )
    split = Split(np.arange(len(y)), np.arange(len(y), len(y) + VALIDATION), test)
    features = sparse.vstack([allx, places @ tx], format="csr")
    return made(f"{directory / f'ind.{name}.*'}", _edges(file("graph")), features, labels, split)


def _rows(path: Path) -> Csr:
    found = read_pickle(path)
    if not isinstance(found, sparse.csr_array):
        raise DataError(f"{path} holds a {type(found).__name__}, but has to be a CSR matrix")
    return found


def _classes(path: Path) -> np.ndarray:
    """Class numbers of one-hot rows; ``UNKNOWN`` of rows of zeros."""
    found: Any = read_pickle(path)
    if not isinstance(found, np.ndarray) or found.ndim != 2 or 0 in found.shape:
        raise DataError(f"{path} has to be an array of one-hot rows")
    if not np.isin(found, (0, 1)).all() or (found.sum(1) > 1).any():
        raise DataError(f"{path} has rows that are not one-hot")
    return np.where(found.any(1), found.argmax(1), UNKNOWN)


def _edges(path: Path) -> np.ndarray:
    """(E, 2) nodes, of a dictionary of every node's neighbours."""
    found = read_pickle(path)
    if not isinstance(found, dict) or not all(isinstance(ends, list) for ends in found.values()):
        raise DataError(f"{path} has to be a dictionary of lists of neighbours")
    pairs = [(node, end) for node, ends in found.items() for end in ends]
    odd = next((one for pair in pairs for one in pair if type(one) is not int), None)
    if odd is not None:
        raise DataError(f"{path} has the node {odd!r}, which is no whole number")
    try:
        return np.array(pairs, np.int64).reshape(-1, 2)
    except OverflowError:
        raise DataError(f"{path} has numbers of nodes beyond 64 bits") from None


def _numbers(path: Path) -> np.ndarray:
    """The whole numbers of a text, one on each line."""
    try:
        found = np.array([int(line) for line in path.read_text("ascii").split()], np.int64)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: no whole number on each line ({error})") from None
    if not len(found):
        raise DataError(f"{path} is empty")
    return found
