"""Files that were cut or whose bytes were flipped: whatever a disk or a copy may do to a file that nobody writes.

Every trial runs in a process of its own, as HDF5 might not survive what it reads there.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface.reader import read_surface, verify_tiles
from tests.faults import light_job
from tests.faults.aftermath import contents

# Reading and completing this small a file takes some hundredths of a second.
HANGS = 300.0
# What a trial can end with.
SAME, REFUSED, OTHER, SHOWN = "same bits", "refused in a line", "other bits", "wrong values shown"
CRASHED, HUNG, RAISED = "crashed", "hung", "raised something else"
HARMLESS = (SAME, REFUSED)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One damage and what came of it.

    Attributes:
        damage: In words.
        ending: One of the constants above.
        text: The refusal, or whatever was raised.
        shown: Whether a reader showed wrong values as results before anything was done about it.
    """

    damage: str
    ending: str
    text: str = ""


def cut(path: Path, chance: random.Random) -> str:
    """Cut a file at a random place."""
    size = chance.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"cut to {size} bytes"


def flip(path: Path, chance: random.Random, start: int = 0, stop: int | None = None) -> str:
    """Turn one bit of a random byte."""
    place = chance.randrange(start, stop or path.stat().st_size)
    bit = chance.randrange(8)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ (1 << bit)]))
    return f"bit {bit} of byte {place} turned"


def trial(original: Path, folder: Path, damage: Callable[[Path], str], reference: dict[str, bytes]) -> Trial:
    """Damage a copy of a file of the light job, read it and complete it, in a process of its own."""
    path = folder / "surface.h5"
    for old in folder.iterdir():
        old.unlink()
    shutil.copy(original, path)
    words = damage(path)
    report = folder / "report"
    child = os.fork()
    if child == 0:
        _try(path, reference, report)
    deadline = time.monotonic() + HANGS
    while True:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Trial(damage=words, ending=HUNG)
        time.sleep(0.002)
    if os.WIFSIGNALED(status):
        return Trial(damage=words, ending=CRASHED, text=signal.Signals(os.WTERMSIG(status)).name)
    ending, _, text = report.read_text().partition("\n")
    return Trial(damage=words, ending=ending, text=text)


def _try(path: Path, reference: dict[str, bytes], report: Path) -> None:
    """Read, verify, complete; write how it ended, and leave."""
    status = 1
    with contextlib.suppress(BaseException):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        report.write_text(_ending(path, reference))
        status = 0
    sys.stdout.flush()
    os._exit(status)


def _ending(path: Path, reference: dict[str, bytes]) -> str:
    try:
        read_surface(path)
        verify_tiles(path)
        light_job.resume(path)
        return SAME if contents(path) == reference else f"{OTHER}\n{_differing(path, reference)}"
    except LandscapeError as error:
        return f"{REFUSED}\n{error}"
    except Exception as error:
        return f"{RAISED}\n{type(error).__name__}: {error}"


def _differing(path: Path, reference: dict[str, bytes]) -> str:
    found = contents(path)
    return ", ".join(sorted(name for name in {*found, *reference} if found.get(name) != reference.get(name)))
