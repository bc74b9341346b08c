"""The npz form of the gnn-benchmark sets, a graph of one's own, and splits that are drawn."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from experiments.data import DataError
from experiments.graphs import loading
from experiments.graphs.graph import made
from experiments.graphs.loading import drawn, load
from tests.graphs.conftest import NODES

ARCHIVES = Path(os.environ.get("PDADMM_ARCHIVES", "none")) / "gnn_benchmark"
PARTS = {"train": np.arange(30), "validation": np.arange(30, 60), "test": np.arange(60, 90)}


def parts(kind, matrix):
    names = ("data", "indices", "indptr", "shape")
    return {f"{kind}_{name}": np.asarray(getattr(matrix, name)) for name in names}


@pytest.fixture
def benchmark(graph, tmp_path):
    """Writes the graph as the gnn-benchmark sets are, directed as their citations are."""

    def write(**changes):
        ones = np.ones(len(graph.edges), np.float32)
        adjacency = sparse.csr_array((ones, graph.edges.T), shape=(NODES, NODES))
        arrays = parts("adj", adjacency) | parts("attr", sparse.csr_array(graph.features))
        arrays |= {"labels": graph.labels.astype(np.int8), "metadata": np.array([print])} | changes
        path = tmp_path / "graph.npz"
        np.savez(path, **{name: a for name, a in arrays.items() if a is not None})
        return path

    return write


@pytest.fixture
def own(graph, tmp_path):
    """Writes the graph as a user's npz file."""

    def write(**changes):
        arrays = {"edges": graph.edges, "features": graph.features, "labels": graph.labels}
        path = tmp_path / "graph.npz"
        np.savez(path, **{k: a for k, a in (arrays | PARTS | changes).items() if a is not None})
        return path

    return write


@pytest.fixture
def tables(graph, tmp_path):
    """Writes the graph as a directory of tables; a line may be put in another's place."""

    def write(name=None, number=0, line=""):
        split = np.full(NODES, "", "U10")
        for part, nodes in PARTS.items():
            split[nodes] = part
        nodes = ["a,label,b,split," + ",".join(f"f{k}" for k in range(10))]
        for row, label, part in zip(graph.features, graph.labels, split, strict=True):
            known = "" if label == -1 else label
            nodes.append(f"{row[0]}, {known} ,{row[1]},{part}," + ",".join(map(str, row[2:])))
        edges = ["from,to", *(f"{one},{other}" for one, other in graph.edges)]
        files = {"nodes.csv": nodes, "edges.csv": edges}
        if name is not None:
            files[name][number - 1] = line
        for file, lines in files.items():
            (tmp_path / file).write_text("\n".join(lines) + "\n")
        return tmp_path

    return write


def assert_equal(found, graph):
    np.testing.assert_array_equal(found.adjacency.toarray(), graph.adjacency)
    np.testing.assert_array_equal(found.features.toarray(), graph.features)
    np.testing.assert_array_equal(found.labels, graph.labels)


def test_gnn_benchmark_sets(benchmark, graph):
    found = loading.read(benchmark(), "")
    assert_equal(found, graph)
    assert found.split is None


def test_own_graphs(own, tables, graph):
    for path in (own(), tables()):
        found = load(path, "")
        assert_equal(found, graph)
        for part, nodes in found.split._asdict().items():
            np.testing.assert_array_equal(nodes, PARTS[part])


def test_masks_stand_for_numbers(own):
    masks = {name: np.isin(np.arange(NODES), nodes) for name, nodes in PARTS.items()}
    for part, nodes in load(own(**masks), "").split._asdict().items():
        np.testing.assert_array_equal(nodes, PARTS[part])


def test_labels_of_any_whole_type(own, graph):
    labels = np.where(graph.labels == -1, 0, graph.labels)
    for dtype in ("i1", "u1", "i8", "u8", ">i4"):
        found = load(own(labels=labels.astype(dtype), edges=graph.edges.astype(">u2")), "")
        np.testing.assert_array_equal(found.labels, labels)
        np.testing.assert_array_equal(found.adjacency.toarray(), graph.adjacency)


CITED = np.array([[0, 1], [1, 2]])


