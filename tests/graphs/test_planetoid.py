"""Planetoid's files: what is read, and what is refused without being executed."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from experiments.data import DataError
from experiments.graphs.pickles import read_pickle
from experiments.graphs.planetoid import read_planetoid
from tests.graphs import python2
from tests.graphs.conftest import GAPS, TEST

ARCHIVES = Path(os.environ.get("PDADMM_ARCHIVES", "none")) / "planetoid"


def test_the_public_split(planetoid, graph):
    found = read_planetoid(planetoid, "small")
    np.testing.assert_array_equal(found.features.toarray(), graph.features)
    np.testing.assert_array_equal(found.labels, graph.labels)
    np.testing.assert_array_equal(found.adjacency.toarray(), graph.adjacency)
    assert found.split is not None
    np.testing.assert_array_equal(found.split.train, np.arange(30))
    np.testing.assert_array_equal(found.split.validation, np.arange(30, 530))
    np.testing.assert_array_equal(np.sort(found.split.test), TEST)
    assert found.features.dtype == found.adjacency.dtype == np.float32
    assert (found.classes, found.labels.dtype) == (3, np.int32)


def test_numbers_that_test_index_leaves_out_are_nodes_in_no_part(planetoid):
    found = read_planetoid(planetoid, "small")
    assert found.split is not None
    assert not set(GAPS) & set(np.concatenate(found.split).tolist())
    assert found.features[list(GAPS)].nnz == found.adjacency[list(GAPS)].nnz == 0
    assert (found.labels[list(GAPS)] == -1).all()


class Harmful:
    """What a pickle may do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("part", ["allx", "tx", "y", "ally", "ty", "graph"])
@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_executed(planetoid, tmp_path, part, protocol):
    harm, path = tmp_path / "harm", planetoid / f"ind.small.{part}"
    path.write_bytes(pickle.dumps([Harmful(harm)], protocol))
    with pytest.raises(DataError, match=rf"{path.name} holds (posix|nt)\.mkdir: only arrays"):
        read_planetoid(planetoid, "small")
    assert not harm.exists()


@pytest.mark.parametrize(
    "name", ["builtins\neval", "numpy\nload", "collections\nOrderedDict.fromkeys", "os\nsystem"]
)
def test_other_names_are_refused(tmp_path, name):
    path = tmp_path / "a"
    path.write_bytes(f"c{name}\n(U\x01atR.".encode())
    with pytest.raises(DataError, match=f"holds {name.replace(chr(10), '.')}: only arrays of nu"):
        read_pickle(path)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_pickles_of_today_are_read(tmp_path, protocol):
    """Those of protocol 2 write bytes by a function of another module."""
    path, array = tmp_path / "a", np.arange(6.0).reshape(2, 3)
    for content in (array, array.T, np.asfortranarray(array), sparse.csr_matrix(array)):
        path.write_bytes(pickle.dumps(content, min(protocol, 4)))
        both = [read_pickle(path), content]
        found, expected = (one.toarray() if sparse.issparse(one) else one for one in both)
        np.testing.assert_array_equal(found, expected)
    path.write_bytes(pickle.dumps(OrderedDict({1: [2]}), protocol))
    assert read_pickle(path) == {1: [2]}


def test_types_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "a"
    for values in (np.array([print]), np.array(["a"]), np.zeros(2, "M8[s]"), np.zeros(2, "f4,f4")):
        path.write_bytes(pickle.dumps(values, 3))
        with pytest.raises(DataError, match=r"no sound pickle|holds builtins.print|no numbers"):
            read_pickle(path)


CSR = {"data": np.ones(3, "f4"), "indices": np.array([0, 1, 2]), "indptr": np.array([0, 2, 3])}


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"indices": np.array([0, 1, 9])}, (2, 3)),
        ({"indices": np.array([0, 1, -1])}, (2, 3)),
        ({"indices": np.array([0.0, 1, 2])}, (2, 3)),
        ({"indptr": np.array([0, 2, 9])}, (2, 3)),
        ({"indptr": np.array([0, 3, 2])}, (2, 3)),
        ({"indptr": np.array([0, 3])}, (2, 3)),
        ({"data": np.ones(2, "f4")}, (2, 3)),
        ({}, (5, 3)),
        ({}, (2, -3)),
    ],
)
def test_a_matrix_whose_parts_do_not_fit_is_refused(tmp_path, changes, shape):
    class Parts:
        format = "csr"

    parts, path = Parts(), tmp_path / "a"
    vars(parts).update(CSR | changes, shape=shape)
    code = python2._csr(parts)
    path.write_bytes(b"\x80\x02" + code + b".")
    with pytest.raises(DataError, match="no sound pickle"):
        read_pickle(path)


