"""A real SLURM on this machine alone, from Debian's packages, for as long as a `with` lasts.

Two pretended nodes of 8 CPUs and 4 GPUs each, which are device files that lead nowhere; jobs really run, as processes of this
machine. A partition `low` may be preempted by jobs of the partition `high`, at once, and a partition `graced` after a
minute in which they may end by themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

NODES = ("node1", "node2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
# The daemons are not on everybody's path.
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
# Generous: the machine may be busy with other things.
FAR = 180.0
ENDED = {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "DEADLINE"}

# No accounting, no cgroups, no binding of cores: they want a database, rights and as many cores as are claimed.
# A job that goes back into the queue starts after cred_expire seconds, 120 where nothing is said. PMIx makes a folder of the
# same name for a step on each node, below TmpFS.
CONFIGURATION = """
ClusterName=pretended
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
TmpFS={folder}/tmp-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/prolog
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=pmix
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
GresTypes=gpu
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=graced Nodes=ALL PriorityTier=1 GraceTime=60 MaxTime=INFINITE State=UP
PartitionName=high Nodes=ALL PriorityTier=9 MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 "
    "ThreadsPerCore=1 Gres=gpu:4 State=UNKNOWN"
)
# Open MPI names shared memory by host, job and place among the ranks of a node: two nodes that are one machine would share it.
PROLOG = """#!/bin/sh
for name in TMPDIR OMPI_MCA_btl_vader_backing_directory OMPI_MCA_osc_sm_backing_directory; do
    echo "export $name={folder}/tmp-$SLURMD_NODENAME"
done
"""


def missing() -> str | None:
    """What keeps SLURM from being started here, and what to do about it; None when nothing does."""
    absent = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if absent:
        return f"no {', '.join(absent)}: apt install slurm-wlm munge"
    if os.geteuid() != 0:
        return "SLURM's daemons, which start jobs and make device files, need root"
    return None


