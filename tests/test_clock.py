"""The clock on the wall may jump: it is only written down; nothing waits by it, is measured by it, or trusts a file's times."""

import ast
from pathlib import Path

import pytest

import mpi_landscape
import plotting

# Where the time of day is noted for people.
NOTED = {"lock.py", "provenance.py"}
# Of `time`, of `datetime`, and of files.
LOOKS = {"time_ns", "clock_gettime", "localtime", "gmtime", "ctime", "strftime", "now", "utcnow", "today"}
LOOKS |= {
    "st_mtime",
    "st_ctime",
    "st_atime",
    "st_mtime_ns",
    "st_ctime_ns",
    "st_atime_ns",
    "getmtime",
    "getctime",
}


def looks(text: str) -> bool:
    """Whether a module looks at the time of day, or at the times of files."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and (node.attr in LOOKS or ast.unparse(node) == "time.time"):
            return True
        of_time = isinstance(node, ast.ImportFrom) and node.module == "time"
        if of_time and {"time", *LOOKS} & {name.name for name in node.names}:
            return True
    return False


@pytest.mark.parametrize("package", [mpi_landscape, plotting], ids=lambda package: package.__name__)
def test_the_time_of_day_is_only_noted(package):
    modules = sorted(Path(package.__file__).parent.rglob("*.py"))
    assert modules
    assert {path.name for path in modules if looks(path.read_text())} <= NOTED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import time\nuntil = time.time() + 5", True),
        ("from time import time\nuntil = time() + 5", True),
        ("from datetime import datetime\nsince = datetime.now()", True),
        ("new = path.stat().st_mtime > other.stat().st_mtime", True),
        ("import os\nnew = os.path.getmtime(path)", True),
        ("import time\nuntil = time.monotonic() + 5", False),
    ],
)
def test_a_planted_look_is_found(text, expected):
    assert looks(text) == expected
