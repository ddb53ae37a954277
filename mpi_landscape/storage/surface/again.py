"""The command that goes on with an unfinished file: put together here, of parts of what the file says that have been checked.

Anybody may have made the file, and a person may paste what is shown: of its text nothing is taken but options that this
program has, with values that are one word each for every shell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PROGRAMS = (("python", "-m", "mpi_landscape.surface"), ("python", "-m", "mpi_landscape.hessian"))
# Option -> what its value must look like; None where it has none.
_AXIS = r"[-+.\d\w]+:[-+.\d\w]+:\d+"
_NUMBER = r"[-+.\d]+(e[-+]?\d+)?"
_OPTIONS: dict[str, str | None] = {
    "--alpha": _AXIS,
    "--beta": _AXIS,
    "--line": None,
    "--output": r".+",
    "--set": r"[A-Za-z_]\w*(\.\w+)*=.*",
    "--relative-error": _NUMBER,
    "--time-limit": _NUMBER,
    "--patience": _NUMBER,
    "--writer": r"\w+",
    "--overwrite": None,
    "--debug": None,
}
# Begun anew, a file would lose what is done; and it is the file itself that is gone on with, wherever it is now.
_LEFT_OUT = ("--overwrite", "--output")
_LONGEST_WORD = 2000
_MOST_WORDS = 1000
# An escape that stands for a character which is not shown: what the word was is not known any more.
_ESCAPED = re.compile(r"\\[ntxuU]")


def command_again(path: str, attributes: Mapping[str, Any]) -> str | None:
    """The command that goes on with a surface file, on as many ranks and in the folder as when it was made.

    Args:
        path: The file.
        attributes: What it says of itself.

    Returns:
        A command for a shell; None where the file was not made by `python -m mpi_landscape.surface` or `hessian`, or says
        anything that these programs would not have written.

    Example:
        >>> made = {"command": "python -m mpi_landscape.surface a.yaml --overwrite --line", "folder": "/runs"}
        >>> command_again("/runs/a.h5", made)
        'cd /runs && python -m mpi_landscape.surface a.yaml --line --output /runs/a.h5'
        >>> command_again("/runs/a.h5", {"command": "rm -rf /; python -m mpi_landscape.surface a.yaml"}) is None
        True
    """
    program, arguments = _parts(attributes.get("command"))
    folder = attributes.get("folder", "")
    ranks = attributes.get("ranks", "1")
    if arguments is None or not isinstance(folder, str) or not re.fullmatch(r"[1-9]\d{0,6}", str(ranks)):
        return None
    if folder and not (Path(folder).is_absolute() and _is_word(folder)):
        return None
    launcher = [] if str(ranks) == "1" else ["mpiexec", "-n", str(ranks)]
    place = f"cd {shlex.quote(folder)} && " if folder else ""
    return place + shlex.join([*launcher, *program, *arguments, "--output", str(Path(path).absolute())])


def _parts(command: Any) -> tuple[tuple[str, ...], list[str] | None]:
    """A program and its arguments, of which one is its configuration; None where a word is none of its own."""
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        return (), None
    program, arguments = tuple(words[:3]), words[3:]
    if program not in _PROGRAMS or len(words) > _MOST_WORDS or not all(map(_is_word, words)):
        return (), None
    return program, _checked(arguments)


def _checked(words: Sequence[str]) -> list[str] | None:
    kept: list[str] = []
    configurations = 0
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            configurations += 1
            kept.append(word)
            continue
        given, equals, value = word.partition("=")
        # As argparse, which takes the beginning of an option for it.
        named = [given] if given in _OPTIONS else [name for name in _OPTIONS if name.startswith(given)]
        if len(named) != 1 or not given.startswith("--"):
            return None
        (option,) = named
        form = _OPTIONS[option]
        if form is not None:
            value = value if equals else next(rest, "")
            if not re.fullmatch(form, value):
                return None
        elif equals:
            return None
        if option not in _LEFT_OUT:
            kept += (
                [option]
                if form is None
                else [f"{option}={value}"]
                if value.startswith("-")
                else [option, value]
            )
    return kept if configurations == 1 else None


def _is_word(word: str) -> bool:
    return bool(word) and word.isprintable() and len(word) <= _LONGEST_WORD and not _ESCAPED.search(word)
