"""Jobs over two hosts, started on the first one by a real launcher that reaches the second through an agent."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import mpi_landscape
from tests.hosts.cluster import INTERFACE, Cluster, cluster, obstacle
from tests.programs.conftest import _contents as contents  # noqa: F401
from tests.programs.conftest import computed, here, study  # noqa: F401

# The first word names the host on which a job is started.
HOSTS = ("first", "second")
RANKS_PER_HOST = 2


@dataclass(frozen=True, kw_only=True)
class Job:
    """A program on all hosts; it ends with the test at the latest."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return self.log.read_text(errors="replace")

    def end(self, timeout: float) -> int:
        """Its exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the job has not ended in {timeout:g} s\n{self.output}")


@pytest.fixture
def two_hosts(tmp_path_factory) -> Iterator[Cluster]:
    """Two hosts on a network of their own."""
    reason = obstacle()
    if reason is not None:
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("hosts"), HOSTS) as made:
        yield made


@pytest.fixture
def start(two_hosts, mpiexec, launch_environment, tmp_path) -> Iterator[Callable[..., Job]]:
    """Start a module of Python on two ranks of each host, in the test's folder."""
    with ExitStack() as files:

        def run(module: str, *arguments: str, **environment: str) -> Job:
            log = tmp_path / f"job_{len(list(tmp_path.glob('job_*')))}.log"
            settings = {
                **launch_environment,
                # Open MPI's, whichever way its version wants to be told; MPICH's have options only.
                "OMPI_MCA_plm_rsh_agent": str(two_hosts.agent),
                "OMPI_MCA_btl_tcp_if_include": INTERFACE,
                "OMPI_MCA_oob_tcp_if_include": INTERFACE,
                # Each host believes that it has the cores for itself; a rank that waits would keep one from another.
                "OMPI_MCA_mpi_yield_when_idle": "1",
                "PRTE_MCA_plm_ssh_agent": str(two_hosts.agent),
                "PYTHONPATH": str(Path(mpi_landscape.__file__).parents[1]),
                **environment,
            }
            words = [
                "env",
                *(f"{name}={value}" for name, value in settings.items()),
                *_launcher(mpiexec, two_hosts),
                *(sys.executable, "-m", module, *arguments),
            ]
            process = subprocess.Popen(
                two_hosts.hosts[HOSTS[0]].command(*words, cwd=tmp_path),
                # Without what an Open MPI in this very process has left for its children.
                env=dict(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=files.enter_context(log.open("wb")),
                stderr=subprocess.STDOUT,
            )
            return Job(process=process, log=log)

        yield run


def _launcher(mpiexec: str, hosts: Cluster) -> list[str]:
    """Two ranks on each host."""
    size = ["-n", str(RANKS_PER_HOST * len(HOSTS))]
    version = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, env=os.environ)
    if "HYDRA" in version.stdout:
        agent = ["-launcher", "rsh", "-launcher-exec", str(hosts.agent), "-iface", INTERFACE]
        return [mpiexec, *agent, "-hosts", ",".join(HOSTS), "-ppn", str(RANKS_PER_HOST), *size]
    if "Open MPI" in version.stdout or "OpenRTE" in version.stdout:
        return [mpiexec, "--host", ",".join(f"{name}:{RANKS_PER_HOST}" for name in HOSTS), *size]
    pytest.skip(f"{mpiexec} is neither MPICH's nor Open MPI's: pip install mpich, or apt install openmpi-bin")
