"""A sample of the hostile files by the command line itself: nothing of the cage is between."""

import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import mpi_landscape
from tests.exhaustive import rows


def run(folder, *argv, seconds=500):
    """One command in a process of its own, whose memory is bounded."""
    limit = 12 * 2**30
    house = str(Path(mpi_landscape.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": house, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )


class Runs:
    def __reduce__(self):
        return os.system, ("touch executed",)


def bomb(folder):
    levels = "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    (folder / "hostile.yaml").write_text("a: &a [lol]\n" + levels)


def pipe(folder):
    os.mkfifo(folder / "hostile.h5")


def tag(folder):
    (folder / "hostile.yaml").write_text("model: !!python/object/apply:os.system ['touch executed']")


def calling(folder):
    (folder / "center.pt").write_bytes(pickle.dumps({"weight": Runs()}))


def noise(folder):
    (folder / "hostile.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 40)


@pytest.mark.parametrize(
    ("make", "argv"),
    rows(
        {
            f"{make.__name__}-{argv[0]}": (make, argv)
            for make, argv in [
                (bomb, ["mpi_landscape.surface", "hostile.yaml"]),
                (tag, ["mpi_landscape.train", "hostile.yaml"]),
                (calling, ["mpi_landscape.surface", "study.yaml"]),
                (pipe, ["mpi_landscape.inspect", "hostile.h5"]),
                (pipe, ["plotting", "hostile.h5"]),
                (pipe, ["mpi_landscape.surface", "study.yaml", "--output", "hostile.h5"]),
                (noise, ["mpi_landscape.inspect", "hostile.h5", "--json"]),
                (noise, ["plotting", "hostile.h5"]),
                (noise, ["mpi_landscape.surface", "study.yaml", "--output", "hostile.h5"]),
            ]
        },
        "tag-mpi_landscape.train",
        "calling-mpi_landscape.surface",
        "pipe-plotting",
        "noise-mpi_landscape.inspect",
    ),
)
def test_the_command_refuses_in_one_line_with_status_two(study, make, argv):
    make(study.folder)
    before = sorted(path.name for path in study.folder.rglob("*"))
    ended = run(study.folder, *argv)
    assert ended.returncode == 2, ended
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    after = [
        name for name in sorted(path.name for path in study.folder.rglob("*")) if not name.startswith("__")
    ]
    assert [name for name in after if not name.endswith(".pyc")] == before