def test_a_split_is_drawn_by_its_seed():
    labels = np.random.default_rng(0).integers(-1, 4, 2500)
    graph = made("here", CITED, np.ones((2500, 1)), labels, None)
    one, again, other = drawn(graph, 1), drawn(graph, 1), drawn(graph, 2)
    assert np.bincount(labels[one.train]).tolist() == [20] * 4
    assert [len(part) for part in one] == [80, 500, 1000]
    nodes = np.concatenate(one)
    assert len(np.unique(nodes)) == len(nodes)
    assert labels[nodes].min() == 0
    np.testing.assert_array_equal(nodes, np.concatenate(again))
    assert not np.array_equal(nodes, np.concatenate(other))


def test_a_graph_too_small_for_a_split_is_refused(benchmark, own):
    message = "has 558 nodes of known classes, .* to draw a split takes 20 of each and 1500 others"
    for path in (benchmark(), own(**dict.fromkeys(PARTS))):
        with pytest.raises(DataError, match=message):
            load(path, "")


NAN = np.full((NODES, 2), 0.0)
NAN[7, 1] = np.nan
BENCHMARK = {
    "none": ({"labels": None}, "lacks labels: give adj_data, adj_indices, .*, labels"),
    "parts": ({"adj_indices": np.arange(3)}, "adj_data and so on make no CSR matrix: a matrix of"),
    "floats": ({"adj_indptr": np.zeros(NODES + 1)}, "no CSR matrix: .* no whole numbers"),
    "shape": ({"attr_shape": np.array(3)}, "attr_data and so on make no CSR matrix"),
    "range": ({"attr_shape": np.array([NODES, 3])}, "attr_data and so on make no CSR matrix"),
    "square": (parts("adj", sparse.csr_array((3, 3))), r"adj_shape is \(3, 3\), but .* 560 nodes"),
    "labels": ({"labels": np.zeros(3, int)}, r"labels have the shape \(3,\) .* each of 560 nodes"),
    "objects": ({"labels": np.array([print])}, "labels.npy holds Python objects"),
    "not finite": (parts("attr", sparse.csr_array(NAN)), r"features\[7, 1\] is nan: fill in"),
    "complex": ({"attr_data": np.ones(2, complex)}, "no CSR matrix|real numbers"),
}
OWN = {
    "no edges": ({"edges": None}, "lacks edges: give edges, features, labels"),
    "pairs": ({"edges": np.zeros((5, 3), int)}, r"edges have the shape \(5, 3\) and are int64"),
    "real edges": ({"edges": np.zeros((5, 2))}, "edges have the shape .* are float64: give"),
    "no such node": ({"edges": np.array([[0, NODES]])}, r"edges\[0, 1\] is 560, but nodes are nu"),
    "negative": ({"edges": np.array([[-1, 0]])}, r"edges\[0, 0\] is -1, but nodes are numbered fr"),
    "features": ({"features": np.zeros(NODES)}, r"features have the shape \(560,\)"),
    "no features": ({"features": np.zeros((NODES, 0))}, r"features have the shape \(560, 0\)"),
    "texts": ({"features": np.full((NODES, 1), "a")}, "features .* are <U1: give"),
    "not finite": ({"features": NAN}, r"features\[7, 1\] is nan: fill in a number, or remove"),
    "too large": ({"features": 1e300 + NAN * 0}, r"features\[0, 0\] is inf"),
    "real labels": ({"labels": np.zeros(NODES)}, "labels .* are float64: give a whole number"),
    "one class": ({"labels": np.zeros(NODES, int)}, "labels are 0: give 0, 1 and so on"),
    "skipped": ({"labels": 2 * (np.arange(NODES) % 2)}, "labels are 0, 2: give 0, 1 and so on"),
    "negative labels": ({"labels": np.arange(NODES) % 3 - 2}, "labels are -2, 0: give"),
    "two of three": ({"test": None}, "has train, validation alone: give train, validation, test"),
    "overlap": ({"test": np.array([29])}, "node 29 is in train and in test"),
    "repeated": ({"test": np.array([95, 95])}, "node 95 is in test and in test"),
    "unknown": ({"test": np.array([543])}, "test has node 543, whose label is unknown"),
    "nobody": ({"test": np.array([-1])}, r"test\[0\] is -1, but nodes are numbered"),
    "empty": ({"test": np.zeros(NODES, bool)}, r"test has the shape \(0,\) .* one at least"),
    "masks": ({"test": np.zeros(9, bool)}, r"test has the shape \(9,\), but labels \(560,\)"),
    "table": ({"test": np.zeros((2, 2), int)}, r"test has the shape \(2, 2\)"),
    "real nodes": ({"test": np.array([0.5])}, "test .* is float64: give the numbers"),
}
TABLES = {
    "no label": ("nodes.csv", 1, "a,b" + ",c" * 12, "nodes.csv has two columns of one name"),
    "unnamed": ("nodes.csv", 1, ",".join(map(str, range(14))), "nodes.csv has no column label"),
    "short": ("nodes.csv", 9, "1,2", "nodes.csv, line 9 has 2 columns, but line 1 14"),
    "class": ("nodes.csv", 9, "1,cat,1,," + "0," * 9 + "0", "line 9, column label: 'cat' cannot"),
    "part": ("nodes.csv", 9, "1,0,1,all," + "0," * 9 + "0", "line 9, column split: 'all' cannot"),
    "cell": ("nodes.csv", 9, "1,0,one,," + "0," * 9 + "0", "line 9, column b: 'one' cannot be on"),
    "nan": ("nodes.csv", 9, "1,0,nan,," + "0," * 9 + "0", r"features\[7, 1\] is nan"),
    "edge": ("edges.csv", 3, "1,1.5", "edges.csv, line 3, column to: '1.5' cannot be one"),
    "too large": ("edges.csv", 3, f"1,{2**70}", "edges.csv.* beyond 64 bits"),
}


