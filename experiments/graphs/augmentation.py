"""Features of nodes with those of their neighbours: X = [H, H A, H A^2, ...], rows being nodes."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from experiments.data.dataset import DataError
from experiments.graphs.graph import Graph
from experiments.graphs.pickles import Csr
from experiments.runtime.memory import limits

BLOCK = 256  # features that travel at a time


def normalised(adjacency: Csr) -> Csr:
    """A = (D + I)^-1/2 (Adj + I) (D + I)^-1/2, D being the diagonal matrix of degrees.

    Args:
        adjacency: (N, N), symmetric, 0 on the diagonal.
    """
    with_loops = adjacency + sparse.eye_array(adjacency.shape[0], dtype=adjacency.dtype)
    scale = sparse.diags_array(1 / np.sqrt(with_loops.sum(1)))
    return sparse.csr_array(scale @ with_loops @ scale, dtype=adjacency.dtype)


def row_normalised(features: Csr) -> Csr:
    """Rows divided by the sum of their absolute values; rows of zeros stay."""
    sums = abs(features).sum(1)
    scale = sparse.diags_array(1 / np.where(sums > 0, sums, 1))
    return sparse.csr_array(scale @ features, dtype=features.dtype)


def augmented(graph: Graph, nodes: np.ndarray, hops: int, *, normalise: bool) -> np.ndarray:
    """The inputs of some nodes, (n, (hops + 1) F) float32.

    After some hops all nodes have most of the features there are.  So features travel a block at a
    time, as dense columns, and are kept for the nodes that are asked for.

    Args:
        graph: N nodes of F features.
        nodes: (n,), their numbers.
        hops: how far features travel, 0 or more.
        normalise: whether each node's own features are divided by their sum first.

    Raises:
        DataError: hops below 0, or more than memory has room for.
    """
    if hops < 0:
        raise DataError(f"hops is {hops}: give 0 or more")
    needed = 4 * len(nodes) * (hops + 1) * graph.features.shape[1]
    if needed > (least := min(limits())).bytes:
        raise DataError(
            f"hops is {hops}, with which the inputs of {len(nodes)} nodes take {needed / 1e9:,.0f} "
            f"GB, but there are {least.bytes / 1e9:,.0f} GB {least.source}: give fewer"
        )
    adjacency = normalised(graph.adjacency)
    features = row_normalised(graph.features) if normalise else graph.features
    columns = features.tocsc()
    found = np.empty((len(nodes), hops + 1, features.shape[1]), np.float32)
    for start in range(0, features.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        travelling = columns[:, block].toarray(order="C")
        for hop in range(hops + 1):
            found[:, hop, block] = travelling[nodes]
            if hop < hops:
                travelling = adjacency @ travelling
    return found.reshape(len(nodes), (hops + 1) * features.shape[1])
