"""Jobs to be disturbed: the light one and the real program, alone or on several ranks, under strace or not."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults import light_job

HOUSE = Path(__file__).resolve().parents[2]
# No job here takes longer than some seconds; what has not ended by then hangs.
HANGS = 300.0
# What Open MPI needs to run as root and on fewer cores than ranks; MPICH needs nothing.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
# The number of the rank, as MPICH or Open MPI says it; 0 without a launcher.
RANK = "${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-0}}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """How to compute one surface file.

    Attributes:
        folder: Where; the file and the log are in it.
        ranks: How many.
        words: What python is told.
        light: Whether it is the light job, which notes its tiles.
        log: Where it notes them; not there for the program.
        environment: More variables.
    """

    folder: Path
    ranks: int
    words: tuple[str, ...]
    light: bool
    log: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The surface file."""
        return self.folder / "surface.h5"

    def finished(self) -> set[int]:
        """The tiles of which the light job said that they were finished."""
        return {int(line.split()[1]) for line in self.noted() if line.startswith("tile ")}

    def processes(self) -> dict[int, int]:
        """The process of each rank of the light job, as far as they have begun; the last ones, of several jobs."""
        lines = (line.split() for line in self.noted() if line.startswith("rank "))
        return {int(rank): int(process) for _, rank, process in lines}

    def noted(self) -> list[str]:
        """The whole lines of the log."""
        return self.log.read_text().split("\n")[:-1] if self.log.exists() else []

    def clear(self) -> None:
        """As if it had never run."""
        for path in self.folder.iterdir():
            if "surface.h5" in path.name:
                path.unlink()
        self.log.unlink(missing_ok=True)


def light(
    folder: Path,
    writer: str,
    ranks: int,
    *,
    pause: float = 0.0,
    gate: Path | None = None,
    log: Path | None = None,
) -> Job:
    """The light job; `log` where it is not to lie beside the file."""
    log = log or folder / "finished.txt"
    words = ["-m", "tests.faults.light_job", str(folder / "surface.h5"), "--writer", writer]
    words += ["--log", str(log), "--pause", str(pause)]
    words += ["--gate", str(gate)] if gate else []
    return Job(folder=folder, ranks=ranks, words=tuple(words), light=True, log=log)


def program(folder: Path, writer: str, ranks: int, *, pause: float = 0.0) -> Job:
    """The real program on a quadratic bowl of 7 x 4 points in 20 tiles; `pause` is for each batch."""
    import torch

    from tests.programs.conftest import CONFIGURATION, QUADRATIC

    (folder / "targets_of_faults.py").write_text(textwrap.dedent(QUADRATIC))
    study = folder / "study.yaml"
    study.write_text(textwrap.dedent(CONFIGURATION).format(module="targets_of_faults", folder=folder))
    generator = torch.Generator().manual_seed(3)
    center = {"weight": torch.randn(3, 4, generator=generator), "bias": torch.randn(5, generator=generator)}
    torch.save(center, folder / "center.pt")
    words = ("-m", "mpi_landscape.surface", str(study), "--writer", writer)
    return Job(
        folder=folder,
        ranks=ranks,
        words=words,
        light=False,
        log=folder / "none",
        environment={"SLEEP": str(pause)},
    )


def launcher() -> str | None:
    """The mpiexec that belongs to this interpreter: of its own wheel, else of the machine."""
    own = Path(sys.executable).parent / "mpiexec"
    return str(own) if own.exists() else shutil.which("mpiexec")


def start(
    job: Job, *, rank: int = 0, strace: tuple[str, ...] = (), trace: Path | None = None
) -> subprocess.Popen:
    """Start a job.

    Args:
        job: Which.
        rank: The rank that runs under strace, if one does.
        strace: What strace is told beside the files: `-e trace=...` and `-e inject=...`; none, no strace.
        trace: Where strace writes what it sees.
    """
    command = [sys.executable, *job.words]
    if strace:
        command = ["sh", "-c", _under_strace(job, rank, strace, trace), "sh", *command]
    if job.ranks > 1:
        command = [str(launcher()), "-n", str(job.ranks), *command]
    path = os.pathsep.join(part for part in (str(HOUSE), os.environ.get("PYTHONPATH")) if part)
    return subprocess.Popen(
        command,
        cwd=job.folder,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path, **job.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _under_strace(job: Job, rank: int, strace: tuple[str, ...], trace: Path | None) -> str:
    """A shell script that becomes the program that it is given, on one rank under strace."""
    # With -D the program keeps the shell's process number, which is in the name of the file that is being created.
    file = job.file.resolve()
    files = f"-P {shlex.quote(str(file))} -P {shlex.quote(f'{file.parent}/.{file.name}.')}$$.new"
    words = " ".join(shlex.quote(word) for word in ("-s", "0", "-o", str(trace or os.devnull), *strace))
    # A filter in the kernel makes all other calls free, but with it strace 6.1 delivers no signals; then at least the
    # other threads, which do not write, are left alone.
    fast = "" if any("signal=" in word for word in strace) else "-f --seccomp-bpf"
    return f'[ "{RANK}" = {rank} ] || exec "$@"; exec strace -D -qq {fast} {files} {words} "$@"'


def end(process: subprocess.Popen, timeout: float = HANGS) -> tuple[str, str]:
    """Wait for a job's end; what hangs is killed.

    Returns:
        What it printed, on standard output and error.

    Raises:
        TimeoutError: It hung.
    """
    try:
        return process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_all(process)
        raise TimeoutError(f"{process.args} hung for {timeout:g} s") from None


def wait_until(happened: Callable[[], bool], timeout: float = HANGS) -> bool:
    """Look until something has happened; whether it has."""
    deadline = time.monotonic() + timeout
    while not (seen := happened()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return seen


def descendants(process: subprocess.Popen) -> list[psutil.Process]:
    """Everything that a job has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def kill_all(process: subprocess.Popen) -> None:
    """Kill every process of a job at once, and wait until none is left."""
    # Each by itself, not the process group: launchers give ranks groups of their own.
    family = descendants(process)
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    process.communicate(timeout=HANGS)
    _, alive = psutil.wait_procs(family, timeout=HANGS)
    if alive:
        raise TimeoutError(f"{process.args} cannot be killed")


def resume(job: Job) -> None:
    """Complete a job's file: the light one in this process by the root writer, the program as it was started.

    Raises:
        RuntimeError: The program did not succeed.
    """
    if job.light:
        light_job.resume(job.file)
    else:
        resume_as_started(job)


def resume_as_started(job: Job) -> None:
    """Complete a job's file by the very command that began it.

    Raises:
        RuntimeError: It did not succeed.
    """
    process = start(job)
    _, printed = end(process)
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}: {printed}")
