"""What was decided once for a file and is a part of its bits, or of its tiles: read once, and taken over by later runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What a file that may be continued was made with; empty for a new one.

    Attributes:
        batch_size: Examples in a batch.
        engine: Text of how the network was rewritten.
        shards: Number of data shards by split; empty where they are those of samples.
        points_per_tile: Grid points in a tile.
        returned: Further numbers of the loss that it keeps; None for a new file.
    """

    batch_size: int | None = None
    engine: str | None = None
    shards: Mapping[str, int] = field(default_factory=dict)
    points_per_tile: int | None = None
    returned: tuple[str, ...] | None = None

    @classmethod
    def of(cls, attributes: Mapping[str, Any], returned: tuple[str, ...] = ()) -> Decisions:
        """As a file's attributes and its columns have them.

        Example:
            >>> Decisions.of({"batch_size": 64, "splits": "train, test", "shards": [4, 1], "points_per_tile": 8})
            Decisions(batch_size=64, engine=None, shards={'train': 4, 'test': 1}, points_per_tile=8, returned=())
        """
        size, points = int(attributes.get("batch_size", 0)), attributes.get("points_per_tile")
        shards: dict[str, int] = {}
        if "shards" in attributes and "identity_samples" not in attributes:
            shards = dict(
                zip(str(attributes["splits"]).split(", "), map(int, attributes["shards"]), strict=False)
            )
        return cls(
            batch_size=size if size > 0 else None,
            engine=attributes.get("engine"),
            shards=shards,
            points_per_tile=None if points is None else int(points),
            returned=returned,
        )
