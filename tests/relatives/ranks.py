"""A case on every rank of an mpiexec: `python -m tests.relatives.ranks NAME FOLDER`."""

import sys
from pathlib import Path

from mpi_landscape.errors import LandscapeError
from tests.relatives.judging import run
from tests.relatives.table import named


def main(name: str, folder: str) -> int:
    """The exit status: 2 for a refusal, whose words are printed in one line."""
    try:
        run(named(name), Path(folder))
    except LandscapeError as error:
        sys.stdout.write(f"REFUSED {error}\n")
        sys.stdout.flush()
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