@pytest.mark.parametrize("case", BENCHMARK)
def test_what_is_no_benchmark_set_is_named(benchmark, case):
    changes, message = BENCHMARK[case]
    path = benchmark(**changes)
    with pytest.raises(DataError, match=message):
        load(path, "")


@pytest.mark.parametrize("case", OWN)
def test_what_is_no_graph_is_named(own, case):
    changes, message = OWN[case]
    path = own(**changes)
    with pytest.raises(DataError, match=message):
        load(path, "")


@pytest.mark.parametrize("case", TABLES)
def test_what_is_no_table_is_named(tables, case):
    name, number, line, message = TABLES[case]
    path = tables(name, number, line)
    with pytest.raises(DataError, match=message):
        load(path, "")


def test_other_files_are_named(tmp_path, tables):
    with pytest.raises(DataError, match=r"ind.cora.allx: cannot be read \(No such file"):
        load(tmp_path, "cora")
    for name, message in (
        ("a.txt", "is neither a directory nor an npz file: name a directory"),
        ("a.npz", r"a.npz: there is no such file"),
    ):
        with pytest.raises(DataError, match=message):
            load(tmp_path / name, "")
    for content in (b"", b"PK", b"\x80\4K\1."):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"a.npz: no sound npz file"):
            load(tmp_path / "a.npz", "")
    tables()
    (tmp_path / "edges.csv").write_bytes(b"\xff\n\xff")
    with pytest.raises(DataError, match=r"edges.csv: no table in UTF-8"):
        load(tmp_path, "")
    (tmp_path / "edges.csv").write_text("from,to\n")
    with pytest.raises(DataError, match=r"edges.csv has no line below the names"):
        load(tmp_path, "")
    (tmp_path / "edges.csv").unlink()
    with pytest.raises(DataError, match=r"edges.csv: cannot be read"):
        load(tmp_path, "")


@pytest.mark.skipif(not ARCHIVES.is_dir(), reason="PDADMM_ARCHIVES has no gnn_benchmark")
@pytest.mark.parametrize(
    ("name", "edges", "shape", "classes"),
    [("cora", 5278, (2708, 1433), 7), ("citeseer", 4536, (3312, 3703), 6)],
)
def test_published_files(name, edges, shape, classes):
    found = load(ARCHIVES / f"{name}.npz", "")
    assert (found.adjacency.nnz, found.features.shape) == (2 * edges, shape)
    assert found.split is not None
    assert [len(part) for part in found.split] == [20 * classes, 500, 1000]
