"""Histograms and norms of the weights of checkpoints, into one file; needs no network, no data and no MPI.

python -m mpi_landscape.weights runs/batch128/final.pt runs/batch8192/final.pt --output runs/weights.h5
python -m plotting runs/weights.h5
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mpi_landscape.command import execution as program
from mpi_landscape.command import parser as command_line
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.storage.files import kind_of
from mpi_landscape.storage.weights_file import KIND, write_weights
from mpi_landscape.storage.weights_summary import summarize_weights, weights_lines

# More are no histogram.
_MOST_BINS = 1_000_000


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `python -m mpi_landscape.weights`."""
    parser = command_line.parser(
        "weights", "Histograms and norms of the weights of checkpoints of one network."
    )
    add = parser.add_argument
    add(
        "checkpoints",
        metavar="CHECKPOINT",
        nargs="+",
        help="files or folders, of any kind that model.checkpoint takes",
    )
    add("--output", metavar="FILE", required=True, help="the file to write; python -m plotting draws it")
    add(
        "--bins", type=int, default=2000, help="of the histogram (default 2000; a picture puts them together)"
    )
    add(
        "--range",
        metavar="LOW:HIGH",
        help="of the bins; default: the least and the greatest weight of all checkpoints",
    )
    add(
        "--tensors",
        metavar="GLOB",
        action="append",
        default=[],
        help="whose numbers are counted, such as '*.weight'; several may be given; default: tensors of two axes or more, so "
        "without biases and normalizations",
    )
    add("--key", help="where in each file the state dictionary is, as model.key")
    add("--part", help="what names in it begin with, as model.part")
    add("--overwrite", action="store_true", help="replace an existing file of weights")
    program.execute(parser, run, argv, use_mpi=False)


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Count, write, and say what was found; returns the exit status."""
    path = Path(options.output)
    if not 1 <= options.bins <= _MOST_BINS:
        raise LandscapeError(f"--bins {options.bins}: expected a whole number from 1 to {_MOST_BINS}")
    ends = None if options.range is None else _ends(options.range)
    _check_output(path, options.overwrite)
    # torch takes seconds to import.
    from mpi_landscape.histograms.counting import Asked, count_weights

    asked = Asked(
        bins=options.bins, ends=ends, tensors=tuple(options.tensors), key=options.key, part=options.part
    )
    counts = count_weights(options.checkpoints, asked)
    write_weights(path, counts)
    for line in weights_lines(summarize_weights(counts)):
        ranks.say(line)
    ranks.say(f"{path}: {len(counts.checkpoints)} checkpoints; python -m plotting {path} draws them")
    return program.DONE


def _check_output(path: Path, overwrite: bool) -> None:
    """Refuse to replace what is not known to be replaceable.

    Raises:
        LandscapeError: There is something.
    """
    if path.is_dir():
        raise LandscapeError(f"{path}: is a folder; --output is the name of a file")
    is_one = path.exists() and kind_of(path) == KIND
    if path.exists() and not (overwrite and is_one):
        advice = (
            "choose another --output, or --overwrite to replace it" if is_one else "choose another --output"
        )
        raise LandscapeError(f"{path}: is there already; {advice}")


def _ends(text: str) -> tuple[float, float]:
    try:
        low, high = (float(each) for each in text.split(":"))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise LandscapeError(
            f"--range {text!r}: expected LOW:HIGH, two numbers, the lower one first, such as -0.1:0.1"
        )
    return low, high


if __name__ == "__main__":
    main()
