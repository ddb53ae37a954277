"""Which rows of a table `make test` runs, one or two of each class; the others are for `make test-all`, as in `.ci/run`."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

EXHAUSTIVE = pytest.mark.exhaustive


def rows(table: Mapping[str, Any], *daily: str) -> list[Any]:
    """The parameters of a table, by their names.

    Args:
        table: A row for each name: a tuple of parameters, or the only one.
        daily: Names of the rows that are not exhaustive.
    """
    unknown = set(daily) - table.keys()
    assert not unknown, f"no such rows: {unknown}"
    return [
        pytest.param(
            *(row if isinstance(row, tuple) else (row,)), id=name, marks=() if name in daily else EXHAUSTIVE
        )
        for name, row in table.items()
    ]


def values(every: Iterable[Any], *daily: Any) -> list[Any]:
    """The same for single parameters that are their own names: seeds, numbers of ranks."""
    every = list(every)
    unknown = [value for value in daily if value not in every]
    assert not unknown, f"no such values: {unknown}"
    return [pytest.param(value, marks=() if value in daily else EXHAUSTIVE) for value in every]
