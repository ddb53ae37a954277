"""Jobs of several ranks whose outcome rank 0 prints as JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
_LAUNCHERS = ("OMPI_", "PMI_", "PMIX_", "MV2_", "SLURM_", "HYDRA_", "PRTE_")


@pytest.fixture(scope="session")
def outcome(launch) -> Callable[..., Any]:
    """Run a job of this folder on some ranks; a rank that raises ends it, so it cannot hang."""

    def run(size: int, job: str, *argv: str, timeout: float = 300) -> Any:
        done = launch(size, "-m", "mpi4py", HERE / job, *argv, timeout=timeout)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    return run


@pytest.fixture
def alone() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program as one process that no launcher started, but with these variables."""

    def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        rest = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHERS)}
        return subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**rest, **environment},
            timeout=300,
        )

    return run
