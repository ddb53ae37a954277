"""Hostile files, each given to a program in a cage: little memory, little time, and every change seen."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import mpi_landscape

_numbers = itertools.count()

# The least that is a surface: its losses have a closed form, and nothing in it takes time.
TARGETS = """
import torch
from torch import nn

class Bowl(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 4))
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, inputs):
        return ((self.weight - 0.5) ** 2).sum() / 2 + (self.bias**2).sum() / 2 + inputs

class Numbers:
    def __init__(self, count):
        self.values = torch.arange(count, dtype=torch.float32) / 64

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index], 0

def data():
    return {"train": Numbers(10), "test": Numbers(7)}

def loss(model, batch):
    return model(batch[0])
"""
CONFIGURATION = """\
model: {{target: "{module}:Bowl", checkpoint: center.pt}}
data: {{target: "{module}:data"}}
loss: {{target: "{module}:loss"}}
grid: {{alpha: [-0.75, 1.5, 5], beta: [0, 2, 3]}}
compute: {{batch_size: 4, data_shards: 1, points_per_tile: 4, device: cpu, threads: 1, engine: plain}}
output: surface.h5
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a caged program ended: its exit status, or minus the signal that ended it."""

    status: int
    out: str
    err: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Study:
    """A folder to be hostile in."""

    folder: Path
    module: str

    @property
    def configuration(self) -> Path:
        return self.folder / "study.yaml"


def state() -> dict[str, bytes | str]:
    """A center for the bowl."""
    generator = torch.Generator().manual_seed(3)
    return {"weight": torch.randn(3, 4, generator=generator), "bias": torch.randn(5, generator=generator)}


def fill(folder: Path) -> Study:
    """A whole and harmless study."""
    module = f"hostile_{os.getpid()}_{next(_numbers)}"
    (folder / f"{module}.py").write_text(TARGETS)
    (folder / "study.yaml").write_text(CONFIGURATION.format(module=module))
    torch.save(state(), folder / "center.pt")
    return Study(folder=folder, module=module)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them together take minutes, and the first waits for the cage."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def filled() -> Callable[[Path], Study]:
    return fill


@pytest.fixture
def study(tmp_path) -> Study:
    return fill(tmp_path)


@pytest.fixture(scope="session")
def cage() -> Iterator[Callable[..., Ended]]:
    """Run a program's `main` in a process that has little of everything."""
    house = Path(mpi_landscape.__file__).parents[1]
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("cage.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                part for part in (str(house), os.environ.get("PYTHONPATH")) if part
            ),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )

    def run(program: str, *argv: str | Path, folder: Path, seconds: int = 300) -> Ended:
        case = {
            "program": program,
            "argv": [str(each) for each in argv],
            "folder": str(folder),
            "seconds": seconds,
        }
        server.stdin.write(json.dumps(case) + "\n")
        server.stdin.flush()
        return Ended(**json.loads(server.stdout.readline()))

    yield run
    server.stdin.close()
    server.wait(timeout=300)


def snapshot(folder: Path) -> dict[str, tuple]:
    """Every file, folder, link and pipe below a folder, with what is in it and when it was written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        content: object = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file() and facts.st_size < 2**25:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        # The time of a folder changes with a lock that comes and goes.
        found[str(path.relative_to(folder))] = (
            facts.st_mode,
            facts.st_size if path.is_file() else 0,
            facts.st_mtime_ns if not path.is_dir() else 0,
            content,
        )
    return found


def one_line(ended: Ended) -> str:
    """The only line on standard error, if it is an error in a form that any terminal can take."""
    lines = ended.err.split("\n")
    assert lines[1:] == [""], ended
    assert lines[0].startswith("error: "), ended
    assert "Traceback" not in ended.err, ended
    assert lines[0].isprintable(), ascii(lines[0])
    assert len(lines[0]) < 3000, len(lines[0])
    return lines[0]


@pytest.fixture
def refused(cage) -> Callable[..., str]:
    """Give a program what it must refuse: status 2, one line, nothing changed. Returns the line."""

    def run(program: str, *argv: str | Path, folder: Path) -> str:
        before = snapshot(folder)
        ended = cage(program, *argv, folder=folder)
        assert ended.status == 2, ended
        line = one_line(ended)
        assert snapshot(folder) == before
        return line

    return run


@pytest.fixture
def harmless(cage) -> Callable[..., Ended]:
    """Give a program what it may take or refuse, but not stumble over; what it changed must be nothing."""

    def run(program: str, *argv: str | Path, folder: Path, seconds: int = 300) -> Ended:
        before = snapshot(folder)
        ended = cage(program, *argv, folder=folder, seconds=seconds)
        assert ended.status in (0, 2), ended
        if ended.status == 2:
            one_line(ended)
        assert "Traceback" not in ended.err, ended
        assert snapshot(folder) == before
        return ended

    return run
