"""Where weights are: a file or a folder, and which of what it holds."""

from __future__ import annotations

from dataclasses import dataclass

# A direction's end has the key and the part of the model's checkpoint, unless it says another, or this: neither.
TOP = "."


@dataclass(frozen=True, kw_only=True)
class Source:
    """Weights of one network.

    Attributes:
        path: A file or a folder.
        key: Where in the file the state dictionary is, such as "ema.module"; None finds it.
        part: What names in it begin with that belong to the network, such as "student"; None takes all.
        field: The section of a configuration that says key and part, for messages.
    """

    path: str
    key: str | None = None
    part: str | None = None
    field: str = "model"
