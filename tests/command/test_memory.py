"""Freed memory is handed out again without asking the system for it."""

import platform
import subprocess
import sys

import pytest

# 64 megabytes, written and freed again and again: without the setting, every round maps its pages anew.
PROGRAM = """
import resource
import numpy as np
from mpi_landscape.command.memory import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

{call}
faults(2)
print(faults(10))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_a_block_that_was_freed_costs_no_page_faults_the_next_time():
    def faults(call):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(call=call)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    pages = 10 * 64 * 2**20 // 4096
    # Huge pages, where the system gives them, need fewer faults, 32 for each block.
    assert faults("") >= pages / 512
    assert faults("keep_freed_memory()") < pages / 5120
