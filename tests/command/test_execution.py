"""What every program does with its errors, on one process and on several ranks."""

import errno
import shlex
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.command.execution import DONE, execute
from mpi_landscape.command.parser import REFUSED, parser
from mpi_landscape.errors import AgreedError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import STOPPED


def fail(error):
    def main(options, ranks):
        raise error

    return main


def run(main, argv=()):
    """Exit status of a program on one process."""
    made = parser("surface", "Computes.")
    before = warnings.showwarning
    try:
        with pytest.raises(SystemExit) as caught:
            execute(made, main, list(argv), use_mpi=False)
    finally:
        warnings.showwarning = before
    return caught.value.code


@pytest.mark.parametrize("status", [DONE, STOPPED])
def test_the_status_of_the_program_is_the_exit_status(status, capsys):
    assert run(lambda options, ranks: status) == status
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "status", "words", "reason"),
    [
        (LandscapeError("a.yaml: grid is missing"), 2, "error: a.yaml: grid is missing\n", "bad input"),
        (AgreedError("a.h5: is another's"), 2, "error: a.h5: is another's\n", "a refusal of all ranks"),
        (LandscapeError("two\n  lines"), 2, "error: two lines\n", "one line, whatever the text"),
        (KeyboardInterrupt(), 130, "error: interrupted\n", "Ctrl-C, as a shell reports it"),
    ],
)
def test_an_error_is_one_line_and_a_status(capsys, error, status, words, reason):
    assert run(fail(error)) == status, reason
    assert capsys.readouterr().err == words, reason


def test_an_unexpected_error_names_its_type_and_place_without_a_traceback(capsys):
    assert run(fail(ZeroDivisionError("no\nexamples"))) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ZeroDivisionError: no examples (")
    assert "test_execution.py:" in text
    assert "--debug" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("error", [LandscapeError("refused"), ValueError("a bug")])
def test_debug_shows_the_traceback(capsys, error):
    run(fail(error), ["--debug"])
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.splitlines()[-1].startswith("error: ")


def test_an_unknown_option_is_refused_in_a_line(capsys):
    assert run(lambda options, ranks: DONE, ["--colour"]) == REFUSED
    text = capsys.readouterr().err
    assert text == ("python -m mpi_landscape.surface: error: unrecognized arguments: --colour (see --help)\n")


def test_help_is_printed_on_one_rank(monkeypatch, capsys):
    assert run(lambda options, ranks: DONE, ["--help"]) == 0
    assert "usage: python -m mpi_landscape.surface" in capsys.readouterr().out
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "1")
    assert run(lambda options, ranks: DONE, ["--help"]) == 0
    assert capsys.readouterr().out == ""
    assert run(lambda options, ranks: DONE, ["--colour"]) == REFUSED
    assert capsys.readouterr().err == ""


def test_a_warning_is_one_line(capsys):
    def main(options, ranks):
        warnings.warn("the loss at the center\nis infinite", stacklevel=1)
        return DONE

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run(main) == DONE
    assert capsys.readouterr().err == "warning: the loss at the center is infinite\n"


def test_only_rank_0_speaks(capsys):
    Ranks(rank=1, size=2).say("nothing")
    Ranks(rank=0, size=2).say("hello")
    assert capsys.readouterr().out == "hello\n"


@pytest.mark.parametrize(("tells", "status"), [(True, 1), (False, 0)])
def test_a_reader_that_has_enough_is_no_error_and_ends_no_work(tells, status, tmp_path):
    program = f"""
        from pathlib import Path
        from mpi_landscape.command.execution import execute
        from mpi_landscape.command.parser import parser

        def main(options, ranks):
            for _ in range(100_000):
                ranks.say("a line")
            Path({str(tmp_path / "done")!r}).touch()
            return 0
        execute(parser("surface", ""), main, [], use_mpi=False, tells={tells})
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "a line\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(300) == status
    assert (tmp_path / "done").exists()


WRITES = """
    import sys
    from pathlib import Path
    from mpi_landscape.command.execution import execute
    from mpi_landscape.command.parser import parser

    def main(options, ranks):
        file = open(sys.argv[1], "w")
        ranks.say("a line")
        print("of a network", file=sys.stderr)
        file.write("whole")
        return 0
    execute(parser("surface", ""), main, sys.argv[3:], use_mpi=False, tells=sys.argv[2] == "tells")
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux: a device that is always full")
@pytest.mark.parametrize(
    "redirection", [">/dev/full", ">&-", "2>/dev/full", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"]
)
@pytest.mark.parametrize(
    ("kind", "arguments"), [("logs", []), ("tells", []), ("logs", ["--help"])], ids=["log", "product", "help"]
)
def test_what_cannot_be_said_ends_no_work_but_is_the_failure_of_a_program_that_only_tells(
    tmp_path, redirection, kind, arguments
):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(WRITES))
    words = [sys.executable, str(program), str(tmp_path / "file"), kind, *arguments]
    done = subprocess.run(f"{shlex.join(words)} {redirection}", shell=True, capture_output=True, text=True)
    output_is_lost = not redirection.startswith("2")
    product = kind == "tells" or bool(arguments)
    assert done.returncode == (1 if output_is_lost and product else 0), done.stderr
    if not arguments:
        assert (tmp_path / "file").read_text() == "whole"
    if "2>" not in redirection:
        said = [line for line in done.stderr.splitlines() if line != "of a network"]
        assert len(said) == 1
        assert said[0].startswith("error: standard output: " if product else "warning: standard output: ")


