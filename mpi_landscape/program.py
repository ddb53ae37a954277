"""What the programs share: one-line errors, exit statuses, and an end in which no rank waits for another."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from mpi_landscape.errors import AgreedError, LandscapeError, LostRankError, printable
from mpi_landscape.memory import keep_freed_memory
from mpi_landscape.parallel.ending import end_launcher_later
from mpi_landscape.parallel.ranks import Ranks, is_first_process, open_ranks
from mpi_landscape.parallel.stopping import (
    INTERRUPTED,
    Interrupted,
    answer_from_the_start,
    answer_no_more,
    exit_status,
)
from mpi_landscape.parallel.watch import watched

DONE, FAILED, REFUSED = 0, 1, 2


class Parser(argparse.ArgumentParser):
    """An argument parser that refuses in one line, and once for all ranks."""

    def error(self, message: str) -> NoReturn:
        """Refuse with exit status 2."""
        if is_first_process():
            self.exit(REFUSED, f"{self.prog}: error: {printable(message)} (see --help)\n")
        raise SystemExit(REFUSED)

    def print_help(self, file: object = None) -> None:
        """Print the help on one rank."""
        if is_first_process():
            super().print_help(file)  # type: ignore[arg-type]


def parser(name: str, description: str) -> Parser:
    """A parser for `python -m mpi_landscape.<name>`, with the options that all programs have."""
    made = Parser(prog=f"python -m mpi_landscape.{name}", description=description)
    made.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return made


def execute(
    arguments: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace, Ranks], int],
    argv: Sequence[str] | None = None,
    *,
    use_mpi: bool = True,
) -> NoReturn:
    """Run a program and leave with its exit status: 0 done, 2 refused, 75 stopped early and resumable, 130 by Ctrl-C, 1 else.

    A refusal that all ranks share is printed by rank 0 and all leave in good order. Anything that one rank alone
    meets ends the whole job at once, with that rank's message: the others may be waiting for it.

    Args:
        arguments: The program's parser.
        main: The program; returns its exit status.
        argv: Command line, sys.argv by default.
        use_mpi: Whether the program runs on several ranks.
    """
    options = arguments.parse_args(argv)
    # A caller that gives a command line of its own has signals of its own.
    is_program = argv is None
    if is_program:
        answer_from_the_start()
    ranks = Ranks()
    keep_freed_memory()
    try:
        if use_mpi:
            ranks = open_ranks()
            if not ranks.is_root:
                warnings.simplefilter("ignore")  # rank 0 gives the same warning
        warnings.showwarning = _one_line_warning  # type: ignore[assignment]
        with watched(ranks, getattr(options, "patience", None)) as watching:
            status = main(options, watching)
    except AgreedError as error:
        if ranks.is_root:
            _print_error(str(error), options.debug)
        status = REFUSED
    except LandscapeError as error:
        _print_error(_named(ranks, str(error)), options.debug)
        status = REFUSED if ranks.size == 1 else ranks.abort(REFUSED)
    except BrokenPipeError:
        # Whoever read our output has enough of it (`| head`); point it elsewhere, or closing it raises again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED if ranks.size == 1 else ranks.abort(FAILED)
    except LostRankError as error:
        _print_error(str(error), options.debug)
        end_launcher_later()
        status = ranks.abort(FAILED)
    except Interrupted as stop:
        status = _end_at_once(stop.reason, ranks)
    except KeyboardInterrupt:
        _print_error(_named(ranks, "interrupted"), options.debug)
        status = INTERRUPTED if ranks.size == 1 else ranks.abort(INTERRUPTED)
    except Exception as error:
        _print_error(_named(ranks, f"{_summary(error)}; run with --debug for a traceback"), options.debug)
        status = FAILED if ranks.size == 1 else ranks.abort(FAILED)
    if is_program:
        answer_no_more()
    raise SystemExit(status)


def _end_at_once(reason: str, ranks: Ranks) -> int:
    if not ranks.is_root:
        # A signal mostly reaches all ranks, and one line is enough: this one is the first to speak where it is alone.
        time.sleep(1)
    sys.stderr.write(f"{_named(ranks, f'ended at once by {reason}')}; run the same command again to go on\n")
    sys.stderr.flush()
    status = exit_status(reason)
    return status if ranks.size == 1 else ranks.abort(status)


def patience_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option that says how long ranks wait for each other."""
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        type=seconds,
        help=f"end the job when a rank is silent for so long (default: {default})",
    )


def seconds(text: str) -> float:
    """The type of an option: a time above 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def share(text: str) -> float:
    """The type of an option: a number between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0 and below 1, such as 0.01")
    return value


def say(ranks: Ranks, text: str) -> None:
    """A line for the user, from rank 0."""
    if ranks.is_root:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _named(ranks: Ranks, text: str) -> str:
    return text if ranks.size == 1 else f"rank {ranks.rank} of {ranks.size} ({ranks.host}): {text}"


def _summary(error: Exception) -> str:
    """Type, text and the place in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def _print_error(text: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"error: {' '.join(printable(text).split())}\n")
    sys.stderr.flush()


def _one_line_warning(message: Warning | str, *_: object) -> None:
    sys.stderr.write(f"warning: {' '.join(printable(str(message)).split())}\n")
    sys.stderr.flush()
