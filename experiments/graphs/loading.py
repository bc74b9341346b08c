"""From what the user names to a graph with a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.data.dataset import DataError
from experiments.graphs import benchmark, own
from experiments.graphs.graph import UNKNOWN, Graph, Split
from experiments.graphs.planetoid import read_planetoid

TRAIN, VALIDATION, TEST = 20, 500, 1000  # nodes of each class, and of all classes together


def load(path: Path, name: str, seed: int = 0) -> Graph:
    """Reads a graph in whichever form it is, and draws a split if it has none.

    Args:
        path: a directory with Planetoid's files, one with nodes.csv and edges.csv, or an npz file.
        name: of Planetoid's graph in a directory of several, such as "cora".
        seed: of the split that is drawn.

    Raises:
        DataError: there is no graph there, or it is damaged.
    """
    graph = read(path, name)
    return graph if graph.split is not None else graph._replace(split=drawn(graph, seed))


def read(path: Path, name: str) -> Graph:
    """``load`` without drawing a split."""
    if path.is_dir():
        planetoid = any(path.glob(f"ind.{name}.*")) or not (path / own.NODES).exists()
        return read_planetoid(path, name) if planetoid else own.of_tables(path)
    if path.suffix.lower() != ".npz":
        raise DataError(
            f"{path} is neither a directory nor an npz file: name a directory with Planetoid's "
            "ind.*, or with nodes.csv and edges.csv, or an npz file"
        )
    from pdadmm_jax._files import read_npz  # not to import JAX before a command runs

    try:
        arrays = read_npz(path, {*benchmark.NAMES, *own.ARRAYS, *Split._fields})
    except ValueError as error:
        raise DataError(str(error)) from None
    of = own.of_arrays if arrays.keys().isdisjoint(benchmark.MATRICES) else benchmark.of_parts
    return of(path, arrays)


def drawn(graph: Graph, seed: int) -> Split:
    """A split of the usual sizes: 20 nodes of each class, then 500 and 1,000 of the others.

    Args:
        graph: of more nodes with known classes than that.
        seed: of the draw.

    Raises:
        DataError: there are fewer.
    """
    order = np.random.default_rng(seed).permutation(np.flatnonzero(graph.labels != UNKNOWN))
    ordered = graph.labels[order]
    first = np.zeros(len(order), bool)
    for label in range(graph.classes):
        first[np.flatnonzero(ordered == label)[:TRAIN]] = True
    train, rest = order[first], order[~first]
    if len(train) < TRAIN * graph.classes or len(rest) < VALIDATION + TEST:
        least = np.bincount(ordered, minlength=graph.classes).min()
        raise DataError(
            f"{graph.source} has {len(order)} nodes of known classes, {least} of the smallest: to "
            f"draw a split takes {TRAIN} of each and {VALIDATION + TEST} others; for a smaller "
            "graph, give train, validation and test"
        )
    return Split(train, rest[:VALIDATION], rest[VALIDATION : VALIDATION + TEST])
