"""SIGKILL at random instants, to one rank or to all."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psutil

from tests.faults import jobs
from tests.faults.aftermath import Aftermath, aftermath, contents, verified_tiles
from tests.faults.jobs import Job

# When one rank of a job has been killed, the others must have ended within this.
OTHERS_END_WITHIN = 10.0


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill.

    Attributes:
        whom: `all` or the number of a rank.
        tiles: How many tiles were finished when it fell, in this and in earlier jobs; None where it fell into the start.
        took: Seconds until no process was left.
        left: What is left.
    """

    whom: str
    tiles: int | None
    took: float
    left: Aftermath


def random_kills(job: Job, count: int, seed: int, reference: dict[str, bytes]) -> Iterator[Kill]:
    """Kill a job again and again; each goes on with the file of the one before, until it is complete.

    Every other kill hits all ranks, the others one of them. One in eight falls into the start, the others into the tiles.
    After each kill of the light job a copy of the file is completed by the root writer as well.

    Args:
        job: Which; its tiles should take some time.
        count: How many kills.
        seed: Of the instants.
        reference: The contents of an undisturbed file.

    Raises:
        RuntimeError: A job that came to its end left other bits than an undisturbed one.
    """
    chance = random.Random(seed)
    kills = 0
    job.clear()
    while kills < count:
        before = job.finished() if job.light else verified_tiles(job.file)
        begun = sum(line == "begun" for line in job.noted())
        process = jobs.start(job)
        into_start = chance.random() < 1 / 8
        if not into_start:
            _wait_for_work(job, process, begun, before)
        time.sleep(chance.uniform(0, 1.0 if into_start else 0.12))
        whom = "all" if kills % 2 else str(chance.randrange(job.ranks))
        took = _kill(job, process, whom)
        if took is None:
            _end(job, process, reference)
            continue
        kills += 1
        finished = job.finished() if job.light else before
        yield Kill(
            whom=whom,
            tiles=None if into_start else len(finished),
            took=took,
            left=_look(job, finished, reference, took),
        )
    jobs.resume_as_started(job)
    _check(job, reference)


def _end(job: Job, process: subprocess.Popen, reference: dict[str, bytes]) -> None:
    """Let a job end that was not killed, and begin anew."""
    _, printed = jobs.end(process)
    if process.returncode:
        raise RuntimeError(f"it was not killed, and ended with status {process.returncode}: {printed}")
    _check(job, reference)
    job.clear()


def _check(job: Job, reference: dict[str, bytes]) -> None:
    if contents(job.file) != reference:
        raise RuntimeError(f"{job.file}: other bits than without kills, after {len(job.noted())} notes")


def _wait_for_work(job: Job, process: subprocess.Popen, begun: int, before: set[int]) -> None:
    """Until the tiles are under way: the light job says so, the program has finished one more."""

    def under_way() -> bool:
        if process.poll() is not None:
            return True
        if job.light:
            return sum(line == "begun" for line in job.noted()) >= begun + job.ranks
        return len(verified_tiles(job.file)) > len(before)

    jobs.wait_until(under_way)


def _kill(job: Job, process: subprocess.Popen, whom: str) -> float | None:
    """Kill; returns the seconds until nobody was left, None where the rank had not begun or had ended."""
    if process.poll() is not None:
        return None
    family = [psutil.Process(process.pid), *jobs.descendants(process)]
    ranks = [each for each in family if _is_rank(job, each)]
    start = time.monotonic()
    if whom == "all":
        jobs.kill_all(process)
        return time.monotonic() - start
    try:
        os.kill(ranks[int(whom)].pid, signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        return None
    _, alive = psutil.wait_procs(family, timeout=OTHERS_END_WITHIN)
    took = time.monotonic() - start
    if alive:
        jobs.kill_all(process)
        return float("inf")
    process.communicate(timeout=jobs.HANGS)
    return took


def _is_rank(job: Job, process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return list(job.words) == process.cmdline()[1:]
    return False


def _look(job: Job, finished: set[int], reference: dict[str, bytes], took: float) -> Aftermath:
    """What is left. The next job goes on with the file itself, so it is a copy that is completed here."""
    notes = () if took <= OTHERS_END_WITHIN else (f"others were still there after {OTHERS_END_WITHIN:g} s",)
    if not job.light:
        return aftermath(job.file, finished, reference, None, notes)
    twin = job.folder / "twin"
    twin.mkdir(exist_ok=True)
    copied = replace(job, folder=twin, log=twin / "log")
    copied.clear()
    if job.file.exists():
        shutil.copy(job.file, copied.file)
    return aftermath(copied.file, finished, reference, lambda: jobs.resume(copied), notes)
