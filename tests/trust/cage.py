"""Runs programs, each in a forked process of its own with little memory and time, and says how each ended.

A line of JSON on standard input asks for one: program, argv, folder. A line of JSON on standard output answers. The
libraries are imported once, so that hundreds of hostile files take seconds; libhdf5 may crash on one without taking the
others along.
"""

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

# A child may map so much more than the libraries alone.
MEMORY = 3 * 2**29
SECONDS = 300
# What would be the work of a file that is executed; seen by the interpreter itself, whatever the code then does.
EXECUTED = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn")
EXECUTED_STATUS = 99
PROGRAMS = {
    "surface": "mpi_landscape.surface",
    "train": "mpi_landscape.train",
    "inspect": "mpi_landscape.inspect",
    "plotting": "plotting.__main__",
}

# What the programs import only when they come to it: two seconds, once for all.
LATER = (
    "torch._dynamo",
    "torch.func",
    "matplotlib.backends.backend_agg",
    "mpl_toolkits.mplot3d",
    "sklearn.datasets",
    "torchvision.models",
    "mpi_landscape.surfaces.request",
    "mpi_landscape.surfaces.computing",
    "mpi_landscape.parallel.stopping",
    "mpi_landscape.configuration.reading",
    "mpi_landscape.solutions.sweep",
)


def serve() -> None:
    sys.dont_write_bytecode = True
    for name in (*PROGRAMS.values(), *LATER):
        importlib.import_module(name)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    for line in sys.stdin:
        answers.write(json.dumps(_caged(json.loads(line))) + "\n")
        answers.flush()


def _caged(case: dict) -> dict:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            _run(case, out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="backslashreplace"))
    return {
        "status": os.waitstatus_to_exitcode(status),
        "out": texts[0],
        "err": texts[1],
        "seconds": time.monotonic() - start,
    }


def _run(case: dict, out: int, err: int) -> None:
    """Never returns; a program that hangs is ended by SIGALRM, whatever it waits for."""
    status = 70
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(case.get("seconds", SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        for number, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(number, target)
        os.chdir(case["folder"])
        sys.path.insert(0, case["folder"])
        sys.addaudithook(_refuse_execution)
        argv = case["argv"]
        sys.argv = [PROGRAMS[case["program"]], *argv]
        try:
            status = importlib.import_module(PROGRAMS[case["program"]]).main(argv) or 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        os.write(err, f"Traceback: {type(error).__name__}: {error}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(status)


def _refuse_execution(event: str, _: tuple) -> None:
    if event in EXECUTED:
        os.write(2, f"executed: {event}\n".encode())
        os._exit(EXECUTED_STATUS)


if __name__ == "__main__":
    serve()
