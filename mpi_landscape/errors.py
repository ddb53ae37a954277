"""The one family of errors that a user is expected to meet."""

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

    Args:
        text: Without the path to the value.
        field: The field at fault, with whose name the text begins; empty where there are several.
    """

    def __init__(self, text: str, field: str = "") -> None:
        super().__init__(text)
        self.field = field


class EchoedError(LandscapeError):
    """What another rank has refused, raised here too because both worked together; that rank says who it is."""


class LostRankError(Exception):
    """A rank is gone, or has been silent for too long; the rank that meets this ends the job, which can be run again."""


class AgreedError(LandscapeError):
    """A `LandscapeError` that every rank raises at the same place, so that all can leave in good order."""


def printable(text: str) -> str:
    r"""Write what a terminal would obey, hide or reorder as its escape: files and messages may hold anything.

    Args:
        text: From a file, a file's name or the command line.

    Returns:
        The same text without control and format characters; line breaks and tabulators stay.

    Example:
        >>> printable("red: \x1b[31m")
        'red: \\x1b[31m'
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    kind = unicodedata.category(character)
    harmless = character in "\n\t" or (kind[0] != "C" and kind not in ("Zl", "Zp"))
    return character if harmless else character.encode("unicode_escape").decode()
