"""Pickles as Python 2 wrote them: bytes are texts there, which Python 3 has no way to write."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def dumps(content) -> bytes:
    """The pickle of an array, of a CSR matrix, or of lists of neighbours by node."""
    return b"\x80\x02" + _code(content) + b"."


def _code(content) -> bytes:
    if isinstance(content, np.ndarray):
        return _array(content)
    return _csr(content) if sparse.issparse(content) else _neighbours(content)


def _array(values: np.ndarray) -> bytes:
    order, kind = values.dtype.str[:1].encode(), values.dtype.str[1:].encode()
    dtype = b"cnumpy\ndtype\n(" + _text(kind) + _number(0) + _number(1) + b"tR"
    dtype += b"(" + _number(3) + _text(order) + b"NNN" + 2 * _number(-1) + _number(0) + b"tb"
    shape = b"(" + b"".join(map(_number, values.shape)) + b"t"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + _number(0) + b"t"
    state = b"(" + _number(1) + shape + dtype + b"\x89" + _text(values.tobytes()) + b"t"
    return empty + _text(b"b") + b"tR" + state + b"b"


def _csr(matrix) -> bytes:
    parts = {
        "_shape": b"".join(map(_number, matrix.shape)) + b"\x86",
        "maxprint": _number(50),
        **{name: _array(getattr(matrix, name)) for name in ("data", "indices", "indptr")},
    }
    state = b"".join(_text(name.encode()) + code for name, code in parts.items())
    return b"cscipy.sparse.csr\ncsr_matrix\n)\x81}(" + state + b"ub"


def _neighbours(lists) -> bytes:
    items = (_number(node) + b"](" + b"".join(map(_number, ends)) + b"e" for node, ends in lists)
    return b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(" + b"".join(items) + b"u"


def _number(value) -> bytes:
    return b"J" + int(value).to_bytes(4, "little", signed=True)


def _text(value: bytes) -> bytes:
    return b"T" + len(value).to_bytes(4, "little") + value
