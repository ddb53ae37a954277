"""What files that are drawn together are called."""

from collections.abc import Sequence
from pathlib import PurePath

from mpi_landscape.storage.history.records import History
from mpi_landscape.storage.surface.value import Surface
from plotting.picture.quantities import title_of


def distinct_names(files: Sequence[History] | Sequence[Surface]) -> tuple[str, ...]:
    """What each file is called: its title, or what differs in the paths where titles do not tell them apart.

    So `runs/batch_size=128/history.h5` and `runs/batch_size=1024/history.h5` are `batch_size=128` and
    `batch_size=1024`.
    """
    titles = [title_of(file) for file in files]
    if len(set(titles)) == len(titles):
        return tuple(titles)
    parts = [PurePath(file.path).with_suffix("").parts for file in files]
    first = _agreeing(parts)
    last = _agreeing([part[first:][::-1] for part in parts])
    return tuple(
        "/".join(part[first : len(part) - last]).replace(",", ", ") or title
        for part, title in zip(parts, titles, strict=True)
    )


def _agreeing(parts: Sequence[Sequence[str]]) -> int:
    """How many steps from the start are the same in all."""
    count = 0
    for steps in zip(*parts, strict=False):
        if len(set(steps)) > 1:
            break
        count += 1
    return count