# On one rank something happens; the others wait for it in a collective, as they would in a real program.
JOB = """
import sys, warnings
from mpi_landscape.errors import LandscapeError
from mpi_landscape.command.execution import execute
from mpi_landscape.command.parser import parser

def main(options, ranks):
    def check():
        if ranks.rank == ranks.size - 1:
            raise LandscapeError("no data")
    what = {what!r}
    if what == "agreed":
        with ranks.together():
            check()
    if what == "warning":
        warnings.warn("once is enough", stacklevel=1)
    if ranks.rank == {rank}:
        if what == "refusal":
            raise LandscapeError("cannot read")
        if what == "bug":
            raise ValueError("a bug")
        if what == "interrupt":
            raise KeyboardInterrupt
        if what == "memory":
            raise MemoryError
    ranks.gather(None)
    ranks.say("all went well")
    return {status}

execute(parser("surface", "Computes."), main, [])
"""


@pytest.fixture
def job(launch, tmp_path):
    """Run a program on 3 ranks in which something happens on one of them."""

    def start(what, *, rank=1, status=0):
        path = tmp_path / "job.py"
        path.write_text(JOB.format(what=what, rank=rank, status=status))
        # Nothing ever hangs: the ranks that wait would do so for ever, and `launch` would say it.
        return launch(3, path)

    return start


@pytest.mark.parametrize("status", [DONE, STOPPED])
def test_all_ranks_leave_with_the_status_of_the_program(job, status):
    done = job("nothing", status=status)
    assert done.returncode == status, done.stderr
    assert done.stdout == "all went well\n"


@pytest.mark.parametrize(
    ("what", "rank", "words"),
    [
        ("refusal", 1, "error: rank 1 of 3 (HOST): cannot read"),
        ("refusal", 0, "error: rank 0 of 3 (HOST): cannot read"),
        ("bug", 2, "error: rank 2 of 3 (HOST): ValueError: a bug ("),
        ("bug", 0, "error: rank 0 of 3 (HOST): ValueError: a bug ("),
        ("memory", 1, "error: rank 1 of 3 (HOST): memory does not suffice (MemoryError"),
        ("interrupt", 2, "error: rank 2 of 3 (HOST): interrupted"),
    ],
)
def test_what_one_rank_meets_ends_the_job_with_its_message(job, what, rank, words):
    import socket

    done = job(what, rank=rank)
    assert done.returncode not in (DONE, STOPPED)
    assert words.replace("HOST", socket.gethostname()) in done.stderr
    assert "Traceback" not in done.stderr
    assert "all went well" not in done.stdout


def test_what_all_ranks_refuse_is_said_once(job):
    done = job("agreed")
    assert done.returncode == REFUSED
    assert done.stderr.count("error: rank 2 (") == 1
    assert done.stderr.count("no data") == 1


def test_a_warning_of_all_ranks_is_given_once(job):
    assert job("warning").stderr.count("warning: once is enough") == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "memory does not suffice (MemoryError); valid are a higher limit (ulimit -v)"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "ulimit -v"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "compute.batch_size"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory does not suffice"),
        (RuntimeError("can't start new thread"), "no further thread or process can be started"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
    ],
)
def test_what_the_system_has_no_more_of_is_said_in_plain_words(error, words, capsys):
    assert run(fail(error)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert "--debug" not in line


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: limits of address space that hold")
@pytest.mark.parametrize("kilobytes", [60_000, 400_000])
def test_too_little_address_space_for_the_libraries_is_one_line(kilobytes, tmp_path):
    (tmp_path / "a.yaml").write_text("model: {name: mlp}\ndata: {name: digits}\noutput: a.h5\n")
    command = f"ulimit -v {kilobytes}; exec {shlex.quote(sys.executable)} -m mpi_landscape.surface a.yaml"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()
    assert "memory does not suffice" in line
    assert "ulimit -v" in line
