"""Small studies, each a folder with a configuration, a module of targets and a checkpoint."""

import importlib
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import pytest
import torch

from mpi_landscape import surface
from mpi_landscape.storage.surface.reader import verify_tiles

_numbers = itertools.count()
# Seconds. For what takes some of a core that others use as well: only a program that hangs needs so many.
FAR = 500.0

# f(α, β) = 1/2 Σ h (θ* + αδ + βη - m)² + mean(x): known in closed form everywhere.
QUADRATIC = """
    import os
    import time
    import torch
    from torch import nn

    class Bowl(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 4))
            self.bias = nn.Parameter(torch.zeros(5))

        def forward(self, inputs):
            time.sleep(float(os.environ.get("SLEEP", "0")))
            steepness = torch.arange(1, 13, dtype=inputs.dtype).reshape(3, 4) / 4
            height = (steepness * (self.weight - 0.5) ** 2).sum() / 2 + (self.bias**2).sum() / 2
            return height + inputs

    class Numbers:
        def __init__(self, count, offset):
            self.values = torch.arange(count, dtype=torch.float32) / 64 + offset

        def __len__(self):
            return len(self.values)

        def __getitem__(self, index):
            return self.values[index], 0

    def data(train=10, test=7):
        return {"train": Numbers(train, 0.0), "test": Numbers(test, 1.0)}

    def loss(model, batch):
        return model(batch[0])
"""

CONFIGURATION = """
    model: {{target: "{module}:Bowl", checkpoint: {folder}/center.pt}}
    data: {{target: "{module}:data"}}
    loss: {{target: "{module}:loss"}}
    grid:
      alpha: [-0.75, 1.5, 7]
      beta: [0, 2, 4]
    compute: {{batch_size: 4, data_shards: 1, points_per_tile: 3, device: cpu}}
    output: {folder}/surface.h5
"""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A folder to run programs in."""

    folder: Path
    module: str

    @property
    def configuration(self) -> Path:
        return self.folder / "study.yaml"

    @property
    def output(self) -> Path:
        return self.folder / "surface.h5"

    def edit(self, before: str, after: str, file: str = "study.yaml") -> None:
        """Replace a text that must be there."""
        path = self.folder / file
        text = path.read_text()
        assert before in text, f"{before!r} is not in {path}"
        path.write_text(text.replace(before, after))

    def edit_module(self, before: str, after: str) -> None:
        self.edit(before, after, f"{self.module}.py")

    def surface(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the main program as one plain process."""
        done = subprocess.run(
            [sys.executable, "-m", "mpi_landscape.surface", str(self.configuration), *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**os.environ, **environment},
            timeout=FAR,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A quadratic bowl on a 7 x 4 grid; targets have a name of their own, as modules are imported once."""
    module = f"targets_{os.getpid()}_{next(_numbers)}"
    (tmp_path / f"{module}.py").write_text(textwrap.dedent(QUADRATIC))
    (tmp_path / "study.yaml").write_text(
        textwrap.dedent(CONFIGURATION).format(module=module, folder=tmp_path)
    )
    generator = torch.Generator().manual_seed(3)
    center = {"weight": torch.randn(3, 4, generator=generator), "bias": torch.randn(5, generator=generator)}
    torch.save(center, tmp_path / "center.pt")
    return Study(folder=tmp_path, module=module)


def contents(path: Path) -> dict[str, bytes]:
    """Every dataset of numbers in a surface file, as bytes: what must be the same to the last bit."""
    found: dict[str, bytes] = {}
    with h5py.File(path, "r", locking=False) as file:

        def take(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
                found[name] = item[...].tobytes()

        file.visititems(take)
    return found


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a program ended that ran in this process."""

    status: int
    out: str
    err: str


@pytest.fixture
def here(study, capsys, monkeypatch):
    """Run a program's `main` on the study in this process: quick, for the many ways to be refused."""

    def run(main, *arguments: str) -> Outcome:
        monkeypatch.chdir(study.folder)
        # Its text may have changed, within the second that a compiled module is told apart by.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        sys.modules.pop(study.module, None)
        importlib.invalidate_caches()
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = ended.code
        return Outcome(status=status or 0, **capsys.readouterr()._asdict())

    return run


@pytest.fixture
def computed(study, here):
    """Compute the study's surface in this process; it must succeed."""

    def run(*arguments: str) -> Outcome:
        ended = here(surface.main, study.configuration, *arguments)
        assert ended.status == 0, ended.out + ended.err
        return ended

    return run


@pytest.fixture(name="contents")
def _contents():
    return contents


@pytest.fixture
def launcher():
    """The words that start a job on so many ranks, for tests that must hold its process."""
    own = Path(sys.executable).parent / "mpiexec"
    program = str(own) if own.exists() else shutil.which("mpiexec")
    if program is None:
        pytest.skip("no mpiexec; pip install mpich, or install an MPI library")
    # What Open MPI needs to run as root and on fewer cores than ranks.
    settings = {
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }

    def left() -> list[str]:
        # A process that has opened Open MPI, as one that computes a surface has, leaves what makes a job inside of a job of it,
        # which is refused without a word. Python's own list of the environment does not have it.
        there = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout.splitlines()
        names = {line.partition("=")[0] for line in there} - set(os.environ)
        return [f"--unset={name}" for name in sorted(names) if re.match("(OMPI|ORTE|PMIX|PRTE)_", name)]

    return lambda size: [
        "env",
        *left(),
        *(f"{name}={value}" for name, value in settings.items()),
        program,
        "-n",
        str(size),
    ]


def killed_in_the_middle(folder, output, *arguments, program="surface", sleep="0.05"):
    """Start a surface, or another program of tiles, and kill it when some of its tiles are done, and not all."""
    command = ["env", f"SLEEP={sleep}", sys.executable, "-m", f"mpi_landscape.{program}", *arguments]
    job = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    start = time.monotonic()
    while not (output.exists() and verify_tiles(output)[1] >= 2):
        assert time.monotonic() - start < FAR
        assert job.poll() is None
        time.sleep(0.02)
    time.sleep(random.Random(3).uniform(0, 0.1))
    job.kill()
    job.wait()
    tiles, done, _ = verify_tiles(output)
    assert 0 < done < tiles
