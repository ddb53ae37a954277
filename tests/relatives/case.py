"""A case of the table: a small problem that people have, and what is right for it."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py

Expected = Literal["right", "refused", "either"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is handed to `landscape()`, and what must hold of its file besides the values.

    Attributes:
        net: The network.
        loss: A name or a function.
        data: A data set, or several by name.
        options: Further arguments.
        around: What the call is made in, such as `torch.autocast`; the right values are found outside of it.
        within: Whether they are found inside of it.
        mean: The mean loss of a network that was moved in place; None for the loss called on the data in order.
        ends: Networks at coordinate 1, by axis.
        holds: Says what is wrong with the file, or None.
        again: A second call that goes on with the file.
    """

    net: Any
    loss: Any = "cross_entropy"
    data: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    within: bool = False
    mean: Callable[[Any], float] | None = None
    ends: Mapping[str, Any] = field(default_factory=dict)
    holds: Callable[[h5py.File], str | None] | None = None
    again: Asked | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row of the table.

    Attributes:
        name: Of the function that makes it.
        what: A phrase.
        build: Makes the problem anew, in a folder for its files.
        expected: `right` needs the right values; `refused` has none, so a refusal in one line; `either` may be refused, too.
        because: Why a refusal is right, or accepted.
        says: Text that the log, or a refusal, must have.
        ranks: Processes of an mpiexec.
        kind: Number of the kind.
    """

    name: str
    what: str
    build: Callable[[Path], Asked]
    expected: Expected = "right"
    because: str = ""
    says: str = ""
    ranks: int = 1
    kind: int = 0


def right(what: str, **rest: Any) -> Callable[[Callable[[Path], Asked]], Case]:
    """A case that ought to work."""
    return _case(what, "right", "", rest)


def refused(what: str, because: str, **rest: Any) -> Callable[[Callable[[Path], Asked]], Case]:
    """A case that has no right values."""
    return _case(what, "refused", because, rest)


def either(what: str, because: str, **rest: Any) -> Callable[[Callable[[Path], Asked]], Case]:
    """A case that may be refused."""
    return _case(what, "either", because, rest)


def _case(
    what: str, expected: Expected, because: str, rest: Mapping[str, Any]
) -> Callable[[Callable[[Path], Asked]], Case]:
    def made(build: Callable[[Path], Asked]) -> Case:
        return Case(name=build.__name__, what=what, build=build, expected=expected, because=because, **rest)

    return made


def cases_of(module: types.ModuleType) -> list[Case]:
    """The cases of a kind, in the order of its file."""
    from dataclasses import replace

    found = [value for value in vars(module).values() if isinstance(value, Case)]
    return [replace(each, kind=module.KIND) for each in found]
