"""A small graph with gaps, and writers of the forms that are read."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from tests.graphs import python2

NODES, KNOWN, FEATURES, CLASSES = 560, 540, 12, 3  # KNOWN come before those of test.index
GAPS = (543, 550)  # nodes without features, class and edges
TEST = np.setdiff1d(np.arange(KNOWN, NODES), GAPS)


class Made:
    """A graph of three classes, dense.

    Attributes:
        edges: (E, 2), some of them twice, some from a node to itself.
        adjacency: (N, N) of zeros and ones.
        features: (N, F) float64.
        labels: (N,), -1 in the gaps.
    """

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, CLASSES, NODES)
        self.labels[:CLASSES] = range(CLASSES)
        self.labels[list(GAPS)] = -1
        self.features = random.integers(0, 2, (NODES, FEATURES)).astype(float)
        self.features[list(GAPS)] = 0
        ends = np.setdiff1d(np.arange(NODES), GAPS)
        self.edges = random.choice(ends, (900, 2))
        self.edges[-20:] = self.edges[:20, ::-1]
        self.edges[20:25, 1] = self.edges[20:25, 0]
        self.adjacency = np.zeros((NODES, NODES))
        for one, other in self.edges.tolist():
            self.adjacency[one, other] = self.adjacency[other, one] = one != other

    @property
    def rows(self) -> np.ndarray:
        """One-hot labels; zeros in the gaps."""
        return (self.labels[:, None] == np.arange(CLASSES)).astype(np.int32)


@pytest.fixture(scope="session")
def graph() -> Made:
    return Made()


@pytest.fixture
def planetoid(graph, tmp_path) -> Path:
    """A directory with the graph as Planetoid has it, named "small"."""
    order = np.random.default_rng(1).permutation(TEST)
    csr = sparse.csr_matrix(graph.features.astype(np.float32))
    neighbours = {node: [] for node in range(NODES) if node not in GAPS}
    for one, other in graph.edges.tolist():
        neighbours[one].append(other)
    parts = {
        "x": csr[:30],
        "allx": csr[:KNOWN],
        "tx": csr[order],
        "y": graph.rows[:30],
        "ally": graph.rows[:KNOWN],
        "ty": graph.rows[order],
        "graph": neighbours.items(),
    }
    for name, content in parts.items():
        (tmp_path / f"ind.small.{name}").write_bytes(python2.dumps(content))
    (tmp_path / "ind.small.test.index").write_text("".join(f"{node}\n" for node in order))
    return tmp_path
