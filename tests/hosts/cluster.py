"""Several hosts on one machine: Linux namespaces, each with a network, a name and shared memory of its own.

Everything lives in one process namespace, with a bridge as the switch between the hosts. When the test ends, or dies,
so does the namespace's first process; the kernel then ends everything in it and takes the networks away, which nothing
outside ever sees. The files are those of the machine, as where a cluster has one file system.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERFACE = "eth0"

# A namespace for the processes of all hosts, and the switch.
_CLUSTER = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc", "--uts"]
_HOST = ["unshare", "--net", "--mount", "--uts", "--ipc"]
# Each of them ends with its standard input: with the test, however that ends. The first one also has to reap orphans,
# so it stays a shell.
_SWITCH_SETUP = "ip link add switch type bridge && ip link set switch up && echo $$ && cat; exit"
# MPI libraries share memory through /dev/shm; what one host puts there another must not see.
_HOST_SETUP = (
    'hostname "$1" && mount -t tmpfs tmpfs /dev/shm && mount --bind "$2" /etc/hosts && ip link set lo up && '
    "echo $$ && exec cat"
)
# What `ssh HOST COMMAND...` does: the words are a command line for a shell.
_AGENT = """#!/bin/sh
host=$1
shift
exec nsenter --target "$(cat "{folder}/$host")" --net --mount --uts --ipc env -C "$PWD" sh -c "$*"
"""


# Whether a host answers, if only to say that nobody listens there.
_REACHES = """
import socket, sys, time
for _ in range(300):
    with socket.socket() as probe:
        probe.settimeout(1)
        try:
            probe.connect((sys.argv[1], 9))
        except ConnectionRefusedError:
            sys.exit()
        except OSError:
            time.sleep(0.1)
sys.exit(f"{sys.argv[1]} cannot be reached")
"""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host of a cluster.

    Attributes:
        name: What it calls itself, and others find it by.
        process: Its first process, as the machine counts them.
    """

    name: str
    process: int

    def command(self, *argv: str, cwd: Path) -> list[str]:
        """The words that run a command there, in a folder."""
        return [*_inside(self.process), "env", "-C", str(cwd), *argv]

    def processes(self) -> list[psutil.Process]:
        """What runs there."""
        own, found = _network(self.process), []
        for process in psutil.process_iter():
            # Those that end meanwhile have no network any more.
            with suppress(OSError):
                if process.pid != self.process and _network(process.pid) == own:
                    found.append(process)
        return found


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Hosts and the switch between them.

    Attributes:
        hosts: By name.
        agent: A program that runs a command on a host, as launchers call it: `agent HOST COMMAND...`.
        switch: Its first process, as the machine counts them.
    """

    hosts: Mapping[str, Host]
    agent: Path
    switch: int

    def cut(self, host: str) -> None:
        """Pull a host's network cable: nothing comes or goes any more, and nobody is told."""
        self._cable(host, "down")

    def mend(self, host: str) -> None:
        """Plug it in again, and wait until every host reaches every other."""
        self._cable(host, "up")
        for here in self.hosts.values():
            for other in self.hosts:
                # Hosts remember for a while that another could not be reached.
                _run(*_inside(here.process), sys.executable, "-c", _REACHES, other)

    def _cable(self, host: str, state: str) -> None:
        _run(*_inside(self.switch), "ip", "link", "set", f"to_{host}", state)


def obstacle() -> str | None:
    """Why there can be no hosts here; None where there can be."""
    needs = "several hosts on one machine need root and Linux namespaces (apt install iproute2 util-linux)"
    for program in ("ip", "unshare", "nsenter", "mount", "hostname"):
        if shutil.which(program) is None:
            return f"{needs}; there is no {program!r}"
    tried = subprocess.run(
        [*_CLUSTER, "ip", "link", "add", "switch", "type", "bridge"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    return None if tried.returncode == 0 else f"{needs}; {' '.join(tried.stderr.split())}"


@contextmanager
def cluster(folder: Path, names: Sequence[str]) -> Iterator[Cluster]:
    """Hosts of these names, on a network of their own.

    Args:
        folder: An empty one, for what they need.
        names: Short ones: an interface's name has 15 letters at most.
    """
    addresses = {name: f"10.0.0.{number}" for number, name in enumerate(names, start=1)}
    table = folder / "table"
    table.write_text("127.0.0.1 localhost\n" + "".join(f"{at} {name}\n" for name, at in addresses.items()))
    agent = folder / "agent"
    agent.write_text(_AGENT.format(folder=folder))
    agent.chmod(0o755)
    with ExitStack() as holders:
        switch, _ = holders.enter_context(_held([*_CLUSTER, "sh", "-c", _SWITCH_SETUP]))
        hosts = {}
        for name, address in addresses.items():
            setup = [*_inside(switch), *_HOST, "sh", "-c", _HOST_SETUP, "sh", name, str(table)]
            process, number = holders.enter_context(_held(setup))
            (folder / name).write_text(number)
            hosts[name] = Host(name=name, process=process)
            cable = ["link", "add", f"to_{name}", "type", "veth", "peer", "name", INTERFACE, "netns", number]
            _run(*_inside(switch), "ip", *cable)
            _run(*_inside(switch), "ip", "link", "set", f"to_{name}", "master", "switch", "up")
            _run(*_inside(process), "ip", "address", "add", f"{address}/24", "dev", INTERFACE)
            _run(*_inside(process), "ip", "link", "set", INTERFACE, "up")
        yield Cluster(hosts=hosts, agent=agent, switch=switch)


@contextmanager
def _held(command: Sequence[str]) -> Iterator[tuple[int, str]]:
    """A process in namespaces of its own: its number as the machine counts, and as it is counted in its namespace."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            number = holder.stdout.readline().strip()
            if not number:
                raise RuntimeError(f"{' '.join(command)}: {holder.communicate()[1]}")
            # `unshare` and `nsenter` wait for the one that they have started in another process namespace.
            (process,) = psutil.Process(holder.pid).children()
            yield process.pid, number
        finally:
            holder.kill()


def _inside(process: int) -> list[str]:
    return ["nsenter", f"--target={process}", "--all"]


def _network(process: int) -> str:
    return str(Path(f"/proc/{process}/ns/net").readlink())


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout
