"""Where and with what a file was made."""

from __future__ import annotations

import platform
import shlex
import socket
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import h5py

from mpi_landscape import __version__


def provenance(
    packages: Iterable[str] = ("torch", "torchvision", "numpy", "h5py", "mpi4py"),
) -> dict[str, str]:
    """Versions, host, command and time, as attributes."""
    facts = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(_command(sys.argv)),
        "folder": str(Path.cwd()),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "version_mpi_landscape": __version__,
        "version_python": platform.python_version(),
        "version_hdf5": h5py.version.hdf5_version,
    }
    for package in packages:
        try:
            facts[f"version_{package}"] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[f"version_{package}"] = "absent"
    return facts


def _command(words: Sequence[str]) -> list[str]:
    """The command that started this process, as a person would type it again."""
    place = Path(words[0])
    if place.parent.name == "mpi_landscape" and place.suffix == ".py":
        return ["python", "-m", f"mpi_landscape.{place.stem}", *words[1:]]
    return ["python", *words] if place.suffix == ".py" else list(words)
