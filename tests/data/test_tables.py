"""Tables of comma-separated values: what is read, and what is refused by file, line and column."""

import csv

import numpy as np
import pytest

from experiments.data import DataConfig, DataError, load
from experiments.data.tables import read_csv

X = [[5.5, -1.0], [6.25, 2e3], [0.0, 3.0], [1.0, -0.125], [2.0, 8.0], [4.0, 1.0]]
PETS = ["cat", "dog", "cat", "dog", "hen", "cat"]


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture
def table(tmp_path):
    return lambda text, **other: read_csv(written(tmp_path / "my own.csv", text), **other)


def lines(y, header="", where=2, separator=","):
    """The samples above with targets in some column."""
    rows = [[*map(str, x)] for x in X]
    for row, target in zip(rows, y, strict=True):
        row.insert(where, str(target))
    return "\n".join([*([header] if header else []), *map(separator.join, rows)])


@pytest.mark.parametrize(
    ("y", "kind"),
    [(PETS, "U"), ([3, 1, 3, -7, 1, 3], "i"), ([0.5, 2, 1e3, -4, 1, 0], "f"), ([10**20] * 6, "f")],
)
@pytest.mark.parametrize(
    ("header", "where"),
    [
        *[("", 2), ("a,b,price", 2), ("Label,a,b", 0), (" a , y ,b", 1), ('"a, b",c,"target"', 2)],
        *[("1,2,label", 2), ("label,1,2", 0)],
    ],
)
def test_targets_are_in_the_column_named_so_or_in_the_last(table, y, kind, header, where):
    found = table(lines(y, header, where))
    np.testing.assert_array_equal(found.x, X)
    assert found.y.tolist() == y
    assert found.y.dtype.kind == kind
    names = [name.strip() for name in next(csv.reader([header]))] if header else None
    assert found.layout.features == (names and tuple(names[:where] + names[where + 1 :]))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_tables_as_other_programs_write_them(table, separator, end, mark):
    text = lines(PETS, separator.join(("a", "b", "species")), separator=separator)
    found = table(mark + text.replace("\n", f"{end}{end}") + end)
    np.testing.assert_array_equal(found.x, X)
    assert found.layout.names == ("a", "b", "species")


def test_a_title_above_numbers_is_seen_where_the_others_are_numbers_too(table):
    assert table("0,1,price\n" + lines(range(6))).layout.names == ("0", "1", "price")


def test_truths_are_numbers(table):
    assert table("a,b,y\nTrue,1,0\nfalse,2,1\n").x.tolist() == [[1, 1], [0, 2]]


WRONG = {
    "empty": ("", "has no samples"),
    "header": ("a,b,y\n", "has no samples, only names of columns"),
    "one column": ("1\n2\n", "has one column: give features and a target"),
    "short": ("a,b,y\n1,2,3\n1,2\n", "line 3 has 2 columns, but line 1 has 3"),
    "long": ("1,2,3\n\n1,2,3,4\n", "line 3 has 4 columns, but line 1 has 3"),
    "text": ("a,b,y\n1,2,3\n1,big,3\n", r"line 3, column 2 \(b\): 'big' is no number"),
    "text without header": ("1,2,3\n1,big,3\n", "line 2, column 2: 'big' is no number"),
    "after the target": ("y,b\n1,2\n1,?\n", r"line 3, column 2 \(b\): '\?' is no number"),
    "missing": ("a,b,y\n1,2,3\n\n,1,3\n", r"line 4, column 1 \(a\): '' is no number"),
    "long text": (f"1,2\n{'x' * 99},2\n", "'x{40}'... is no number"),
    "nan": ("y,a,b\n1,2,nan\n", r"line 2, column 3 \(b\) is nan: remove the line, or fill in"),
    "infinite": ("1,2,3\n-inf,2,3\n", "line 2, column 1 is -inf"),
    "target missing": ("a,y\n1,2\n1,\n", r"line 3, column 2 \(y\): the target is missing"),
    "target nan": ("a,y\n1,2\n1,nan\n", r"line 3, column 2 \(y\) is nan: remove the line"),
    "targets of two kinds": (
        "a,y\n1,2\n1,NA\n",
        r"line 3, column 2 \(y\): 'NA' is no number, as targets of other lines are: mend it, or, ",
    ),
    "two targets": ("y,a,label\n1,2,3\n", "has two columns of targets, y and label: rename one"),
    "numbered rows": (",a,y\n0,1,2\n", "column 1 has no name, as if it numbered the rows"),
    "broken quotes": ('1,2,3\n1,"' + "2" * 200_000, "no table .field larger"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_table_is_named(tmp_path, case):
    text, message = WRONG[case]
    path = written(tmp_path / "my own.csv", text)
    with pytest.raises(DataError, match=message) as caught:
        load(DataConfig(file=path))
    assert str(caught.value).startswith(str(path))


def test_other_encodings_are_named(tmp_path):
    path = written(tmp_path / "x.csv", "größe,y\n1,2\n", "latin-1")
    with pytest.raises(DataError, match=r"x.csv: no text in UTF-8 \(invalid start byte, byte 2\)"):
        load(DataConfig(file=path))


def test_the_user_may_say_what_the_targets_are(table):
    assert table("1,2\n1,NA\n", task="classification").y.tolist() == ["2", "NA"]
    with pytest.raises(DataError, match="line 1, column 2: 'a' is no number"):
        table("1,a\n1,b\n", task="regression")


def test_a_table_is_loaded(tmp_path):
    path = written(tmp_path / "pets.csv", lines(PETS, "a,b,species"))
    found = load(DataConfig(file=path, validation=0, test=0.3))
    assert (found.name, found.classes, found.columns) == ("pets", 3, ("a", "b"))
    assert found.labels.tolist() == ["cat", "dog", "hen"]
    assert (found.x_train.shape, found.x_test.shape) == ((4, 2), (2, 2))
    rows = {tuple(x): pet for x, pet in zip(X, PETS, strict=True)}
    for x, y in ((found.x_train, found.y_train), (found.x_test, found.y_test)):
        assert [rows[tuple(row)] for row in x.tolist()] == found.labels[y].tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("species,a,b\ncat,1,2\n", "column 1 is species, but of the training samples a"),
        ("a,species\n1,cat\n", "test.csv has 2 columns, but the training samples 3"),
        ("a,b,species\n1,2,cow\n", "test.csv: the target has cow, which the training labels have"),
        ("label,5,6\n1,2,3\n", "the targets are not in column 3"),
    ],
)
def test_test_tables_have_to_be_alike(tmp_path, text, message):
    path = written(tmp_path / "pets.csv", lines(PETS, "" if "label" in text else "a,b,species"))
    test = written(tmp_path / "test.csv", text)
    with pytest.raises(DataError, match=message):
        load(DataConfig(file=path, test_file=test))


def test_test_tables_are_read(tmp_path):
    path = written(tmp_path / "codes.csv", lines(["1", "B", "1", "B", "2", "2"], "a,b,y"))
    test = written(tmp_path / "test.csv", "7,8,2\n9,10,1\n")
    found = load(DataConfig(file=path, test_file=test, task="classification"))
    assert found.labels.tolist() == ["1", "2", "B"]
    assert (found.x_test.tolist(), found.y_test.tolist()) == ([[7, 8], [9, 10]], [1, 0])
