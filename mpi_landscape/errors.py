"""The one family of errors that a user is expected to meet."""


class LandscapeError(Exception):
    """Bad input or a refusal, known before any expensive work.

    The text is one line: where, what was given, what is valid or what to do. Programs print
    it without a traceback and leave with exit status 2.
    """


class EchoedError(LandscapeError):
    """What another rank has refused, raised here too because both worked together; that rank says who it is."""


class LostRankError(Exception):
    """A rank is gone, or has been silent for too long; whoever meets it ends the job, which can be run again."""


class AgreedError(LandscapeError):
    """A `LandscapeError` that every rank raises at the same place, so that all can leave in good order."""
