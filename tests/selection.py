"""Which cases of a test are fast ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def selected(cases: Iterable[Any], fast: Collection[Any]) -> list[Any]:
    """The cases as parameters, of which all but the fast ones are marked slow."""
    cases = list(cases)
    assert all(case in cases for case in fast), f"{fast} are not all among {cases}"

    def parameter(case: Any) -> Any:
        if case in fast:
            return case
        values = case if isinstance(case, tuple) else (case,)
        return pytest.param(*values, marks=pytest.mark.slow)

    return [parameter(case) for case in cases]
