"""The job templates, on a study of tests/programs and a real SLURM."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import mpi_landscape
from mpi_landscape.storage.surface.reader import read_surface, verify_tiles
from tests.jobs.cluster import FAR, PATH, Cluster, cluster, missing
from tests.programs.conftest import Study, _contents, computed, here, study  # noqa: F401 - fixtures

HOUSE = Path(mpi_landscape.__file__).parents[1]
JOBS = HOUSE / "jobs"


def edited(name: str, edits: Mapping[str, str]) -> str:
    """A template with some of its lines replaced, each named by how it begins."""
    lines = (JOBS / name).read_text().splitlines()
    for start, line in edits.items():
        places = [place for place, text in enumerate(lines) if text.startswith(start)]
        assert len(places) == 1, f"{len(places)} lines of {name} start with {start!r}"
        lines[places[0]] = line
    return "\n".join(lines) + "\n"


def by_mpirun(text: str) -> str:
    """A template that starts its ranks as its comments say for mpirun."""
    lines = text.splitlines()
    (start,) = (place for place, line in enumerate(lines) if line.startswith("srun "))
    (remark,) = (place for place, line in enumerate(lines) if line.startswith("# By mpirun: "))
    assert "--signal=B:USR1@180" in lines[remark]
    form = [line.removeprefix("#     ") for line in lines[remark + 1 :] if line.startswith("#     ")]
    return "\n".join([*lines[:start], *form, ""]).replace("--signal=USR1", "--signal=B:USR1")


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A job of a study, and the file that it works on."""

    slurm: Cluster
    study: Study
    number: str

    @property
    def log(self) -> str:
        return "".join(Path(each["StdOut"]).read_text() for each in self.slurm.jobs(self.number))

    @property
    def restarts(self) -> int:
        return int(self.slurm.jobs(self.number)[0]["Restarts"])

    def wait(self, ready, what: str, timeout: float = FAR) -> None:
        self.slurm.wait(self.number, ready, what, timeout)

    def shorten(self) -> None:
        """Let the time limit end the job one or two minutes from now."""
        hours, minutes, _ = map(int, self.slurm.jobs(self.number)[0]["RunTime"].split(":"))
        limit = 60 * hours + minutes + 2
        self.limit(limit)

    def limit(self, minutes: int) -> None:
        self.slurm.call("scontrol", "update", f"JobId={self.number}", f"TimeLimit={minutes}")

    def wait_for_tiles(self, at_least: int) -> None:
        path = self.study.output
        self.wait(
            lambda: path.exists() and read_surface(path).progress > 0 and verify_tiles(path)[1] >= at_least,
            f"at {at_least} tiles",
        )

    def warn(self, *options: str) -> None:
        """The signal that SLURM sends when the end of the time limit comes near."""
        self.slurm.call("scancel", "--signal=USR1", *options, self.number)

    def end(self) -> tuple[str, str]:
        """How it ended: its last state, and the exit status of its script."""
        facts = self.slurm.wait_for_end(self.number)[0]
        return facts["JobState"], facts["ExitCode"].split(":")[0]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where a user edits a template and submits it."""

    slurm: Cluster
    study: Study
    environment: Mapping[str, str]

    def submit(self, text: str, *options: str) -> Submitted:
        script = self.study.folder / "job.slurm"
        script.write_text(text)
        number = self.slurm.submit(script, *options, cwd=self.study.folder, **self.environment)
        return Submitted(slurm=self.slurm, study=self.study, number=number)

    def slow(self, seconds: float) -> None:
        """How long a batch takes from now on, once the surface file is there."""
        # Under another name first: the ranks read it all the time.
        place = self.study.folder / "slow"
        place.with_name("slower").write_text(str(seconds))
        place.with_name("slower").replace(place)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with cluster() as running:
        yield running


@pytest.fixture(scope="session")
def library() -> str:
    """The MPI library of this environment, in its own words."""
    program = "from mpi_landscape.parallel.launcher import library_name; print(library_name())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=HOUSE, capture_output=True, text=True, timeout=300
    )
    return done.stdout.strip()


@pytest.fixture
def served(slurm, library) -> None:
    """SLURM's srun starts the ranks of this environment's MPI as one job, as it is configured here."""
    if _by_default(library) != "pmix":
        pytest.skip(f"all templates are submitted with the machine's Open MPI (.ci/run); this is {library}")


def _by_default(library: str) -> str | None:
    """How srun serves an MPI library; None where that was not tried."""
    own = (Path(sys.executable).parent / "mpiexec").exists()
    if "Open MPI" in library:
        return None if own else "pmix"
    return "pmi2" if "MPICH" in library else None


@pytest.fixture
def desk(slurm, library, study, launch_environment, mpiexec) -> Iterator[Desk]:  # noqa: F811 - a fixture's name
    """A study whose batches take as long as a test wants, and the environment of a user who submits it."""
    study.edit_module(
        'time.sleep(float(os.environ.get("SLEEP", "0")))',
        'time.sleep(float(open("slow").read()) if os.path.exists("surface.h5") else 0)',
    )
    bins = os.pathsep.join([str(Path(sys.executable).parent), str(Path(mpiexec).parent), PATH])
    rest = {name: value for name, value in launch_environment.items() if name != "OMP_NUM_THREADS"}
    made = Desk(
        slurm=slurm,
        study=study,
        environment={
            **rest,
            "PATH": bins,
            "PYTHONPATH": str(HOUSE),
            # What `srun --mpi` says where the site's default does not fit.
            "SLURM_MPI_TYPE": _by_default(library) or "none",
        },
    )
    made.slow(0)
    yield made
    slurm.cancel_all()
