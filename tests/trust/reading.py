"""Reads one file after the other, as the programs do, and says how each ended and what memory it took.

A line of JSON on standard input asks for one: kind and path. A line of JSON on standard output answers, unless the process has
ended: by a crash, or by SIGPROF after ten seconds of processor time.
"""

import io
import json
import os
import resource
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path

from mpi_landscape import inspect
from mpi_landscape.configuration import reading
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.problem.checkpoints import read_state
from mpi_landscape.storage.history.records import is_history
from mpi_landscape.storage.surface import schema
from mpi_landscape.storage.surface.constants import check_constants
from mpi_landscape.storage.surface.reader import (
    read_attributes,
    read_beginning,
    read_direction,
)

# Address space beyond what is mapped already and the file's size.
MEMORY = 2**30
SECONDS = 10


def checkpoint(path: str) -> None:
    for name, value in read_state(path).items():
        assert isinstance(name, str)
        # Whoever takes a tensor copies it.
        value.clone()


def configuration(path: str) -> None:
    options = []
    text = Path(path).read_bytes()
    # What stands behind a NUL is an option.
    if b"\0" in text:
        text, _, option = text.partition(b"\0")
        options = [option.decode(errors="replace")]
        Path(path).write_bytes(text)
    for member in reading.load_members(path, options):
        reading.load_text(reading.to_yaml(member), where="again")


def surface(path: str) -> None:
    for as_json in (False, True):
        with redirect_stdout(io.StringIO()) as out:
            inspect.run(inspect.build_parser().parse_args([path, *["--json"] * as_json]), Ranks())
        if as_json:
            json.loads(out.getvalue())
    if not is_history(path):
        read_attributes(path)
        read_beginning(path)
        with schema.open_file(Path(path), "r") as file:
            grid, plan, _ = schema.read_plan(file)
        check_constants(Path(path), grid, plan)
        for name in ("center", "alpha", "beta"):
            read_direction(path, name)


READERS = {"checkpoint": checkpoint, "configuration": configuration, "surface": surface}


def status(name: str) -> int:
    """A number of bytes of /proc/self/status."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(f"{name}:"))


def read(kind: str, path: str) -> dict:
    size = Path(path).stat().st_size
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = status("VmRSS")
    limit = status("VmSize") + size + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        READERS[kind](path)
        outcome, said = "accepted", ""
    except LandscapeError as error:
        said = str(error)
        is_short = len(said) < 3000 and " ".join(said.split()).isprintable()
        outcome = "refused" if is_short else "others"
        if "MemoryError" in said or "allocate" in said:
            outcome = "too_much"
    except MemoryError as error:
        outcome, said = "too_much", repr(error)
    except BaseException as error:
        outcome, said = "others", f"{type(error).__name__}: {str(error)[:300]}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {"outcome": outcome, "said": said[:500], "memory": max(0, status("VmHWM") - before - size)}


def serve() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.dont_write_bytecode = True
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    for line in sys.stdin:
        answers.write(json.dumps(read(*json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
