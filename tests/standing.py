"""Ranks that stand ready: what a launch runs, without its start, which takes longer than most of what is run.

`mpiexec -n 3 python -m tests.standing SOCKET` is started once (`Standing`, below, in the tests' process). Each rank takes
a request after the other from a connection of its own, runs a program's `main` or a script as `mpiexec -n 3 python ...`
would, and says how it ended. What a program leaves behind is taken away, so that the next one finds a new process's state;
what cannot be (a thread that goes on) is said. Not for what kills, aborts, hangs, is signaled or looks at the launcher.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from typing import Any

HOUSE = str(Path(__file__).parents[1])
# What programs import when they come to it: once for all.
LATER = (
    "sklearn.datasets",
    "torch._dynamo",
    "torch.func",
    "mpi_landscape.configuration.reading",
    "mpi_landscape.connections.connecting",
    "mpi_landscape.scripting.surfaces",
    "mpi_landscape.solutions.sweep",
    "mpi_landscape.surfaces.computing",
)
STREAMS = ("stdout", "stderr")
# Seconds: a start takes seconds of a core, and a busy machine has many for each.
PATIENCE = 300.0


class Standing:
    """The ranks of one size, started when they are first asked for and again after a program that ended them.

    Args:
        command: What starts a Python program on so many ranks.
        size: How many.
        environment: Of the launcher.
    """

    def __init__(self, command: Sequence[str], size: int, environment: Mapping[str, str]) -> None:
        self._command, self._size, self._environment = list(command), size, dict(environment)
        self._ranks: list[Connection] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self, argv: Sequence[str], cwd: Path | None, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As `mpiexec -n size python *argv`, with the largest exit status; each rank's output behind that of the one before.

        Raises:
            RuntimeError: The ranks have ended, hang, or a program left something behind.
        """
        if not self._ranks:
            self._start()
        assert self._folder is not None
        folder = Path(self._folder.name)
        places = [[str(folder / f"{rank}.{name}") for name in STREAMS] for rank in range(self._size)]
        for rank, connection in enumerate(self._ranks):
            connection.send(
                {"argv": list(argv), "cwd": str(cwd or HOUSE), "env": dict(env), "out": places[rank]}
            )
        answers, reason = self._answers(timeout)
        out, err = (
            "".join(Path(place).read_text() for place in column if Path(place).exists())
            for column in zip(*places, strict=True)
        )
        if reason is not None:
            self.end(at_once=True)
            raise RuntimeError(
                f"python {' '.join(argv)} on {self._size} standing ranks: {reason}\n{out}\n{err}"
            )
        left = [f"rank {rank}: {answers[rank]['left']}" for rank in sorted(answers) if answers[rank]["left"]]
        if left:
            self.end()
            raise RuntimeError(f"python {' '.join(argv)} left something behind: {'; '.join(left)}")
        status = max(answer["status"] for answer in answers.values())
        return subprocess.CompletedProcess(list(argv), status, out, err)

    def _answers(self, timeout: float) -> tuple[dict[int, dict[str, Any]], str | None]:
        """By rank, how the program ended there; and why not all ranks answered."""
        deadline = time.monotonic() + timeout
        answers: dict[int, dict[str, Any]] = {}
        while len(answers) < self._size:
            silent = [each for rank, each in enumerate(self._ranks) if rank not in answers]
            ready = wait(silent, max(0.0, deadline - time.monotonic()))
            if not ready:
                return (
                    answers,
                    f"ranks {sorted(set(range(self._size)) - answers.keys())} hung for {timeout:g} s",
                )
            for each in ready:
                assert isinstance(each, Connection)
                rank = self._ranks.index(each)
                try:
                    answers[rank] = each.recv()
                except (EOFError, OSError):
                    return answers, f"rank {rank} has ended"
        return answers, None

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ranks_")
        place = str(Path(self._folder.name) / "here")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(place)
            listening.listen(self._size)
            listening.settimeout(1.0)
            log = (Path(self._folder.name) / "log").open("wb")
            with log:
                self._process = subprocess.Popen(
                    [*self._command, "-m", "tests.standing", place],
                    env=self._environment,
                    cwd=HOUSE,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            deadline = time.monotonic() + PATIENCE
            found: dict[int, Connection] = {}
            while len(found) < self._size:
                try:
                    connection = Connection(listening.accept()[0].detach())
                    found[connection.recv()] = connection
                except TimeoutError:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        said = Path(log.name).read_text(errors="replace")
                        self.end(at_once=True)
                        raise RuntimeError(f"{self._size} standing ranks do not start: {said}") from None
        self._ranks = [found[rank] for rank in range(self._size)]

    def end(self, *, at_once: bool = False) -> None:
        """Let the ranks go; those that do not go by themselves are ended."""
        for connection in self._ranks:
            connection.close()
        self._ranks = []
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0 if at_once else 60)
            end_group(self._process)
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def end_group(process: subprocess.Popen[Any]) -> None:
    """End a launcher with all that it started."""
    # TERM first: launchers give their ranks process groups of their own, which only they know.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return


