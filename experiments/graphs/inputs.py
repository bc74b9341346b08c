"""The inputs of the nodes of a split, as networks take them."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import pdadmm_jax as pdadmm
from experiments.graphs.augmentation import augmented
from experiments.graphs.graph import Graph, Split

SMALLEST = 1e-6  # singular values below this share of the largest are taken for 0


class Inputs(NamedTuple):
    """Samples by what they are for.

    Attributes:
        train: (n, features), with labels.
        validation: (m, features).
        test: (t, features).
    """

    train: pdadmm.Data
    validation: pdadmm.Data
    test: pdadmm.Data

    def times(self, factor: float) -> Inputs:
        """All inputs times a number."""
        return Inputs(*(pdadmm.Data(factor * x, y) for x, y, _ in self))


def inputs_of(graph: Graph, split: Split, hops: int) -> Inputs:
    """Features that have travelled, scaled so that the labelled nodes' mean squared norm is 1.

    So penalties and learning rates mean the same on every graph.

    Args:
        graph: N nodes of F features.
        split: what its nodes are for.
        hops: how far features travel.

    Raises:
        DataError: hops below 0.
    """
    x = augmented(graph, np.concatenate(split), hops, normalise=True)
    x /= _root_mean_square(x[: len(split.train)]) or 1
    rows = np.split(x, np.cumsum([len(part) for part in split])[:-1])
    labels = (graph.labels[part] for part in split)
    return Inputs(*map(pdadmm.Data, map(jnp.asarray, rows), map(jnp.asarray, labels)))


def _root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(x.astype(np.float64) ** 2, axis=1))))


def in_span(inputs: Inputs) -> Inputs:
    """Coordinates in the span of the labelled nodes' inputs, in an orthonormal basis of it.

    Exact for a method that does the same with rotated inputs, and begins with first weights in
    that span, in which its updates then stay: what is orthogonal to it meets no weights.  There are
    as many coordinates as labelled nodes at most, instead of thousands of features.
    """
    _, values, directions = np.linalg.svd(
        np.asarray(inputs.train.x, np.float64), full_matrices=False
    )
    basis = directions[values > SMALLEST * values[0]] if values[0] else directions[:1]
    basis = jnp.asarray(basis.T, jnp.float32)
    return Inputs(*(pdadmm.Data(x @ basis, y) for x, y, _ in inputs))
