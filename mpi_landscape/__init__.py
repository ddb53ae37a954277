"""Loss landscapes of neural networks at scale: f(α, β) = L(θ* + αδ + βη)."""

import sys
from typing import TYPE_CHECKING, Any

from mpi_landscape.errors import LandscapeError, check_system
from mpi_landscape.shortage import say_shortages

if TYPE_CHECKING:
    from mpi_landscape.recording.recorder import Recorder
    from mpi_landscape.scripting import landscape

__all__ = ["LandscapeError", "Recorder", "__version__", "landscape"]
__version__ = "0.1.0"

# So a module's package is imported by `python -m`, before the module: of a program, not of a script that has errors of its own.
if sys.argv[:1] == ["-m"]:
    say_shortages()


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for: the package itself must load at once."""
    if name in ("landscape", "Recorder"):
        check_system()
        try:
            if name == "Recorder":
                from mpi_landscape.recording.recorder import Recorder

                return Recorder
            from mpi_landscape.scripting import landscape
        except AttributeError as error:
            # Python would take it for the answer that there is no such name, and hide the reason.
            raise ImportError(f"mpi_landscape.{name} cannot be imported: {error}") from error
        return landscape
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
