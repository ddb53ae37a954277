"""All cases, in the order of their kinds."""

from __future__ import annotations

from types import ModuleType

from mpi_landscape.errors import LandscapeError
from tests.relatives.case import Case, cases_of
from tests.relatives.kinds import (
    batches,
    crashes,
    doubles,
    ends,
    handles,
    kept,
    modes,
    processes,
    rare,
    raw,
    roles,
    settings,
    steps,
    threads,
)

KINDS: tuple[ModuleType, ...] = (
    threads, handles, modes, ends, batches, processes, roles, doubles, crashes, raw, steps, kept, settings, rare
)  # fmt: skip


def all_cases() -> list[Case]:
    """Every row."""
    return [case for kind in KINDS for case in cases_of(kind)]


def named(name: str) -> Case:
    """The case of a name.

    Raises:
        LandscapeError: There is none.
    """
    found = next((case for case in all_cases() if case.name == name), None)
    if found is None:
        raise LandscapeError(f"there is no case {name!r}")
    return found