class Cluster:
    """The running SLURM, as its users see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        foreign = ("SLURM", "SBATCH_", "OMPI_", "PMI", "PRTE_", "HYDRA_")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "PATH": PATH,
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def daemons(self) -> list[subprocess.Popen[bytes]]:
        return list(self._daemons.values())

    def call(self, *command: str | Path, cwd: Path | None = None, **environment: str) -> str:
        """What a command of SLURM prints; it must succeed."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd or self.folder,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=FAR,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: Path, *options: str, cwd: Path, **environment: str) -> str:
        """The number of a new job, with the environment of the one who submits it."""
        return (
            self.call("sbatch", "--parsable", *options, script, cwd=cwd, **environment).strip().split(";")[0]
        )

    def jobs(self, job: str) -> list[dict[str, str]]:
        """What `scontrol show job` knows of a job, or of each job of an array."""
        shown = self.call("scontrol", "--oneliner", "show", "job", job)
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in shown.splitlines() if line.strip()]

    def wait(self, job: str, ready: Callable[[], object], what: str, timeout: float = FAR) -> None:
        """Until something is so; a job that never gets there, or ends before, is shown."""
        deadline = time.monotonic() + timeout
        while not ready():
            if time.monotonic() > deadline or (self._is_over(job) and not ready()):
                raise AssertionError(
                    f"job {job}: not {what} within {timeout:g} s or its end\n{self.story(job)}"
                )
            time.sleep(0.1)

    def wait_for_end(self, job: str, timeout: float = FAR) -> list[dict[str, str]]:
        """Until a job, or each of an array, ended for good; returns what is known of them."""
        self.wait(job, lambda: self._is_over(job), "ended", timeout)
        return self.jobs(job)

    def story(self, job: str) -> str:
        """All that tells why a job is where it is."""
        shown = self.call("scontrol", "show", "job", job)
        logs = {Path(each["StdOut"]) for each in self.jobs(job) if "StdOut" in each}
        logs |= {self.folder / "slurmctld.log"}
        texts = [f"--- {log.name}\n{log.read_text()[-5000:]}" for log in sorted(logs) if log.exists()]
        return "\n".join([shown, self.call("squeue"), *texts])

    def processes(self) -> list[psutil.Process]:
        """Everything that runs below the nodes' daemons, but for what has ended and is only waited for."""
        found = []
        for name in NODES:
            if name in self._daemons:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += psutil.Process(self._daemons[name].pid).children(recursive=True)
        return [process for process in found if runs(process)]

    def cancel_all(self) -> None:
        """End all jobs, and wait until nothing of them runs."""
        self.call("scancel", "--quiet", "--user=root")
        self._until(lambda: not self.processes())

    def ranks(self) -> list[psutil.Process]:
        """The processes of the main program."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                if "mpi_landscape.surface" in words and Path(words[0]).name.startswith("python"):
                    found.append(process)
        return found

    def start(self) -> None:
        """Start the daemons and wait until the nodes take jobs."""
        self._write_configuration()
        keys = self.folder / "munge"
        self._start(
            "munged",
            "munged",
            "--foreground",
            f"--key-file={keys}/key",
            f"--socket={keys}/socket",
            *(f"--{kind}-file={keys}/{kind}" for kind in ("pid", "log", "seed")),
            user="munge",
        )
        self._until((keys / "socket").exists)
        self._start("slurmctld", "slurmctld", "-D", "-c")
        for name in NODES:
            self._start(name, "slurmd", "-D", "-N", name)
        self._until(self._is_idle)

    def end(self) -> None:
        """End every process that was started, and all that they started."""
        # The controller first, so that nothing new begins.
        self._end("slurmctld")
        while alive := self.processes():
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(alive, timeout=0.1)
        for name in (*NODES, "munged"):
            self._end(name)

    def _write_configuration(self) -> None:
        host = socket.gethostname().split(".")[0]
        port, *ports = _free_ports(1 + len(NODES))
        nodes = "\n".join(
            NODE.format(name=name, host=host, port=own) for name, own in zip(NODES, ports, strict=True)
        )
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(folder=self.folder, host=host, port=port, nodes=nodes)
        )
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-3]\n")
        for number in range(4):
            # What /dev/null is.
            os.mknod(self.folder / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        for name in ("state", *(f"tmp-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        # What is printed there becomes part of a rank's environment.
        (self.folder / "prolog").write_text(PROLOG.format(folder=self.folder))
        (self.folder / "prolog").chmod(0o755)
        keys = self.folder / "munge"
        keys.mkdir(mode=0o755)
        (keys / "key").write_bytes(secrets.token_bytes(128))
        (keys / "key").chmod(0o400)
        for path in (keys, keys / "key"):
            shutil.chown(path, "munge", "munge")

    def _start(self, name: str, *command: str, user: str | None = None) -> None:
        with (self.folder / f"{name}.out").open("wb") as out:
            self._daemons[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                preexec_fn=_adopt_orphans,
            )

    def _is_over(self, job: str) -> bool:
        return all(each["JobState"] in ENDED for each in self.jobs(job))

    def _is_idle(self) -> bool:
        done = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--partition=low", "--format=%T"],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=FAR,
        )
        return done.stdout.split() == ["idle"] * len(NODES)

    def _until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + FAR
        while not ready():
            ended = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                texts = [
                    f"--- {path.name}\n{path.read_text()}" for path in sorted(self.folder.rglob("*.out"))
                ]
                texts += [
                    f"--- {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log"))
                ]
                raise AssertionError(f"SLURM is not ready; ended: {ended}\n" + "\n".join(texts))
            time.sleep(0.05)

    def _end(self, name: str) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            daemon.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=10)
                return


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A SLURM that is ready for jobs; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # munged runs as a user of its own
        running = Cluster(folder)
        try:
            running.start()
            yield running
        finally:
            running.end()


def _adopt_orphans() -> None:
    """Have what a daemon starts stay below it: the parts of SLURM that run jobs leave their parents."""
    adopt = 36  # PR_SET_CHILD_SUBREAPER, kept across exec
    ctypes.CDLL(None).prctl(adopt, 1, 0, 0, 0)


def runs(process: psutil.Process) -> bool:
    """Whether a process has not ended, though nobody may have taken note of its end yet."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
