"""Other engines for the whole test suite: `pytest --steps folded,compiled` puts this folder on PYTHONPATH.

Python imports this module at the start of every process, also of those that tests and launchers start.
"""

import os

from mpi_landscape.evaluation.engine import steps as engine

engine.USUAL = tuple(step for step in os.environ["MPI_LANDSCAPE_TEST_STEPS"].split(",") if step)
