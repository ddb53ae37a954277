"""Everything that may happen to a surface file, done to it: a table of what was left. Takes about an hour on two cores.

    python -m tests.faults.sweep                                   # both writers where h5py has parallel HDF5
    python -m tests.faults.sweep --writers root --parts points     # one of them, kills at every system call only
    python -m tests.faults.sweep --every 10 --kills 50             # a sample, in minutes

Parts:

    points   one rank is killed (strace) at the entry of every system call that changes the file or the file that becomes
             it: once each for the light job, which has the real storage code and coordinator but no torch; for the real
             program, a sample of them
    kills    SIGKILL at random instants, to one rank or to all
    errors   from some system call on, all of its kind fail with ENOSPC or EIO
    damage   the file is cut, or one of its bits turned, while nobody writes it

A job has --ranks ranks under mpiexec. Exit status 1 when anything was harmed; what, stands on standard error.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import h5py

from tests.faults import damage, injection, jobs, kills
from tests.faults.aftermath import HEAD, Aftermath, Tally, contents

PARTS = ("points", "kills", "errors", "damage")
ERRORS = ("ENOSPC", "EIO")


def main() -> None:
    """Do what is asked for and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    both = ["root", "parallel"] if h5py.get_config().mpi else ["root"]
    parser.add_argument("--writers", nargs="+", choices=("root", "parallel"), default=both)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--ranks", type=int, default=2, help="of every job; at least 2 for the parallel writer"
    )
    parser.add_argument(
        "--every", type=int, default=1, help="only every so many-th system call of the light job"
    )
    parser.add_argument("--errors-every", type=int, default=4, help="likewise for errors")
    parser.add_argument("--kills", type=int, default=500, help="of the light job, at random instants")
    parser.add_argument("--damages", type=int, default=1000, help="of the file, at random offsets")
    parser.add_argument("--program", type=int, default=20, help="faults of each kind to the real program")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if "parallel" in options.writers and not h5py.get_config().mpi:
        parser.error("h5py is built without MPI; .ci/run shows how to build it with parallel HDF5")
    if missing := injection.strace_is_missing():
        parser.error(missing)
    tallies = []
    with tempfile.TemporaryDirectory() as folder:
        for tally in all_parts(options, Path(folder)):
            tallies.append(tally)
            sys.stderr.write("\n".join([tally.row(), *tally.complaints()]) + "\n")
            sys.stderr.flush()
    sys.stdout.write("\n".join([HEAD, *(tally.row() for tally in tallies)]) + "\n")
    sys.exit(any(tally.found for tally in tallies))


def all_parts(options: argparse.Namespace, folder: Path) -> Iterator[Tally]:
    """Every row, one after the other."""
    chance = random.Random(options.seed)
    for writer in options.writers:
        places = [folder / f"{writer}_{kind}" for kind in ("light", "program")]
        for place in places:
            place.mkdir()
        light = jobs.light(places[0], writer, options.ranks)
        program = jobs.program(places[1], writer, options.ranks) if options.program else None
        if "points" in options.parts:
            yield from killed_at_points(light, writer, options.every, None, chance)
            if program:
                yield from killed_at_points(program, writer, 1, options.program, chance)
        if "kills" in options.parts:
            slow = jobs.light(places[0], writer, options.ranks, pause=0.01)
            yield from killed_at_random(slow, writer, options.kills, options.seed)
            if program:
                slow = jobs.program(places[1], writer, options.ranks, pause=0.01)
                yield from killed_at_random(slow, writer, options.program, options.seed)
        if "errors" in options.parts:
            yield from failing(light, writer, options.errors_every, None, chance)
            if program:
                yield from failing(program, writer, 1, options.program, chance)
    if "damage" in options.parts:
        yield from damaged(folder, options.damages, chance)


def undisturbed(job: jobs.Job) -> dict[str, bytes]:
    """What the job computes when nothing happens to it."""
    job.clear()
    jobs.resume_as_started(job)
    return contents(job.file)


def _chosen(job: jobs.Job, every: int, most: int | None, chance: random.Random) -> list[injection.Point]:
    found = injection.points(job)[::every]
    said = Counter(f"{point.call} of rank {point.rank}" for point in found)
    sys.stderr.write(", ".join(f"{times} {what}" for what, times in said.items()) + "\n")
    return found if most is None else sorted(chance.sample(found, min(most, len(found))))


def _name(job: jobs.Job) -> str:
    return "light job" if job.light else "program"


def killed_at_points(
    job: jobs.Job, writer: str, every: int, most: int | None, chance: random.Random
) -> Iterator[Tally]:
    """Kills at the entry of system calls."""
    reference = undisturbed(job)
    tally = Tally(
        what=f"{writer} writer, {_name(job)}: one rank killed at the entry of a system call on the file"
    )
    missed, start = 0, time.monotonic()
    for point in _chosen(job, every, most, chance):
        job.clear()
        left = injection.kill_at(job, point, reference)
        if left is None:
            missed += 1
        else:
            tally.add(str(point), left)
    sys.stderr.write(f"{missed} calls did not come again; {time.monotonic() - start:.0f} s\n")
    yield tally


def killed_at_random(job: jobs.Job, writer: str, count: int, seed: int) -> Iterator[Tally]:
    """Kills at random instants."""
    reference = undisturbed(job)
    tallies = {
        whom: Tally(what=f"{writer} writer, {_name(job)}: {whom} killed at a random instant")
        for whom in ("one rank", "all ranks")
    }
    starts, most, start = 0, 0.0, time.monotonic()
    for number, kill in enumerate(kills.random_kills(job, count, seed, reference)):
        tallies["all ranks" if kill.whom == "all" else "one rank"].add(f"kill {number}", kill.left)
        starts += kill.tiles is None
        most = max(most, kill.took if kill.whom != "all" else 0.0)
    sys.stderr.write(
        f"{starts} of {count} fell into the start; nobody was left {most:.2f} s after one rank's end at most; "
        f"{time.monotonic() - start:.0f} s\n"
    )
    yield from tallies.values()


def failing(
    job: jobs.Job, writer: str, every: int, most: int | None, chance: random.Random
) -> Iterator[Tally]:
    """Errors of system calls."""
    reference = undisturbed(job)
    chosen = [point for point in _chosen(job, every, most, chance) if point.call != "openat"]
    for error in ERRORS:
        tally = Tally(what=f"{writer} writer, {_name(job)}: system calls on the file fail with {error}")
        for point in chosen:
            job.clear()
            tally.add(str(point), injection.fail_at(job, point, error, reference))
        yield tally


def damaged(folder: Path, count: int, chance: random.Random) -> Iterator[Tally]:
    """Files cut and bits turned; a refusal in one line is as good as the same bits."""
    place = folder / "damage"
    place.mkdir()
    job = jobs.light(folder, "root", 1)
    job.clear()
    jobs.resume(job)
    reference = contents(job.file)
    for what, harm, times in (("cut at", damage.cut, count // 4), ("one bit turned at", damage.flip, count)):
        tally = Tally(what=f"complete file {what} a random offset")
        endings: Counter[str] = Counter()
        for _ in range(times):
            found = damage.trial(job.file, place, lambda path, harm=harm: harm(path, chance), reference)
            endings[found.ending] += 1
            if found.ending in damage.HARMLESS:
                tally.add(found.damage, Aftermath())
            else:
                tally.add(found.damage, Aftermath(different=True, notes=(found.ending, found.text)))
        sys.stderr.write(", ".join(f"{number} {ending}" for ending, number in endings.items()) + "\n")
        tally.refused = endings[damage.REFUSED]
        yield tally


if __name__ == "__main__":
    main()
