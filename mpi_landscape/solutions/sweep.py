"""Several trainings, one per rank at a time, each in its own folder. Collective.

How many threads a training on a CPU takes does not depend on the number of ranks, and so neither do its bits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.parallel.devices import available_cores, choose_device, shared_device_warning
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.solutions import folder as files
from mpi_landscape.solutions.cost import describe
from mpi_landscape.solutions.following import follow
from mpi_landscape.solutions.member import Member, PreparedTraining
from mpi_landscape.solutions.outcome import COLUMNS, Ended, row_of, table, words
from mpi_landscape.solutions.preparing import Splits, build_untrained, check_batches, prepare, read_splits
from mpi_landscape.storage.cells import Published
from mpi_landscape.training.divergence import DivergedError
from mpi_landscape.training.loop import Epoch
from mpi_landscape.training.recipe import num_epochs, num_steps, place
from mpi_landscape.work.job import Job, Row
from mpi_landscape.work.progress import Progress
from mpi_landscape.work.running import complete


class Data:
    """The data of the member that was read last: the next member often has the same."""

    def __init__(self) -> None:
        self._text = ""
        self._splits: Splits = {}

    def splits(self, member: Member) -> Splits:
        """The data of a member, read where it is not that of the last one."""
        text = f"{member.configuration.data} {member.where if member.configuration.data.target else ''}"
        if text != self._text:
            self._splits, self._text = read_splits(member), text
        return self._splits


def check(members: Sequence[Member], data: Data, say: Callable[[str], None], *, overwrite: bool) -> None:
    """Refuse what can be refused before anything is trained: on rank 0, which also fetches data, and says of starts.

    Raises:
        LandscapeError: A part of a member is bad, or its folder holds something else.
    """
    for member in members:
        build_untrained(member, say)
        check_batches(member, data.splits(member))
        if not overwrite:
            files.standing(member.folder, member.identity)


def dry_run(members: Sequence[Member], data: Data, ranks: Ranks) -> None:
    """Say what each training is and will cost; rank 0 alone measures."""

    def measure() -> None:
        for member in members:
            threads = _threads(member, members)
            device = choose_device(member.configuration.compute.device, ranks)
            with exact_arithmetic(threads):
                splits = data.splits(member)
                prepared = prepare(member, splits, ranks, device=device, threads=threads)
                for line in describe(prepared, splits):
                    ranks.say(line)

    ranks.on_root(measure)


def train_all(
    members: Sequence[Member], data: Data, ranks: Ranks, *, overwrite: bool, stopping: Stopping
) -> tuple[str | None, bool]:
    """Train every member, each on whichever rank is free. Collective.

    Returns:
        Why it stopped early, None when all are done; and whether any diverged.

    Raises:
        AgreedError: A device is not there.
    """
    devices = [each.configuration.compute.device for each in members]
    with ranks.together():
        [choose_device(each, ranks) for each in set(devices)]
    warning = shared_device_warning(choose_device(devices[0], ranks), ranks)
    if warning:
        ranks.say(f"warning: {warning}")
    if ranks.size > len(members):
        ranks.say(f"{len(members)} trainings on {ranks.size} ranks: some ranks have nothing to do")
    several = len(members) > 1
    account = _Account(len(members))
    job = Job(
        num_items=len(members),
        row_size=len(COLUMNS),
        evaluate=_Trainer(members, data, ranks, overwrite).train,
        account=lambda: account,
        alike=False,
        units="trainings",
        points="trainings",
        is_shown=several,
        line=lambda index, row, done: (
            f"{done} of {len(members)}: {members[index].folder}: {words(row)}" if several else None
        ),
    )
    ending = complete(job, None, ranks, stopping=stopping)
    if several:
        for line in table(members, account.rows):
            ranks.say(line)
    diverged = any(row[0] == Ended.DIVERGED for row in account.rows.values())
    return ending.stopped, bool(ranks.share(diverged))


class _Account:
    """The trainings that have ended, on rank 0; what is in their folders is seen when their turn comes."""

    def __init__(self, num_members: int) -> None:
        self._num_members = num_members
        self.rows: dict[int, Row] = {}
        self.summary = ""

    def take_over(self, item: int, row: Row) -> None:
        self.rows[item] = row.reshape(-1)

    def begin(self) -> tuple[Published, ...]:
        return ()

    def add(self, item: int, row: Row) -> None:
        self.take_over(item, row)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._num_members))

    @property
    def num_left(self) -> int:
        return self._num_members - len(self.rows)

    @property
    def num_done(self) -> int:
        return len(self.rows)


class _Trainer:
    """What a rank does with a member."""

    def __init__(self, members: Sequence[Member], data: Data, ranks: Ranks, overwrite: bool) -> None:
        self._members, self._data, self._ranks, self._overwrite = members, data, ranks, overwrite
        self._alone = len(members) == 1

    def train(self, index: int, between: Callable[[], None]) -> NDArray[np.float64]:
        """Train one; returns `COLUMNS`."""
        member = self._members[index]
        start = time.monotonic()
        with files.claimed(member.folder):
            if self._overwrite:
                files.clear(member.folder)
            standing = files.standing(member.folder, member.identity)
            if standing == "complete":
                self._tell(f"{member.folder}: complete")
                return row_of(member, Ended.COMPLETE, start)
            threads = _threads(member, self._members)
            known = state = None
            if standing == "begun":
                state = files.read_state(member.folder / files.STATE)
                known = files.read_facts(member.folder)
                threads = int(known["threads"])
            device = choose_device(member.configuration.compute.device, self._ranks)
            with exact_arithmetic(threads):
                splits = self._data.splits(member)
                prepared = prepare(member, splits, self._ranks, device=device, threads=threads, facts=known)
                ending = self._follow(prepared, state, between)
        return row_of(member, ending, start)

    def _follow(
        self, prepared: PreparedTraining, state: Mapping[str, Any] | None, between: Callable[[], None]
    ) -> Ended:
        """Show one training where it is the only one, and say how it ended."""
        member, total = prepared.member, num_epochs(prepared.recipe)
        self._tell(f"{member.folder}: {prepared.facts['num_parameters']:,} parameters, {total} epochs")
        epoch, step = (int(state["epoch"]), int(state["step"])) if state else (0, 0)
        if epoch or step:
            self._tell(f"{member.folder}: goes on after {step} steps of epoch {epoch + 1}")
        steps = _num_steps(prepared, total)
        with Progress(
            steps,
            initial=_num_steps(prepared, epoch) + step,
            points_per_unit=total * len(prepared.feeds["train"]) / max(steps, 1),
            units="steps",
            points="examples",
            shown=self._alone,
        ) as progress:
            spoken = _Spoken(progress, total)

            def tell(epoch: Epoch) -> None:
                if self._alone:
                    spoken.line(epoch)

            def stepped() -> None:
                progress.advance()
                between()

            try:
                follow(prepared, state, stepped=stepped, between=between, tell=tell)
            except DivergedError as error:
                sys.stderr.write(
                    f"error: {member.where}: training diverged: {error}; the last checkpoint in {member.folder} is good\n"
                )
                return Ended.DIVERGED
        self._tell(f"{member.folder / files.FINAL}: trained")
        return Ended.TRAINED

    def _tell(self, text: str) -> None:
        """A line where one training is all there is; a sweep has its own."""
        if self._alone:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


class _Spoken:
    """A line per epoch, but not thousands of them."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._last = -np.inf

    def line(self, epoch: Epoch) -> None:
        now = time.monotonic()
        if now - self._last < 1 and epoch.number < self._total:
            return
        self._last = now
        values = "  ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in epoch.values.items() if value == value
        )
        self._progress.say(f"epoch {epoch.number:>{len(str(self._total))}} of {self._total}  {values}")


def _num_steps(prepared: PreparedTraining, epochs: int) -> int:
    """Steps of the first epochs of a training."""
    phases, examples = prepared.recipe.phases, len(prepared.feeds["train"])
    return sum(num_steps(phases[place(prepared.recipe, number + 1)[0]], examples) for number in range(epochs))


def _threads(member: Member, members: Sequence[Member]) -> int:
    """Part of the bits on a CPU, so never a matter of the number of ranks."""
    asked = member.configuration.compute.threads
    if asked != "auto":
        return asked
    return 1 if len(members) > 1 else len(available_cores())