@pytest.mark.parametrize("part", ["allx", "ally", "graph"])
def test_damaged_files_are_named(planetoid, part):
    """Whatever is lost or changed, it is one line or a pickle that is sound."""
    path = planetoid / f"ind.small.{part}"
    content, random = path.read_bytes(), np.random.default_rng(0)
    damaged = [content[: len(content) * k // 8] for k in range(8)]
    for _ in range(300):
        changed = bytearray(content)
        for place in random.integers(0, len(content), 3):
            changed[place] = random.integers(0, 256)
        damaged.append(bytes(changed))
    complaints = []
    for one in damaged:
        path.write_bytes(one)
        try:
            read_planetoid(planetoid, "small")
        except DataError as error:
            complaints.append(str(error))
    assert len(complaints) >= 8
    assert not any("\n" in one for one in complaints)


def test_a_place_beyond_what_the_file_can_fill_takes_no_room(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")
    with pytest.raises(DataError, match="it has 9 bytes, but a place 2147483647"):
        read_pickle(path)


def swapped(part, change):
    """Replaces what a file holds."""

    def swap(directory):
        path = directory / f"ind.small.{part}"
        path.write_bytes(python2.dumps(change(read_pickle(path))))

    return swap


def text(part, content):
    return lambda directory: (directory / f"ind.small.{part}").write_text(content)


WRONG = {
    "missing": (lambda d: (d / "ind.small.tx").unlink(), r"tx: cannot be read \(No such file"),
    "no matrix": (swapped("tx", lambda x: x.toarray()), "tx holds a ndarray, but has to be a CSR"),
    "no rows": (swapped("ty", lambda y: y[:, 0]), "ty has to be an array of one-hot rows"),
    "two classes": (swapped("ally", lambda y: y * 0 + 1), "ally has rows that are not one-hot"),
    "counts": (swapped("ally", lambda y: y[:-1]), "ally has 539 rows, .*allx 540: there have"),
    "other labels": (swapped("y", lambda y: y[::-1].copy()), "begin with the 30 of y"),
    "no validation": (swapped("y", lambda y: np.ones((50, 1), y.dtype)), "ally has 540 rows"),
    "test rows": (swapped("ty", lambda y: y[:-1]), "test.index has 18 nodes, .*ty 17 rows"),
    "features": (swapped("tx", lambda x: x[:, :-1]), "of 11 features where allx has 12"),
    "no graph": (text("graph", "N."), "graph has to be a dictionary of lists of neighbours"),
    "no lists": (text("graph", "(dI1\nI2\ns."), "graph has to be a dictionary of lists"),
    "no number": (text("graph", "(dI1\n(lS'a'\nas."), "graph has the node 'a', which is no whole"),
    "too large": (text("graph", f"(dI1\n(lL{2**80}L\nas."), "numbers of nodes beyond 64 bits"),
    "no such node": (text("graph", "(dI1\n(lI560\nas."), r"edges\[0, 1\] is 560, but nodes are n"),
    "negative": (text("graph", "(dI-1\n(lI5\nas."), r"edges\[0, 0\] is -1, but nodes are numbere"),
    "no text": (text("test.index", "1\ntwo\n"), r"test.index: no whole number on each line"),
    "no bytes": (lambda d: (d / "ind.small.test.index").write_bytes(b"\xff"), "no whole number"),
    "empty": (text("test.index", ""), "test.index is empty"),
    "twice": (text("test.index", "540\n" * len(TEST)), "number each of its nodes once, from 540"),
    "known": (text("test.index", "\n".join(map(str, range(18)))), "each of its nodes once, from"),
    "far": (
        text("test.index", "\n".join(map(str, [*range(540, 557), 10**12]))),
        "each of its nodes once",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(planetoid, case):
    change, message = WRONG[case]
    change(planetoid)
    with pytest.raises(DataError, match=message):
        read_planetoid(planetoid, "small")


@pytest.mark.skipif(not ARCHIVES.is_dir(), reason="PDADMM_ARCHIVES has no planetoid")
@pytest.mark.parametrize(
    ("name", "edges", "shape", "sizes", "bare"),
    [
        ("cora", 5278, (2708, 1433), [351, 217, 418, 818, 426, 298, 180], 0),
        ("citeseer", 4552, (3327, 3703), [249, 590, 668, 701, 596, 508], 15),
    ],
)
def test_the_published_graphs(name, edges, shape, sizes, bare):
    found = read_planetoid(ARCHIVES, name)
    assert (found.adjacency.nnz, found.features.shape) == (2 * edges, shape)
    assert np.bincount(found.labels + 1).tolist() == [bare, *sizes]
    assert found.split is not None
    assert [len(part) for part in found.split] == [20 * len(sizes), 500, 1000]
    assert np.bincount(found.labels[found.split.train]).tolist() == [20] * len(sizes)
