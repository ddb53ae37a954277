"""Faults at system calls that touch the surface file or the file that becomes it: kills and errors, by strace."""

import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.faults import jobs
from tests.faults.aftermath import Aftermath, aftermath, contents, verified_tiles
from tests.faults.jobs import Job

# Everything by which a process can change a file or its name. Which of them the writers really use is counted.
CALLS = (
    "pwrite64,pwritev,pwritev2,write,writev,ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,msync,"
    "rename,renameat,renameat2,unlink,unlinkat,openat,mmap,lseek,close"
)
# Of those, what does not change the file itself: seen, to be sure, but no reason to kill again and again.
QUIET = {"mmap", "lseek", "close"}
WRITES = ("pwrite64", "pwritev", "write", "writev")


@dataclass(frozen=True, order=True)
class Point:
    """One system call of an undisturbed job: the rank, the call's name, and how many of this name came before, plus 1."""

    rank: int
    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call} {self.number} of rank {self.rank}"


def strace_is_missing() -> str | None:
    """Why nothing can be injected here, with what to do; None when it can."""
    if shutil.which("strace") is None:
        return "no strace: apt install strace"
    return None


def points(job: Job) -> list[Point]:
    """Every system call by which an undisturbed job changes its file, creation and tiles."""
    found = []
    for rank in range(job.ranks):
        job.clear()
        trace = job.folder / f"trace_{rank}"
        process = jobs.start(job, rank=rank, strace=("-e", f"trace={CALLS}"), trace=trace)
        _, printed = jobs.end(process)
        if process.returncode:
            raise RuntimeError(f"undisturbed under strace: exit status {process.returncode}: {printed}")
        found += [
            Point(rank, call, number + 1)
            for call, times in sorted(count(trace).items())
            if call not in QUIET
            for number in range(times)
        ]
    return found


def count(trace: Path) -> Counter[str]:
    """How often each system call stands in what strace wrote."""
    begun = re.compile(r"^(?:\d+\s+)?([a-z0-9_]+)\(")
    return Counter(match[1] for line in trace.read_text().splitlines() if (match := begun.match(line)))


def kill_at(job: Job, point: Point, reference: dict[str, bytes]) -> Aftermath | None:
    """Kill one rank at the entry of a system call, and look.

    Returns:
        What is left; None where the job came to its end without that call, as tiles fall to ranks by chance.
    """
    before = verified_tiles(job.file)
    inject = ("-e", f"trace={point.call}", "-e", f"inject={point.call}:signal=KILL:when={point.number}")
    process = jobs.start(job, rank=point.rank, strace=inject)
    jobs.end(process)
    if process.returncode == 0:
        return None
    finished = job.finished() if job.light else before
    return aftermath(job.file, finished, reference, lambda: jobs.resume(job))


def fail_at(
    job: Job, point: Point, error: str, reference: dict[str, bytes], *, once: bool = False
) -> Aftermath:
    """Let a system call fail, and every later one of its name; then make room and resume.

    Args:
        job: Which.
        point: From where on.
        error: `ENOSPC`, `EIO`, ...
        reference: The contents of an undisturbed file.
        once: Whether later calls succeed.
    """
    before = verified_tiles(job.file)
    when = f"{point.number}" if once else f"{point.number}+"
    inject = ("-e", f"trace={point.call}", "-e", f"inject={point.call}:error={error}:when={when}")
    process = jobs.start(job, rank=point.rank, strace=inject)
    _, printed = jobs.end(process)
    finished = job.finished() if job.light else before
    notes = tuple(complaints(process.returncode, printed)) if process.returncode else ()
    if process.returncode == 0 and contents(job.file) != reference:
        notes = ("ended as if nothing had happened, with other bits",)
    return aftermath(job.file, finished, reference, lambda: jobs.resume(job), notes)


def complaints(status: int, printed: str) -> Iterable[str]:
    """What must not be in the end of a job that has met an error."""
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    if len(errors) != 1:
        yield f"{len(errors)} lines of error instead of one: {printed[-600:]!r}"
    for word in ("Traceback", "Segmentation", "signal 11", "signal 6", "SIGSEGV", "SIGABRT", "HDF5-DIAG"):
        if word in printed:
            yield f"{word}: {printed[-600:]!r}"
    if status < 0:
        yield f"ended by signal {-status}"