def serve(place: str) -> None:
    """A rank's side: requests until the tests' process has no more."""
    from mpi_landscape.parallel.launcher import open_ranks

    sys.dont_write_bytecode = True
    ranks = open_ranks()
    for name in LATER:
        importlib.import_module(name)
    with Client(place) as connection:
        connection.send(ranks.rank)
        while True:
            try:
                request = connection.recv()
            except EOFError:
                return
            connection.send(_answer(request, ranks))


def _answer(request: dict[str, Any], ranks: Any) -> dict[str, Any]:
    threads = set(threading.enumerate())
    with _printing_into(request["out"]), _as_a_new_process(request):
        status = _status(request["argv"], ranks)
    gc.collect()  # files and windows that an exception held
    left = [each.name for each in threading.enumerate() if each not in threads]
    return {"status": status, "left": f"threads {', '.join(left)}" if left else ""}


def _status(argv: Sequence[str], ranks: Any) -> int:
    try:
        _run(argv)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
            return 1
        return int(end.code or 0)
    except BaseException:
        # As `python -m mpi4py`: the others would wait.
        traceback.print_exc()
        sys.stderr.flush()
        ranks.abort(1)
    return 0


def _run(argv: Sequence[str]) -> None:
    if argv[0] == "-m" and argv[1].startswith("mpi_landscape."):
        sys.path.insert(0, str(Path.cwd()))
        module = importlib.import_module(argv[1])
        sys.argv = [str(module.__file__), *argv[2:]]
        module.main(argv[2:])
        return
    script, *rest = argv[2:] if argv[:2] == ["-m", "mpi4py"] else argv
    sys.argv = [script, *rest]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


@contextlib.contextmanager
def _printing_into(places: Sequence[str]) -> Iterator[None]:
    """What this process and the libraries in it print goes into files."""
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number, place in enumerate(places, start=1):
            file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(file, number)
            os.close(file)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)


@contextlib.contextmanager
def _as_a_new_process(request: dict[str, Any]) -> Iterator[None]:
    """Folder, environment, path, modules, chance, threads, handlers: all as it was before."""
    import torch

    from mpi_landscape.parallel.stopping import SIGNALS

    environment, path, modules, words = dict(os.environ), list(sys.path), set(sys.modules), sys.argv
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    threads, kind, chance = torch.get_num_threads(), torch.get_default_dtype(), random.getstate()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    importlib.invalidate_caches()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        sys.path[:], sys.argv = path, words
        os.chdir(HOUSE)
        _forget(modules)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        torch.set_num_threads(threads)
        torch.set_default_dtype(kind)
        random.setstate(chance)


def _forget(known: set[str]) -> None:
    """A study's own modules, whose text may be another one in the next run; libraries stay."""
    for name in sys.modules.keys() - known:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin is not None and not origin.startswith((HOUSE, sys.prefix, sys.base_prefix)):
            del sys.modules[name]


if __name__ == "__main__":
    serve(sys.argv[1])
