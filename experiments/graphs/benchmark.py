"""The npz form of the gnn-benchmark sets (Amazon Computers and Photo, Coauthor CS and Physics).

adj_data, adj_indices, adj_indptr and adj_shape are a CSR adjacency, attr_... CSR features, labels
the classes.  Weights and directions of edges do not count, and no node is left out: some who use
these sets keep the largest connected part alone.  Other arrays are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.data.dataset import DataError
from experiments.graphs.graph import Graph, made
from experiments.graphs.pickles import Csr, checked_csr

PARTS = ("data", "indices", "indptr", "shape")
MATRICES = tuple(f"{kind}_{part}" for kind in ("adj", "attr") for part in PARTS)
NAMES = (*MATRICES, "labels")


def of_parts(path: Path, arrays: Mapping[str, np.ndarray]) -> Graph:
    """The graph of a file's arrays, which has no split.

    Raises:
        DataError: an array is missing, or they do not fit each other.
    """
    if missing := [name for name in NAMES if name not in arrays]:
        raise DataError(f"{path} lacks {', '.join(missing)}: give {', '.join(NAMES)}")
    adjacency, features = (_matrix(path, arrays, kind) for kind in ("adj", "attr"))
    if adjacency.shape != (features.shape[0],) * 2:
        raise DataError(
            f"{path}: adj_shape is {adjacency.shape}, but there are {features.shape[0]} nodes with "
            "features"
        )
    edges = np.stack(adjacency.nonzero(), axis=1)
    return made(str(path), edges, features, arrays["labels"], None)


def _matrix(path: Path, arrays: Mapping[str, np.ndarray], kind: str) -> Csr:
    data, indices, indptr, shape = (arrays[f"{kind}_{part}"] for part in PARTS)
    try:
        return checked_csr(data, indices, indptr, shape)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {kind}_data and so on make no CSR matrix: {error}") from None
