"""Write a workload and say what is known of it, of the software and of the machine. Started by engine.py."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
from pathlib import Path

from workloads import write_workload


def main() -> None:
    """Write the workload's folder and the facts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("network")
    parser.add_argument("images", type=int)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    found = write_workload(options.folder, options.network, options.images)
    options.result.write_text(json.dumps(found | {"versions": versions(), "processor": processor()}))


def versions() -> str:
    """Of Python and the packages that decide the speed."""
    import mpi_landscape

    said = [f"mpi_landscape {mpi_landscape.__version__}", f"Python {platform.python_version()}"]
    for package in ("torch", "torchvision", "numpy", "mpi4py", "h5py"):
        said.append(f"{package} {importlib.metadata.version(package)}")
    return ", ".join(said)


def processor() -> str:
    """The processor's model, with the vector instructions that torch uses on it."""
    from mpi_landscape.parallel.devices import cpu_name

    return cpu_name()


if __name__ == "__main__":
    main()
