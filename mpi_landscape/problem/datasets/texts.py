"""Texts as data: files of a folder, or the sources of Python itself."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.examples import examples_of, read_reading
from mpi_landscape.problem.datasets.variants import passing_on
from mpi_landscape.problem.sizes import checked_count
from mpi_landscape.wording import shown

Splits = dict[str, Any]


@passing_on(read_reading)
def text(
    *,
    root: Path,
    download: bool = False,
    pattern: str = "*.txt",
    size: int | None = None,
    **reading: Any,
) -> Splits:
    """Examples of a file of text, or of all files of a folder and its folders that fit a pattern, in the order of their paths.

    Args:
        root: The file or folder.
        download: There is nothing to be fetched.
        pattern: Of the files in a folder.
        size: Most bytes that are read, from the first file on; None for all.
        **reading: Of `read_reading`.

    Returns:
        "train" and, unless `test` is 0, "test": input_ids, attention_mask and labels.

    Raises:
        LandscapeError: There is no such text, it is not UTF-8, it has no example, or an argument is not valid.
    """
    if download:
        raise LandscapeError("download is true; a text is read from its folder, expected false")
    chosen = read_reading(**reading)
    _check_size(size)
    if root.is_file():
        paths = [root]
    elif root.is_dir():
        paths = sorted(path for path in root.rglob(str(pattern)) if path.is_file())
    else:
        raise LandscapeError(f"root is {root}; there is no such file or folder (working folder {Path.cwd()})")
    if not paths:
        raise LandscapeError(f"root is {root}; no file in it fits the pattern {shown(pattern)}")
    return examples_of(read_texts(paths, size), chosen)


@passing_on(read_reading)
def python(*, size: int | None = 1_000_000, **reading: Any) -> Splits:
    """Examples of the sources of Python's own standard library: a text that is always there.

    The modules are those beside each other in its folder whose names begin with a letter, in their order. Another
    version of Python has another text, which the fingerprint of the data tells.

    Args:
        size: Most bytes that are read; None for all, about 10 MB.
        **reading: Of `read_reading`.

    Returns:
        As of `text`.

    Raises:
        LandscapeError: This Python has no sources, or an argument is not valid.
    """
    chosen = read_reading(**reading)
    _check_size(size)
    folder = Path(sysconfig.get_paths()["stdlib"])
    # What begins with an underscore is partly written by the build, and differs from one machine to another.
    paths = sorted(path for path in folder.glob("*.py") if path.stem[0].isalpha())
    if not paths:
        raise LandscapeError(f"python needs the sources of the standard library; there are none in {folder}")
    return examples_of(read_texts(paths, size), chosen)


def _check_size(size: Any) -> None:
    if size is not None:
        checked_count(size, "size")


def read_texts(paths: Sequence[Path], size: int | None) -> list[str]:
    """The texts of files, all together of so many bytes at most.

    Raises:
        LandscapeError: One cannot be read, or is not UTF-8.
    """
    texts, left = [], size
    for path in paths:
        if left == 0:
            break
        try:
            with path.open("rb") as file:
                content = file.read(-1 if left is None else left)
                is_cut = left is not None and bool(file.read(1))
        except OSError as error:
            raise LandscapeError(f"{path}: cannot be read ({error.strerror or error})") from error
        try:
            texts.append(content.decode())
        except UnicodeDecodeError as error:
            # A character that the size cuts through is no fault of the file.
            if not is_cut or error.start < len(content) - 3:
                raise LandscapeError(
                    f"{path}: is not UTF-8 (byte {error.start}); expected a text, or a pattern of texts alone"
                ) from error
            texts.append(content[: error.start].decode())
        left = None if left is None else left - len(content)
    return texts
