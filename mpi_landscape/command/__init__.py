"""The shell of the programs: their arguments, their errors, their exit statuses."""

import sys

from mpi_landscape.errors import LandscapeError, check_system

try:
    check_system()
except LandscapeError as error:
    # Before the modules are imported that are only there on other systems.
    sys.stderr.write(f"error: {error}\n")
    raise SystemExit(2) from None
