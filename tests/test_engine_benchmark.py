"""The benchmark of a point's cost: every side computes the same losses."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
MPIEXEC = next(
    filter(None, (shutil.which("mpiexec", path=str(Path(sys.executable).parent)), shutil.which("mpiexec"))),
    None,
)


def load(name):
    """A script of the benchmark as a module, without its folder on the path of later imports."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("steps", "finer", "reason"),
    [
        (1, 1, "one point, at the end of the second direction"),
        (2, 3, "the default of a small network"),
        (3, 1, "an odd number of rows"),
        (2, 25, "the default of a linear model"),
    ],
)
def test_every_point_of_the_other_packages_lies_on_our_grid(steps, finer, reason):
    from mpi_landscape.plan.grid import Axis

    workloads = load("workloads")
    alpha, beta = (Axis(*axis).values.tolist() for axis in workloads.grid_around(steps, finer))
    points = workloads.crooked_points(steps)
    assert len(set(points)) == steps**2
    for first, second in points:
        assert min(abs(value - first) for value in alpha) < 1e-12, reason
        assert min(abs(value - second) for value in beta) < 1e-12, reason


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.exhaustive
@pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec; pip install 'mpi_landscape[mpich]' brings one")
def test_our_losses_are_those_of_the_usual_protocol(tmp_path, launch_environment):
    found = tmp_path / "found.json"
    command = [sys.executable, str(BENCHMARKS / "engine.py"), "--workloads", "resnet20", "--images", "33"]
    command += [
        "--ranks",
        "1",
        "--repeats",
        "1",
        "--without",
        "loss-landscapes,landscaper",
        "--json",
        str(found),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **launch_environment}
    )
    assert done.returncode == 0, done.stderr
    runs = json.loads(found.read_text())["rows"][0]["runs"]
    ours = {(alpha, beta): loss for alpha, beta, loss in runs["float32"][0]["losses"]}
    for alpha, beta, loss in runs["reference"][0]["losses"]:
        assert ours[alpha, beta] == pytest.approx(loss, rel=1e-5)  # float32, other batch sizes and layouts
    assert "| resnet20 | 33 |" in done.stdout
