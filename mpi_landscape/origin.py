"""Whose code it is: an installed library's or this program's, which are trusted, or a user's."""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
from pathlib import Path


@functools.cache
def is_installed(file: str | None) -> bool:
    """Whether a file of code belongs to Python, to an installed library, or to this program; None for what has no file.

    Example:
        >>> is_installed(functools.__file__), is_installed("/home/somebody/nets.py"), is_installed("<stdin>")
        (True, False, False)
    """
    if file is None:
        return True
    return file.startswith("<frozen") or os.path.realpath(file).startswith(_folders())


def is_library(kind: type) -> bool:
    """Whether a class is an installed library's, or this program's."""
    found = sys.modules.get(kind.__module__)
    return (
        found is not None and kind.__module__ != "__main__" and is_installed(getattr(found, "__file__", None))
    )


@functools.cache
def _folders() -> tuple[str, ...]:
    paths = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += [str(Path(__file__).parent), *site.getsitepackages(), site.getusersitepackages()]
    return tuple(os.path.realpath(path) + os.sep for path in paths)
