"""Loss landscapes of neural networks at scale: f(α, β) = L(θ* + αδ + βη)."""

from typing import TYPE_CHECKING, Any

from mpi_landscape.errors import LandscapeError

if TYPE_CHECKING:
    from mpi_landscape.scripting import landscape

__all__ = ["LandscapeError", "__version__", "landscape"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for: the package itself must load at once."""
    if name == "landscape":
        from mpi_landscape.scripting import landscape

        return landscape
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
