"""The script for a machine with a GPU runs through in small on a CPU, and loses nothing where a part fails."""

import argparse
import json
import os
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from tests.test_engine_benchmark import BENCHMARKS, load


@pytest.fixture
def gpu(monkeypatch):
    """The script as a module; it finds its neighbours beside it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return load("gpu")


@pytest.fixture
def run_part(gpu, tmp_path, monkeypatch):
    """Run a part whose work is the text given."""

    def run(text, limit):
        (tmp_path / "gpu_parts.py").write_text(
            "import json, pathlib, subprocess, sys, time\n"
            "result = pathlib.Path(sys.argv[sys.argv.index('--result') + 1])\n" + textwrap.dedent(text)
        )
        monkeypatch.setattr(gpu, "HERE", tmp_path)
        options = argparse.Namespace(device="cpu", small=True)
        return gpu.run(gpu.Part(1, ("steps",)), limit, options)

    return run


@pytest.mark.exhaustive
def test_a_part_over_its_limit_is_ended_with_all_that_it_started_and_keeps_what_it_found(run_part, tmp_path):
    start = time.monotonic()
    found = run_part(
        f"""
        child = subprocess.Popen(["sleep", "60"])
        result.write_text(json.dumps([{{"difference": 0.5}}]))
        pathlib.Path({str(tmp_path)!r}, "child").write_text(str(child.pid))
        time.sleep(60)
        """,
        limit=15,  # in which Python starts on a busy machine, too
    )
    assert found["status"] == "over its limit"
    assert found["rows"] == [{"difference": 0.5}]
    assert time.monotonic() - start < 50
    child = int((tmp_path / "child").read_text())
    while time.monotonic() - start < 55 and not _is_over(child):
        time.sleep(0.05)
    assert _is_over(child)


def _is_over(number):
    try:
        return psutil.Process(number).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def test_a_part_that_fails_says_why(gpu, run_part):
    found = run_part("sys.exit('out of luck')", limit=50)
    assert found["status"] == "failed"
    assert "out of luck" in gpu.gpu_tables.progress("steps", found)


def test_the_share_of_the_peak_is_that_of_the_card_or_unknown(gpu):
    peak = gpu.gpu_tables.peak
    assert peak("NVIDIA H100 80GB HBM3", "bfloat16") == 989.4e12
    assert peak("NVIDIA H100 PCIe", "float32") == 51.2e12
    assert peak("Tesla V100-SXM2-16GB", "tf32") is None, "it has none"
    assert peak("another card", "float32") is None
    assert peak(None, "float32") is None


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_everything_runs_in_small_on_a_cpu(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--small", "--device", "cpu"]
    command += ["--limit", "1100", "--output", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert not any(row["differing"] for row in parts["bits"]["rows"])
    assert (
        max(row["difference"] for row in parts["steps"]["rows"]) < 1e-5
    )  # other orders of float32 additions
    sides = {(row["side"], row["precision"]) for row in parts["resnet20"]["rows"] if "refused" not in row}
    assert {("ours", "float32"), ("forward", "float32"), ("reference", "float32")} <= sides
    assert {row["outcome"] for row in parts["tests"]["rows"]} <= {"passed", "skipped"}
    text = (tmp_path / "gpu.md").read_text()
    for words in (
        "| resnet56 | 32 of 32 x 32 | float32 |",
        "tf32 needs an NVIDIA GPU",
        "| two ranks | none |",
    ):
        assert words in text
