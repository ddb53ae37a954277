"""Where and with what a file was made."""

from __future__ import annotations

import platform
import shlex
import socket
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import metadata

import h5py

from mpi_landscape import __version__


def provenance(
    packages: Iterable[str] = ("torch", "torchvision", "numpy", "h5py", "mpi4py"),
) -> dict[str, str]:
    """Versions, host, command and time, as attributes."""
    facts = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
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
