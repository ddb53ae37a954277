"""Loss landscapes of neural networks at scale: f(α, β) = L(θ* + αδ + βη)."""

from mpi_landscape.errors import LandscapeError

__all__ = ["LandscapeError", "__version__"]
__version__ = "0.1.0"
