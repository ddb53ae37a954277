"""What can be said of the job templates without a scheduler: their text, and what they decide, with commands played."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mpi_landscape.storage.surface.reader import verify_tiles
from tests.jobs.conftest import HOUSE, JOBS, by_mpirun, edited

NAMES = {
    "array.slurm",
    "chain.slurm",
    "cpus.slurm",
    "gpus.pbs",
    "gpus.slurm",
    "nodes.slurm",
    "requeue.slurm",
}
SLURM = sorted(name for name in NAMES if name.endswith(".slurm"))

# The long options of sbatch, by the manual pages of SLURM 22.05.
OPTIONS = """account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container contiguous
    core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution error exclude
    exclusive export export-file extra-node-info get-user-env gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket
    gpus-per-task gres gres-flags hint hold ignore-pbs input job-name kill-on-invalid-dep licenses mail-type mail-user
    mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nice no-kill no-requeue nodefile nodelist nodes ntasks
    ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output overcommit oversubscribe parsable
    partition power prefer priority profile propagate qos quiet reboot requeue reservation signal sockets-per-node spread-job
    switches test-only thread-spec threads-per-core time time-min tmp uid use-min-nodes verbose wait wait-all-nodes wckey
    wrap"""


def text_of(name):
    return (JOBS / name).read_text()


def number_after(start, text):
    (found,) = re.findall(rf"^{re.escape(start)}(\d+)", text, re.MULTILINE)
    return int(found)


def test_these_are_all():
    assert {path.name for path in JOBS.iterdir()} == NAMES
    readme = (HOUSE / "README.md").read_text()
    assert [name for name in sorted(NAMES) if name not in readme] == [], "the README tells users of each"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_bash_can_read_a_template(name):
    done = subprocess.run(["bash", "-n", str(JOBS / name)], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("form", ["srun", "mpirun"])
def test_shellcheck_finds_nothing_to_say(name, form):
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck: apt install shellcheck")
    text = text_of(name)
    if form == "mpirun":
        text = by_mpirun(text) if "# By mpirun" in text else text
    done = subprocess.run(
        ["shellcheck", "--severity=style", "-"], input=text, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == ""


@pytest.mark.parametrize("name", SLURM)
def test_sbatch_knows_every_option(name):
    lines = text_of(name).splitlines()
    places = [place for place, line in enumerate(lines) if line.startswith("#SBATCH")]
    for place in places:
        option = re.fullmatch(r"#SBATCH --([a-z-]+)(=\S+)?( +# .+)?", lines[place])
        assert option, lines[place]
        assert option.group(1) in OPTIONS.split(), lines[place]
    first = next(place for place, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(places) < first, "sbatch reads no option after the first command"


def test_pbs_knows_every_option():
    lines = text_of("gpus.pbs").splitlines()
    options = [line.removeprefix("#PBS ") for line in lines if line.startswith("#PBS")]
    resources = dict(
        option.removeprefix("-l ").split("=", 1) for option in options if option.startswith("-l ")
    )
    chunk = dict(part.split("=") for part in resources["select"].split(":")[1:])
    assert set(resources) == {"select", "walltime"}
    assert set(chunk) <= {"ncpus", "mpiprocs", "ngpus", "ompthreads", "mem"}
    assert {option.split()[0] for option in options} <= {"-A", "-N", "-j", "-l", "-o", "-q", "-r"}
    text = text_of("gpus.pbs")
    # What is said twice is the same twice.
    assert re.search(r"mpirun -np (\d+) ", text).group(1) == chunk["mpiprocs"] == chunk["ngpus"]
    assert number_after("export OMP_NUM_THREADS=", text) * int(chunk["mpiprocs"]) == int(chunk["ncpus"])
    hours, minutes, seconds = map(int, resources["walltime"].split(":"))
    limit = re.search(r"--time-limit (\$\(\(.*\)\))", text).group(1)
    limit = int(subprocess.run(["bash", "-c", f"echo {limit}"], capture_output=True, check=True).stdout)
    assert limit == 3600 * hours + 60 * minutes + seconds - 180


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_programs_know_every_option(name, capsys):
    # Comments too: the other forms in them are there to be used.
    calls = re.findall(r"python -m (mpi_landscape\.\w+)([^|\n]*)", text_of(name).replace("\\\n", " "))
    assert "mpi_landscape.surface" in {program for program, _ in calls}
    for program, words in calls:
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(program).main(["--help"])
        assert not ended.value.code
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        used = set(re.findall(r"(?<= )--[a-z-]+", words))
        assert used <= known, program


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_configuration_is_there(name):
    paths = re.findall(r"\S*configs/[\w/]+\.yaml", text_of(name))
    assert paths
    for path in paths:
        assert (HOUSE / path.split("(")[-1].split("=")[-1]).is_file(), path


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_template_sets_what_every_job_needs(name):
    text = text_of(name)
    assert "export HDF5_USE_FILE_LOCKING=FALSE " in text
    assert "export OMP_NUM_THREADS=" in text
    if name in SLURM:
        assert "#SBATCH --signal=USR1@180 " in text
        assert (
            'srun --kill-on-bad-exit=0 --wait=30 --cpus-per-task="$SLURM_CPUS_PER_TASK" --cpu-bind=cores \\\n'
            in text
        )


def test_an_array_has_a_job_for_each_configuration():
    text = text_of("array.slurm")
    configurations = re.search(r"^configs=\((.*)\)$", text, re.MULTILINE).group(1).split()
    assert (
        re.search(r"^#SBATCH --array=(\S+)%", text, re.MULTILINE).group(1) == f"0-{len(configurations) - 1}"
    )


# Commands that write down how they were called, in the order of the calls. `srun` ends with a status of the test's choice,
# and leaves as many tiles as it says.
PLAYED = {
    "srun": 'echo "srun" >>calls; cp after tiles 2>/dev/null; exit "$STATUS"',
    "scontrol": 'echo "scontrol $*" >>calls',
    "scancel": 'echo "scancel $*" >>calls',
    "sbatch": 'echo "sbatch $*" >>calls; echo 8',
    "python": 'if [ "$2" = mpi_landscape.inspect ]; then\n'
    '  [ -e tiles ] || exit 2\n  echo "{\\"progress\\": {\\"tiles_done\\": $(cat tiles)}}"\n'
    f'else\n  exec {shlex.quote(sys.executable)} "$@"\nfi',
}


@pytest.fixture
def played(tmp_path):
    """Run a template in a folder where the commands of SLURM are played."""
    bins = tmp_path / "bin"
    bins.mkdir()
    for name, body in PLAYED.items():
        (bins / name).write_text(f"#!/bin/bash\n{body}\n")
        (bins / name).chmod(0o755)

    def run(name, *arguments, before, after, status, **environment):
        for file, tiles in (("tiles", before), ("after", after)):
            (tmp_path / file).unlink(missing_ok=True)
            if tiles is not None:
                (tmp_path / file).write_text(f"{tiles}\n")
        script = tmp_path / name
        script.write_text(text_of(name))
        environment = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2", "STATUS": str(status), **environment}
        done = subprocess.run(
            ["bash", str(script), *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment, "PATH": f"{bins}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        return done.returncode, calls, done.stdout

    return run


AGAIN = "scontrol requeue 7"
REQUEUES = [
    (None, 0, 20, 0, 0, ["srun"], "", "complete at the first start"),
    (
        None,
        None,
        3,
        75,
        75,
        ["srun", AGAIN],
        "3 tiles were completed",
        "the first start, without a file before",
    ),
    ("1", 3, 7, 75, 75, ["srun", AGAIN], "4 tiles were completed", "progress since the last start"),
    ("1", 7, 7, 75, 75, ["srun"], "no tile was completed", "no progress since the last start"),
    (None, None, None, 75, 75, ["srun"], "no tile was completed", "not even a file"),
    ("19", 3, 7, 75, 75, ["srun", AGAIN], "4 tiles", "the last restart but one"),
    ("20", 3, 7, 75, 75, ["srun"], "restarted 20 times", "the last restart"),
    ("21", 3, 7, 75, 75, [], "restarted too often", "SLURM's own restarts are counted, too"),
    ("1", 3, 3, 2, 2, ["srun"], "", "refused"),
    ("1", 3, 7, 1, 1, ["srun"], "", "failed, though after some tiles"),
    ("1", 3, 7, 137, 137, ["srun"], "", "a rank was killed"),
]


@pytest.mark.parametrize(
    ("restarts", "before", "after", "status", "ending", "calls", "words", "reason"),
    REQUEUES,
    ids=[row[-1] for row in REQUEUES],
)
def test_a_job_is_requeued_only_where_that_leads_on(
    played, restarts, before, after, status, ending, calls, words, reason
):
    environment = {} if restarts is None else {"SLURM_RESTART_COUNT": restarts}
    found = played("requeue.slurm", before=before, after=after, status=status, **environment)
    assert found[:2] == (ending, calls), reason
    assert words in found[2]


CHAINS = [
    (["1"], None, 3, 75, True, "job 8 goes on", "progress"),
    ([], None, 3, 75, True, "number 1 of at most 20", "the first needs no number"),
    (["19"], 3, 7, 75, True, "number 19 of at most 20", "the last but one"),
    (["2"], 3, 3, 75, False, "no tile was completed", "no progress"),
    (["2"], 3, 20, 0, False, "ended: complete", "complete"),
    (["2"], 3, 7, 137, False, "ended: exit status 137", "a rank was killed"),
    (["2"], 3, 3, 2, False, "ended: exit status 2", "refused"),
]


@pytest.mark.parametrize(
    ("arguments", "before", "after", "status", "goes_on", "words", "reason"),
    CHAINS,
    ids=[row[-1] for row in CHAINS],
)
def test_a_chain_goes_on_only_where_that_leads_on(
    played, tmp_path, arguments, before, after, status, goes_on, words, reason
):
    ending, calls, out = played("chain.slurm", *arguments, before=before, after=after, status=status)
    number = int(arguments[0]) if arguments else 1
    submitted = f"sbatch --parsable --dependency=afterany:7 {tmp_path}/chain.slurm {number + 1}"
    # Before the work, or a job that is killed would end the chain.
    assert calls == [submitted, "srun", *([] if goes_on else ["scancel 8"])], reason
    assert ending == status
    assert words in out


def test_the_last_job_of_a_chain_submits_none(played):
    ending, calls, out = played("chain.slurm", "20", before=3, after=7, status=75)
    assert (ending, calls) == (75, ["srun"])
    assert "next: none" in out
    assert "the last one of the chain" in out


@pytest.mark.parametrize("name", ["requeue.slurm", "chain.slurm"])
def test_tiles_are_counted_as_they_are_in_the_file(study, computed, name):
    computed()
    function = re.search(r"^tiles_done\(\).*?^}$", text_of(name), re.MULTILINE | re.DOTALL).group(0)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for output, expected in (
        ("surface.h5", verify_tiles(study.output)[1]),
        ("absent.h5", 0),
        ("study.yaml", 0),
    ):
        done = subprocess.run(
            ["bash", "-c", f"output={output}\n{function}\ntiles_done"],
            cwd=study.folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(HOUSE)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.stdout == f"{expected}\n", done.stderr


def test_an_edit_that_does_not_apply_is_noticed():
    with pytest.raises(AssertionError, match=r"0 lines of gpus\.slurm start with 'absent'"):
        edited("gpus.slurm", {"absent": "x"})
    with pytest.raises(AssertionError, match=r"\d\d? lines of gpus\.slurm start with '#SBATCH'"):
        edited("gpus.slurm", {"#SBATCH": "x"})
