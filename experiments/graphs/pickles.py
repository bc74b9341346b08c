"""Pickles of arrays, sparse matrices and lists of neighbours, of which nothing is executed.

A pickle is a program that may name any function there is.  Here names stand for classes that do no
more than hold what they are given, and all other names are refused.  What is held becomes NumPy's
and SciPy's only when shapes, types and sizes fit each other.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from experiments.data.dataset import DataError

Csr = Any  # scipy.sparse.csr_array, of whose shapes type checkers believe that they may be None


class _Dtype:
    """Stands for ``numpy.dtype``."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if not re.fullmatch(r"[biuf][1248]", self.code) or order not in ("<", ">", "|"):
            raise ValueError(f"an array is of type {order}{self.code}, not of numbers")
        self.dtype = np.dtype(order + self.code)


class _Array:
    """Stands for ``numpy.ndarray``, and for the function that makes one."""

    def __init__(self, *_: Any) -> None:
        """Empty until its state comes."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, values = state
        values = values.encode("latin1") if isinstance(values, str) else values
        if len(values) != math.prod(shape) * kind.dtype.itemsize:
            raise ValueError(f"an array of shape {shape} has {len(values)} bytes")
        order = "F" if fortran else "C"
        self.array = np.frombuffer(values, kind.dtype).reshape(shape, order=order)


class _Csr:
    """Stands for ``scipy.sparse.csr_matrix``."""

    def __setstate__(self, state: Any) -> None:
        data, indices, indptr = (state[name].array for name in ("data", "indices", "indptr"))
        shape = state["_shape"] if "_shape" in state else state["shape"]
        self.matrix = checked_csr(data, indices, indptr, shape)


_KNOWN = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "scipy.sparse.csr.csr_matrix": _Csr,
    "scipy.sparse._csr.csr_matrix": _Csr,
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": defaultdict,
    "__builtin__.list": list,
    "builtins.list": list,
}


class _Refused(Exception):
    """A name that is not known."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (found := _KNOWN.get(f"{module}.{name}")) is None:
            raise _Refused(f"{module}.{name}"[:80])
        return found


def read_pickle(path: Path) -> Any:
    """What a pickle holds, written by Python 2 or 3.

    Returns:
        An array, a CSR matrix, or whatever dictionaries, lists, numbers and texts it is made of.

    Raises:
        DataError: there is no such file, it is damaged, or something else is in it.
    """
    try:
        content = path.read_bytes()
        _check_places(content)
        found = _Reader(io.BytesIO(content), encoding="latin1").load()
    except _Refused as error:
        raise DataError(
            f"{path} holds {error}: only arrays of numbers, CSR matrices, dictionaries and lists "
            "are read, for a pickle of anything else can execute what it likes"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged pickle may call anything on anything
        raise DataError(f"{path}: no sound pickle ({type(error).__name__}: {error})") from None
    if isinstance(found, _Array):
        return getattr(found, "array", None)
    return getattr(found, "matrix", None) if isinstance(found, _Csr) else found


def _check_places(content: bytes) -> None:
    """Refuses places beyond what so many bytes can fill: the reader would make room for them."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("PUT", "LONG_BINPUT") and (argument or 0) > len(content):
            raise ValueError(f"it has {len(content)} bytes, but a place {argument}")


def checked_csr(data: Any, indices: Any, indptr: Any, shape: Any) -> Csr:
    """A CSR matrix of its parts, which SciPy alone takes for granted.

    Raises:
        ValueError: parts that do not fit each other.
    """
    rows, columns = map(int, shape)
    if min(rows, columns) < 0 or indptr.shape != (rows + 1,) or data.shape != indices.shape:
        raise ValueError(
            f"a matrix of shape {(rows, columns)} has data {data.shape}, indices {indices.shape} "
            f"and indptr {indptr.shape}"
        )
    if {array.dtype.kind for array in (indices, indptr)} - {"i", "u"}:
        raise ValueError(f"indices are {indices.dtype} and indptr {indptr.dtype}: no whole numbers")
    matrix = sparse.csr_array((data, indices, indptr), shape=(rows, columns))
    matrix.check_format(full_check=True)
    return matrix
