"""The command line of a program: refusals in one line, once for all ranks, and the options that programs share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from mpi_landscape.errors import printable
from mpi_landscape.parallel.launcher import is_first_process

REFUSED = 2


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


def job_options(
    parser: argparse.ArgumentParser, *, example: str, overwrite: str, patience: str, writers: Sequence[str]
) -> None:
    """Add the options of a program that computes into one file.

    Args:
        parser: Of the program.
        example: What `--set` may be given.
        overwrite: What `--overwrite` does.
        patience: How long ranks wait for each other, unless said.
        writers: What `--writer` may be.
    """
    add = parser.add_argument
    add("--output", metavar="FILE", help="the file, instead of the configuration's")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help=f"override a field: {example}")
    add("--dry-run", action="store_true", help="print the plan and the expected time, write nothing")
    add("--overwrite", action="store_true", help=overwrite)
    add(
        "--time-limit",
        metavar="SECONDS",
        type=seconds,
        help="stop cleanly after this time (exit status 75)",
    )
    patience_option(parser, patience)
    add("--writer", choices=writers, default="auto", help="who writes: every rank, or rank 0 for all")


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
