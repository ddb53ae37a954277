"""How a program runs: one-line errors, exit statuses, and an end in which no rank waits for another."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from mpi_landscape.command.parser import REFUSED
from mpi_landscape.errors import AgreedError, LandscapeError, LostFileError, LostRankError, printable
from mpi_landscape.parallel.ending import end_launcher_later
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.session import watched
from mpi_landscape.parallel.stopping import (
    INTERRUPTED,
    STOPPED,
    Interrupted,
    answer_from_the_start,
    answer_no_more,
    exit_status,
)
from mpi_landscape.shortage import shortage
from mpi_landscape.streams import Written, written

DONE, FAILED = 0, 1
# oneDNN reads it when torch is imported: products of float32 numbers in bfloat16, whatever torch says.
_LESS_THAN_FLOAT32 = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")


def status_before_the_end(dry_run: bool, ranks: Ranks, stopped: str | None, summary: str) -> int | None:
    """The exit status of a job that has said its plan alone, or was stopped, which is said; None at its end."""
    if dry_run:
        return DONE
    if stopped is None:
        return None
    ranks.say(f"stopped by {stopped}, {summary}; run the same command again to go on")
    return exit_status(stopped)


def one_after_another(
    names: Sequence[tuple[str | None, Path]],
    ranks: Ranks,
    time_limit: float | None,
    start: float,
    work: Callable[[int, float | None], int],
) -> int:
    """Do the same at each of several checkpoints, into a file of its own, and within one time limit. Collective.

    Args:
        names: Of each its checkpoint and its file.
        ranks: The job.
        time_limit: Seconds for all together.
        start: When they began to count, of `time.monotonic`.
        work: The number of one and the seconds that are left -> its exit status; the first that is not done ends it.
    """
    for number, (checkpoint, path) in enumerate(names):
        limit = time_limit
        if len(names) > 1:
            ranks.say(f"checkpoint  {number + 1} of {len(names)}: {checkpoint} into {path}")
            # Rank 0's clock decides: all begin the next one, or none.
            limit = None if limit is None else ranks.share(limit - (time.monotonic() - start))
            if limit is not None and limit <= 0:
                ranks.say(
                    f"stopped by the time limit of {time_limit:g} s; run the same command again to go on"
                )
                return STOPPED
        status = work(number, limit)
        if status != DONE:
            return status
    return DONE


def execute(
    arguments: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace, Ranks], int],
    argv: Sequence[str] | None = None,
    *,
    use_mpi: bool = True,
    tells: bool = False,
) -> NoReturn:
    """Run a program and leave with its exit status: 0 done, 2 refused, 75 stopped early and resumable, 130 by Ctrl-C, 1 else.

    Output that cannot be written is no failure of a program that makes a file: it is a log. Of one whose product it is it is
    one, and of the help.

    A refusal that all ranks share is printed by rank 0 and all leave in good order. Anything that one rank alone
    meets ends the whole job at once, with that rank's message: the others may be waiting for it.

    Args:
        arguments: The program's parser.
        main: The program; returns its exit status.
        argv: Command line, sys.argv by default.
        use_mpi: Whether the program runs on several ranks.
        tells: Whether its output is its product.
    """
    with written() as (output, errors):
        try:
            options = arguments.parse_args(argv)
        except SystemExit as ended:
            raise SystemExit(_told(output, int(ended.code or DONE))) from None
        status = _status(options, main, argv is None, use_mpi=use_mpi)
        output.flush()
        if tells:
            status = _told(output, status)
        elif output.lost is not None and not output.has_enough:
            errors.write(f"warning: standard output: {output.lost}; the log is not complete\n")
    raise SystemExit(status)


def _told(output: Written, status: int) -> int:
    """The exit status of a program whose output is its product."""
    output.flush()
    if output.lost is None or status != DONE:
        return status
    # Whoever has enough of it closes the pipe (`| head`).
    if not output.has_enough:
        _print_error(f"standard output: {output.lost}; the output is not complete", debug=False)
    return FAILED


def _status(
    options: argparse.Namespace,
    main: Callable[[argparse.Namespace, Ranks], int],
    is_program: bool,
    *,
    use_mpi: bool,
) -> int:
    """Run a program; its exit status. A caller that gives a command line of its own has signals of its own."""
    for name in _LESS_THAN_FLOAT32:
        os.environ.pop(name, None)
    if is_program:
        answer_from_the_start()
    ranks = Ranks()
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
    except LostFileError as error:
        _print_error(_named(ranks, str(error)), options.debug)
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
        words = shortage(error) or f"{_summary(error)}; run with --debug for a traceback"
        _print_error(_named(ranks, words), options.debug)
        status = FAILED if ranks.size == 1 else ranks.abort(FAILED)
    if is_program:
        answer_no_more()
    return status


def _end_at_once(reason: str, ranks: Ranks) -> int:
    if not ranks.is_root:
        # A signal mostly reaches all ranks, and one line is enough: this one is the first to speak where it is alone.
        time.sleep(1)
    sys.stderr.write(f"{_named(ranks, f'ended at once by {reason}')}; run the same command again to go on\n")
    sys.stderr.flush()
    status = exit_status(reason)
    return status if ranks.size == 1 else ranks.abort(status)


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
