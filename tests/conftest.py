"""What every room's tests may use: a real MPI launcher."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import pytest

import mpi_landscape


def expected() -> set[str]:
    """What this environment was made for, as it says itself: skipping the tests of that would be a false pass."""
    return set(filter(None, os.environ.get("MPI_LANDSCAPE_EXPECT", "").split(",")))


def pytest_configure() -> None:
    """Refuse to start without parallel HDF5 where it is expected."""
    if "parallel-hdf5" in expected() and not h5py.get_config().mpi:
        pytest.exit("parallel HDF5 is expected here, but h5py is built without MPI", returncode=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses `launch` is marked as `mpi`."""
    for item in items:
        if "launch" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.mpi)


@pytest.fixture(scope="session")
def mpiexec() -> str:
    """The launcher that belongs to this interpreter: of its own wheel, else of the machine."""
    own = Path(sys.executable).parent / "mpiexec"
    found = str(own) if own.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("no mpiexec: pip install mpich mpi4py, or the machine's MPI (apt install openmpi-bin)")
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("no mpi4py: pip install mpi4py")
    return found


@pytest.fixture(scope="session")
def launch_environment() -> dict[str, str]:
    """What makes every MPI start more ranks than there are cores, and as root."""
    # One thread per rank: the ranks of a test share few cores. Open MPI takes the rest, version 4 by the first name for
    # oversubscription and version 5 by the second; MPICH needs nothing.
    return {
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }


@pytest.fixture(scope="session")
def launch(
    mpiexec: str, launch_environment: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `mpiexec -n size python *argv` to its end; nothing of it is left after the timeout."""

    def run(
        size: int,
        *argv: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        house = str(Path(mpi_landscape.__file__).parents[1])
        path = os.pathsep.join(part for part in (house, os.environ.get("PYTHONPATH")) if part)
        command = [mpiexec, "-n", str(size), sys.executable, *map(str, argv)]
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **launch_environment, "PYTHONPATH": path, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            out, err = _end(process)
            pytest.fail(f"{' '.join(command)} hung for {timeout:g} s\n{out}\n{err}")
        except BaseException:
            _end(process)
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return run


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a launcher with all that it started, and return what they printed."""
    # TERM first: launchers give their ranks process groups of their own, which only they know.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=5)
    return "", ""
