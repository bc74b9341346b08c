"""The augmentation against a dense transcription of its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from experiments.data import DataError
from experiments.graphs.augmentation import augmented, normalised, row_normalised
from experiments.graphs.graph import made
from tests.graphs.conftest import NODES


def dense(adjacency, features, hops, normalise):
    """X = [H, A H, A^2 H, ...], rows being nodes."""
    loops = adjacency + np.eye(len(adjacency))
    root = np.diag(np.diag(np.diag(loops.sum(1))) ** -0.5)
    A = root @ loops @ root
    sums = features.sum(1, keepdims=True)
    H = features / np.where(sums == 0, 1, sums) if normalise else features
    return np.hstack([np.linalg.matrix_power(A, k) @ H for k in range(hops + 1)])


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("hops", [0, 1, 3])
def test_features_travel_along_edges(graph, hops, normalise):
    found = made("here", graph.edges, graph.features, graph.labels, None)
    expected = dense(graph.adjacency, graph.features, hops, normalise)
    for nodes in (np.arange(NODES), np.array([7, 3]), np.array([], int)):
        inputs = augmented(found, nodes, hops, normalise=normalise)
        assert inputs.dtype == np.float32
        np.testing.assert_allclose(inputs, expected[nodes], rtol=1e-5, atol=1e-7)


def test_the_normalised_adjacency_keeps_the_root_of_degrees(graph):
    found = made("here", graph.edges, graph.features, graph.labels, None)
    A, root = normalised(found.adjacency), np.sqrt(graph.adjacency.sum(1) + 1)
    np.testing.assert_allclose(A @ root, root, rtol=1e-5)
    assert abs(A - A.T).max() < 1e-6


def test_a_node_without_edges_keeps_its_features():
    found = made("here", np.array([[0, 1]]), np.eye(3), np.array([0, 1, 0]), None)
    inputs = augmented(found, np.array([2]), 4, normalise=False).reshape(5, 3)
    np.testing.assert_array_equal(inputs, np.tile([0, 0, 1], (5, 1)))


def test_rows_of_zeros_stay():
    rows = row_normalised(sparse.csr_array(np.array([[2.0, 6], [0, 0], [-1, 1]])))
    np.testing.assert_array_equal(rows.toarray(), [[0.25, 0.75], [0, 0], [-0.5, 0.5]])


def test_hops_are_counted():
    found = made("here", np.array([[0, 1]]), np.eye(2), np.array([0, 1]), None)
    with pytest.raises(DataError, match="hops is -1: give 0 or more"):
        augmented(found, np.array([0]), -1, normalise=False)
    with pytest.raises(DataError, match=r"hops is 10+, with which the inputs of 1 nodes take"):
        augmented(found, np.array([0]), 10**15, normalise=False)
