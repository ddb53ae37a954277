"""Loss landscapes of neural networks at scale: f(α, β) = L(θ* + αδ + βη)."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpi_landscape.errors import LandscapeError, check_system
from mpi_landscape.shortage import say_shortages

if TYPE_CHECKING:
    from mpi_landscape.recording.recorder import Recorder
    from mpi_landscape.scripting.connections import connect
    from mpi_landscape.scripting.curvatures import hessian
    from mpi_landscape.scripting.surfaces import landscape
    from mpi_landscape.scripting.training import train
    from mpi_landscape.scripting.trajectories import trajectory

__all__ = [
    "LandscapeError",
    "Recorder",
    "__version__",
    "connect",
    "hessian",
    "landscape",
    "train",
    "trajectory",
]
__version__ = "0.1.0"

# So a module's package is imported by `python -m`, before the module: of a program, not of a script that has errors of its own.
if sys.argv[:1] == ["-m"]:
    say_shortages()


# Name -> where it is; `connect`, `hessian`, `train` and `trajectory` are programs of these names, which can also be called.
_DOORS = {
    "Recorder": ("mpi_landscape.recording.recorder", "Recorder"),
    "connect": ("mpi_landscape.connect", None),
    "hessian": ("mpi_landscape.hessian", None),
    "landscape": ("mpi_landscape.scripting.surfaces", "landscape"),
    "train": ("mpi_landscape.train", None),
    "trajectory": ("mpi_landscape.trajectory", None),
}


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for: the package itself must load at once."""
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_system()
    module, inner = _DOORS[name]
    try:
        found = import_module(module)
    except AttributeError as error:
        # Python would take it for the answer that there is no such name, and hide the reason.
        raise ImportError(f"mpi_landscape.{name} cannot be imported: {error}") from error
    return found if inner is None else getattr(found, inner)
