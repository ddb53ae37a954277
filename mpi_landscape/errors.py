"""The one family of errors that a user is expected to meet."""

import os
import unicodedata


class LandscapeError(Exception):
    """Bad input or a refusal, known before any expensive work.

    The text is one line: where, what was given, what is valid or what to do. Programs print
    it without a traceback and leave with exit status 2.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class InvalidSectionError(LandscapeError, ValueError):
    """Fields of a value that cannot be, or do not fit together; a ValueError too, so that pydantic adds the path.

    The text begins with the name of the field at fault, which `field` says too where there is only one.
    """

    def __init__(self, text: str, field: str = "") -> None:
        super().__init__(text)
        self.field = field


class EchoedError(LandscapeError):
    """What another rank has refused, raised here too because both worked together; that rank says who it is."""


class LostRankError(Exception):
    """A rank is gone, or has been silent for too long; the rank that meets this ends the job, which can be run again."""


class LostFileError(Exception):
    """The file of a job is no longer where it was, or no longer holds what was written; the job fails with one line."""


class AgreedError(LandscapeError):
    """A `LandscapeError` that every rank raises at the same place, so that all can leave in good order."""


class SystemNotSupportedError(LandscapeError, ImportError):
    """The operating system has no locks of files, signals and shared memory as POSIX has them."""


def check_system() -> None:
    """Refuse a system on which nothing can be computed, before an import fails for a reason that says nothing.

    Raises:
        SystemNotSupportedError: It is Windows.
    """
    if os.name != "posix":
        raise SystemNotSupportedError(
            "mpi_landscape computes on Linux and macOS; on Windows it runs in WSL (wsl --install, then as on Linux)"
        )


def printable(text: str) -> str:
    r"""Write control and format characters, which a terminal would obey, hide or reorder, as their escapes.

    Files and messages may hold anything; line breaks and tabulators stay.

    Example:
        >>> printable("red: \x1b[31m")
        'red: \\x1b[31m'
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    kind = unicodedata.category(character)
    harmless = character in "\n\t" or (kind[0] != "C" and kind not in ("Zl", "Zp"))
    return character if harmless else character.encode("unicode_escape").decode()
