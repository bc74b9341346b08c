"""A graph as all readers hand it on, and the checks that hold for each of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from experiments.data.dataset import DataError
from experiments.graphs.pickles import Csr

UNKNOWN = -1  # the label of a node of which nobody has said the class


class Split(NamedTuple):
    """Nodes to learn from, to choose settings by, and for the last look; indices from 0.

    Attributes:
        train: (n,) int64.
        validation: (m,) int64.
        test: (t,) int64.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class Graph(NamedTuple):
    """Nodes with features and labels, and edges without directions.

    Attributes:
        source: where it is from, in one line.
        adjacency: (N, N) CSR float32, symmetric: 1 for every edge, 0 on the diagonal.
        features: (N, F) CSR float32.
        labels: (N,) int32, class numbers; ``UNKNOWN`` for some, perhaps.
        split: as published or given; None if there is none.
    """

    source: str
    adjacency: Csr
    features: Csr
    labels: np.ndarray
    split: Split | None

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.labels.max()) + 1


def made(source: str, edges: Any, features: Any, labels: Any, split: Split | None) -> Graph:
    """A graph of its parts.

    Args:
        source: where it is from; errors begin with it.
        edges: (E, 2) whole numbers, nodes counted from 0.  Directions, repetitions and edges from
            a node to itself do not count.
        features: (N, F), sparse or dense.
        labels: (N,) whole numbers from 0 up, or ``UNKNOWN``.
        split: nodes by what they are for, if that is given.

    Raises:
        DataError: parts that do not fit each other, naming the values.
    """
    features = _features(source, features)
    nodes = features.shape[0]
    labels = _labels(source, labels, nodes)
    if split is not None:
        check_split(source, split, labels)
    return Graph(source, adjacency(source, edges, nodes), features, labels, split)


def adjacency(source: str, edges: Any, nodes: int) -> Csr:
    """The adjacency of edges, (nodes, nodes).

    Raises:
        DataError: edges that are no pairs of nodes.
    """
    edges = np.asarray(edges)
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise DataError(
            f"{source}: edges have the shape {edges.shape} and are {edges.dtype}: give (E, 2) "
            "whole numbers"
        )
    check_nodes(f"{source}: edges", edges, nodes)
    one, other = edges[edges[:, 0] != edges[:, 1]].T
    rows, columns = np.concatenate([one, other]), np.concatenate([other, one])
    ones = np.ones(len(rows), np.float32)
    found = sparse.coo_array((ones, (rows, columns)), shape=(nodes, nodes)).tocsr()
    found.data[:] = 1  # repeated ones were added up
    return found


def check_nodes(what: str, numbers: np.ndarray, nodes: int) -> None:
    """Raises `DataError` for the first number that is no node's."""
    for place in np.argwhere((numbers < 0) | (numbers >= nodes))[:1]:
        raise DataError(
            f"{what}[{', '.join(map(str, place))}] is {numbers[tuple(place)]}, but nodes are "
            f"numbered from 0 to {nodes - 1}"
        )


def check_split(source: str, split: Split, labels: np.ndarray) -> None:
    """Refuses nodes that are in two parts of a split, or twice in one, or have no label.

    Raises:
        DataError: naming the first of them.
    """
    part_of: dict[int, str] = {}
    for name, part in split._asdict().items():
        if part.ndim != 1 or part.dtype.kind not in "iu" or not part.size:
            raise DataError(
                f"{source}: {name} has the shape {part.shape} and is {part.dtype}: give the "
                "numbers of its nodes, one at least"
            )
        check_nodes(f"{source}: {name}", part, len(labels))
        for node in part.tolist():
            if node in part_of:
                raise DataError(f"{source}: node {node} is in {part_of[node]} and in {name}")
            part_of[node] = name
        if (bare := part[labels[part] == UNKNOWN]).size:
            raise DataError(f"{source}: {name} has node {bare[0]}, whose label is unknown")


def _features(source: str, features: Any) -> Csr:
    if features.ndim != 2 or 0 in features.shape or features.dtype.kind not in "biuf":
        raise DataError(
            f"{source}: features have the shape {features.shape} and are {features.dtype}: give "
            "(nodes, features) real numbers"
        )
    with np.errstate(over="ignore"):  # named below
        found = sparse.csr_array(features, dtype=np.float32)
    if (wrong := ~np.isfinite(found.data)).any():
        entry = int(wrong.argmax())
        node = int(np.searchsorted(found.indptr, entry, "right")) - 1
        raise DataError(
            f"{source}: features[{node}, {found.indices[entry]}] is {found.data[entry]}: fill in a "
            "number, or remove the node"
        )
    return found


def _labels(source: str, labels: Any, nodes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (nodes,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{source}: labels have the shape {labels.shape} and are {labels.dtype}: give a whole "
            f"number for each of {nodes} nodes"
        )
    known = np.unique(labels[labels != UNKNOWN])
    if len(known) < 2 or known[0] < 0 or known[-1] != len(known) - 1:
        raise DataError(
            f"{source}: labels are {', '.join(map(str, known[:9]))}: give 0, 1 and so on to "
            f"classes, of which there are 2 at least, and {UNKNOWN} where a class is unknown"
        )
    return labels.astype(np.int32)
