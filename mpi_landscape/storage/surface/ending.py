"""Why a surface is as far as it is."""

from __future__ import annotations

from enum import Enum


class Ended(Enum):
    """How the computation of a surface ended; the value of each member is its sentence.

    Example:
        >>> Ended.TIME_LIMIT.sentence
        'the time limit was reached; run the same again to go on'
        >>> Ended.of("SIGTERM (rank 3)"), Ended.of("the time limit of 60 s"), Ended.of(None)
        (<Ended.SIGNAL>, <Ended.TIME_LIMIT>, <Ended.FINISHED>)
    """

    FINISHED = "all that was asked for is done"
    TIME_LIMIT = "the time limit was reached; run the same again to go on"
    SIGNAL = "a signal has stopped it; run the same again to go on"
    UNFINISHED = "something is left, and the file does not say why; run the same again to go on"

    @property
    def sentence(self) -> str:
        """What happened, and what to do."""
        return self.value

    @classmethod
    def of(cls, stopped: str | None) -> Ended:
        """What the words say with which a job has stopped; None at its end."""
        if stopped is None:
            return cls.FINISHED
        return cls.SIGNAL if stopped.startswith("SIG") else cls.TIME_LIMIT

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}>"

    def __str__(self) -> str:
        return self.sentence
