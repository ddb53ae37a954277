"""Imports that fail, which say why."""

import os
import subprocess
import sys

import pytest

WITHOUT = """
import os, sys
{change}
try:
    from mpi_landscape import landscape
except ImportError as error:
    sys.stdout.write(f"{{type(error).__name__}}: {{error}}")
"""


def said(change):
    """What the import of `landscape` raises after a change of the interpreter."""
    command = [sys.executable, "-c", WITHOUT.format(change=change)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "os.name = 'nt'",
            "SystemNotSupportedError: mpi_landscape computes on Linux and macOS; on Windows it runs in WSL",
        ),
        ("sys.modules['torch'] = None", "ModuleNotFoundError: import of torch halted"),
        (
            "import types; sys.modules['torch'] = types.ModuleType('torch')",
            "cannot import name 'nn' from 'torch'",
        ),
        (
            "import mmap, errno; del errno.ENOLCK",
            "ImportError: mpi_landscape.landscape cannot be imported: module 'errno' has no attribute 'ENOLCK'",
        ),
    ],
)
def test_the_true_reason_is_seen(change, words):
    assert words in said(change)


@pytest.mark.parametrize("program", ["surface", "train", "inspect", "doctor"])
def test_programs_refuse_windows_in_one_line(program):
    script = (
        "import os, runpy, shutil, tempfile, platform; os.name = 'nt'; "
        f"runpy.run_module('mpi_landscape.{program}', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: mpi_landscape computes on Linux and macOS")
    assert done.stderr.count("\n") == 1


def test_programs_let_onednn_keep_all_bits(tmp_path):
    # oneDNN reads it when torch is loaded, and says what it does.
    script = tmp_path / "program.py"
    script.write_text(
        "import argparse\n"
        "from mpi_landscape.command import execution\n"
        "def main(options, ranks):\n"
        "    import torch\n"
        "    torch.nn.functional.conv2d(torch.ones(2, 32, 12, 12), torch.ones(32, 32, 3, 3))\n"
        "    return 0\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--debug')\n"
        "execution.execute(parser, main, use_mpi=False)\n"
    )
    environment = {**os.environ, "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "ONEDNN_VERBOSE": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "convolution" in done.stdout, "oneDNN is not used here"
    assert "fpmath:bf16" not in done.stdout
