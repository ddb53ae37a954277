"""How much a file may come to in memory, and how a file is refused that is none of torch.save."""

from __future__ import annotations

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import amount

# What a file may come to in memory beyond its own bytes. A number in a list takes 32 bytes and 9 of the file: this is room for a
# list of ten million. Tensors are the file itself, mapped, and take nothing of it.
MARGIN = 2**29


class DamagedError(Exception):
    """A file is not as torch.save leaves it; the text says what is wrong, without a value of the file."""


class ForeignError(Exception):
    """A pickle names what is not known to hold values only; `name` is what it names."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Room:
    """What is left of the memory that the values of a file may take: its own bytes and `MARGIN`.

    Args:
        where: The file, for messages.
        num_bytes: Its size.
        is_strict: Whether what would be left unread is refused, as another reader may load the file afterwards.
    """

    def __init__(self, where: str, num_bytes: int, *, is_strict: bool = False) -> None:
        self.where, self.is_strict, self._num_bytes = where, is_strict, num_bytes
        self._left = num_bytes + MARGIN

    def take(self, num_bytes: int) -> None:
        """Count what is about to be made.

        Raises:
            LandscapeError: It is more than is left; nothing has been made of it.
        """
        self._left -= num_bytes
        if self._left < 0:
            raise LandscapeError(
                f"{self.where}: stands for more than it holds: values of more than {amount(self._num_bytes + MARGIN)}, in a "
                f"file of {amount(self._num_bytes)}; expected at most its own size and {amount(MARGIN)}"
            )
