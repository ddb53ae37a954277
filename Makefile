# Every target makes what it needs: `make surface` and `make test` work in a fresh clone with Python 3.10+ alone.
PYTHON ?= python3
RANKS ?= 2
VENV := .venv
BIN := $(VENV)/bin
CONFIG := configs/quickstart.yaml
RUN := runs/quickstart

.DEFAULT_GOAL := help
.PHONY: help surface test test-all test-apart test-mpi examples test-fast lint clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

surface: $(VENV)/ready $(RUN)/final.pt ## Train a small network, compute its loss surface on two ranks, draw it
	$(BIN)/mpiexec -n $(RANKS) $(BIN)/python -m mpi_landscape.surface $(CONFIG)
	$(BIN)/python -m plotting $(RUN)/surface.h5 $(RUN)/history.h5

$(RUN)/final.pt: | $(VENV)/ready
	$(BIN)/python -m mpi_landscape.train $(CONFIG)

test: $(VENV)/ready ## Run one or two tests of each kind, and the examples in docstrings: minutes
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not mpi and not exhaustive"
	$(BIN)/python -m pytest -m "mpi and not exhaustive"
	$(EXAMPLES)

test-all: test-apart test-mpi examples ## Run all tests

test-apart: $(VENV)/ready ## Run all tests that start no mpiexec
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not mpi"

test-mpi: $(VENV)/ready ## Run all tests that start one
	$(BIN)/python -m pytest -m mpi

examples: $(VENV)/ready ## Run the examples in docstrings
	$(EXAMPLES)

test-fast: $(VENV)/ready ## Run the tests that take seconds
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not mpi and not exhaustive"

# One thread each: as many tests as there are cores run at a time, or as many ranks.
SIDE_BY_SIDE := -n logical --maxprocesses 8
# Callbacks of libraries that may not be there have no examples.
EXAMPLES = $(BIN)/python -m pytest --doctest-modules --ignore-glob='*/recording/of_*.py' mpi_landscape plotting
test test-all test-apart test-mpi examples test-fast: export OMP_NUM_THREADS := 1
test-all test-apart test-mpi: export HYPOTHESIS_PROFILE := exhaustive

lint: $(VENV)/lint-ready ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean: ## Remove the environments, the caches and the quick start's results
	rm -rf .venv .venv-openmpi .mypy_cache .ruff_cache .pytest_cache build *.egg-info $(RUN)

# One MPI only: the mpich wheel brings mpiexec, needs no compiler and no root.
$(VENV)/ready: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[mpich,quickstart,test]'
	touch $@

$(VENV)/lint-ready: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[lint]'
	touch $@
