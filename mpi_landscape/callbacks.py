"""Recorders for other people's trainers: `LightningRecorder` for Lightning, `HuggingFaceRecorder` for transformers.

Neither library is imported before its callback is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpi_landscape.errors import LandscapeError

if TYPE_CHECKING:
    from mpi_landscape.recording.of_lightning import LightningRecorder
    from mpi_landscape.recording.of_transformers import HuggingFaceRecorder

__all__ = ["HuggingFaceRecorder", "LightningRecorder"]

# Name -> its module, and the package that it needs.
_CALLBACKS = {
    "LightningRecorder": ("mpi_landscape.recording.of_lightning", "lightning"),
    "HuggingFaceRecorder": ("mpi_landscape.recording.of_transformers", "transformers"),
}


def __getattr__(name: str) -> Any:
    """Import a trainer's library when its callback is asked for.

    Raises:
        LandscapeError: The library is not installed.
    """
    if name not in _CALLBACKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_CALLBACKS)}")
    module, package = _CALLBACKS[name]
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise LandscapeError(f"{name} needs {package}: pip install {package} ({error})") from error
