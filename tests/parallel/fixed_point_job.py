"""Sums in fixed point over ranks, into a file; then a refusal and a stop on one rank alone."""

import argparse
from pathlib import Path

import numpy as np
import torch

from mpi_landscape.command import execution as program
from mpi_landscape.command.parser import Parser
from mpi_landscape.errors import AgreedError, LandscapeError
from mpi_landscape.parallel.fixed_point import summed
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopped


def terms_of(number: int, size: int) -> list[torch.Tensor]:
    """Terms of very different sizes, alike everywhere."""
    generator = np.random.default_rng(3)
    return [
        torch.from_numpy(generator.standard_normal(size) * 10.0 ** generator.integers(-12, 1, size))
        for _ in range(number)
    ]


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Add, and say what happened."""
    terms = terms_of(7, 1000)
    how = {"shape": (1000,), "num_terms": 7, "exponent": 40, "device": torch.device("cpu")}
    # Slices of 800 bytes: a sum travels in many messages.
    found = summed(lambda: iter(terms[ranks.rank :: ranks.size]), ranks, slice_size=800, **how)
    same = ranks.gather(found.total.numpy().tobytes())
    assert len(set(same)) == 1
    if ranks.is_root:
        np.save(options.file, found.total.numpy())
    ranks.say(f"rounds {found.rounds} exponent {found.exponent}")

    def refusing():
        if ranks.rank == 1:
            raise LandscapeError("of its own")
        yield from terms[:1]

    def stopping():
        if ranks.rank == 1:
            raise Stopped("SIGUSR1")
        yield from terms[:1]

    try:
        summed(refusing, ranks, **how)
    except AgreedError as error:
        ranks.say(f"all refuse: {error}")
    try:
        summed(stopping, ranks, **how)
    except Stopped as stop:
        ranks.say(f"all stop: {stop}")
    return program.DONE


if __name__ == "__main__":
    parser = Parser(prog="python -m tests.parallel.fixed_point_job")
    parser.add_argument("file", type=Path)
    parser.add_argument("--debug", action="store_true")
    program.execute(parser, run)
