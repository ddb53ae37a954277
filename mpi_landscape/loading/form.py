"""The smallest form in which the examples of a split can be kept, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.reading import collate, in_precision, num_items, read_item
from mpi_landscape.loading.team import Alone, Team

# Examples, evenly spaced, on which a stored form must show that it is that of the items.
PROBED = 32

Kind = Literal["stored", "stored items", "items", "loose"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the examples of a split are read, kept and finished.

    Attributes:
        split: Its name.
        dataset: Map-style.
        dtype: What floating-point tensors of a finished batch become.
        kind: `stored`: rows of what the data set has `stored()`; `stored items`: each as its `stored_item(index)` gives
            it, collated; `items`: each as indexing gives it, collated; `loose`: likewise, but with strings, or of
            different shapes, so that rows of one array cannot hold them.
        template: Such a nest of no examples; of one for `loose`.
        num_examples: How many the data set has.
        rows: What the data set has stored, for the kind `stored`.
        seen: Items that were read to find the form, so that none is read twice.
    """

    split: str
    dataset: Any
    dtype: torch.dtype
    kind: Kind
    template: Any
    num_examples: int
    rows: Any = None
    seen: dict[int, Any] = field(default_factory=dict)

    @property
    def must_finish(self) -> bool:
        """Whether what is kept is not yet what the loss gets."""
        return self.kind in ("stored", "stored items")

    @property
    def example_bytes(self) -> int:
        """Memory of one example as it is kept."""
        if self.kind == "loose":
            return max(1, nests.num_bytes(self.template))
        return sum(
            leaf[:1].new_empty((1, *leaf.shape[1:])).nbytes for _, leaf in nests.tensors(self.template)
        )

    @property
    def concurrent(self) -> bool:
        """Whether several threads may read at once: rows of arrays, or a data set that says so of itself."""
        return self.kind == "stored" or bool(getattr(self.dataset, "thread_safe", False))

    def read_example(self, index: int) -> Any:
        """What `collated` takes of one example.

        Raises:
            LandscapeError: The data set raised.
        """
        if self.kind == "stored":
            return index
        if index in self.seen:
            return self.seen.pop(index)
        return read_item(self.split, self.dataset, index, stored=self.kind == "stored items")

    def collated(self, examples: list[Any]) -> Any:
        """Several examples as they are kept.

        Raises:
            LandscapeError: They do not collate.
        """
        if self.kind == "stored":
            chosen = torch.tensor(examples)
            return nests.map_tensors(lambda rows: rows.index_select(0, chosen), self.rows)
        return collate(self.split, examples, dtype=None if self.kind == "stored items" else self.dtype)

    def read(self, indices: Sequence[int]) -> Any:
        """Several examples as they are kept, on the CPU.

        Raises:
            LandscapeError: The data set raised, or they do not collate.
        """
        return self.collated([self.read_example(index) for index in indices])

    def finish(self, kept: Any) -> Any:
        """Make of several kept examples what collating their items gives, bit for bit; on any device."""
        if not self.must_finish:
            return kept
        owned = {tensor.data_ptr() for _, tensor in nests.tensors(kept)}
        finished = in_precision(self.dataset.finish(kept), self.dtype)
        # What is not changed by finishing (labels) is a view of what is kept; a loss that writes into its batch must
        # not reach it.
        return nests.map_tensors(lambda t: t.clone() if t.data_ptr() in owned else t, finished)

    def fits(self, kept: Any) -> bool:
        """Whether examples are of the shapes and types of the template, so that rows of one array hold them."""
        return _kinds(kept) == _kinds(self.template)


def find_form(
    split: str,
    dataset: Dataset[Any],
    *,
    device: torch.device,
    dtype: torch.dtype,
    first: int = 0,
    team: Team | None = None,
) -> Form:
    """Find the form of a split; process 0 of a team looks for all. Collective.

    A data set may offer `finish(nest) -> nest`, which makes of some stored examples what the default collation makes of
    its items, and either `stored() -> nest of tensors (N, ...)` or `stored_item(index)`. Where that is not so, bit for
    bit, on the device, for 32 examples evenly spaced, the collated items are kept: a class of a user's may inherit these
    and change what an item is.

    Args:
        split: Name, for messages.
        dataset: Map-style; items as `torch.utils.data.default_collate` takes them.
        device: Where batches are finished.
        dtype: What floating-point tensors of a finished batch become.
        first: The example that shows the shapes of all.
        team: Who reads the split.

    Raises:
        LandscapeError: The split is empty, of another length in another process, or an item cannot be read or collated.
    """
    team = team or Alone()
    with team.together():
        num_examples = num_items(split, dataset)
    expected = team.share(num_examples)
    with team.together():
        _check_length(split, expected, num_examples)

    plain = Form(
        split=split, dataset=dataset, dtype=dtype, kind="items", template=None, num_examples=num_examples
    )
    with team.together():
        found = None if team.rank else _look(plain, first, device)
    told: tuple[Kind, Any] = (found.kind, found.template) if found else ("items", None)
    kind, template = team.share(told)
    if found is not None:
        return found
    rows = _stored(dataset, num_examples) if kind == "stored" else None
    return replace(plain, kind=kind, template=template, rows=rows)


def _check_length(split: str, expected: int, found: int) -> None:
    if expected != found:
        raise LandscapeError(
            f"data: split {split!r} has {found} examples in one process of this node and {expected} in another; a random "
            f"choice of examples needs a fixed seed"
        )


def _look(plain: Form, first: int, device: torch.device) -> Form:
    rows = _stored(plain.dataset, plain.num_examples)
    candidates = [] if rows is None else [replace(plain, kind="stored", rows=rows)]
    if hasattr(plain.dataset, "stored_item") and hasattr(plain.dataset, "finish"):
        candidates.append(replace(plain, kind="stored items"))
    if candidates:
        probed = nests.evenly_spaced(plain.num_examples, PROBED)
        items = plain.read(probed)
        for candidate in candidates:
            kept = candidate.read(probed)
            # The digest is of what the CPU finishes.
            if all(_is_exact(candidate, kept, items, each) for each in {torch.device("cpu"), device}):
                return replace(candidate, template=_no_rows(kept))
    item = plain.read_example(first)
    example = plain.collated([item])
    leaves = [leaf for _, leaf in nests.leaves(example)]
    if leaves and all(isinstance(leaf, Tensor) for leaf in leaves):
        return replace(plain, template=_no_rows(example), seen={first: item})
    return replace(plain, kind="loose", template=example, seen={first: item})


def _no_rows(nest: Any) -> Any:
    return nests.map_tensors(lambda t: t[:0].clone(), nest)


def _stored(dataset: Any, num_examples: int) -> Any | None:
    """Rows of tensors; None where the data set has none."""
    if not (hasattr(dataset, "stored") and hasattr(dataset, "finish")):
        return None
    rows = nests.map_tensors(lambda t: t.detach().cpu(), dataset.stored())
    lengths = {len(leaf) if isinstance(leaf, Tensor) else -1 for _, leaf in nests.leaves(rows)}
    return rows if lengths == {num_examples} else None


def _is_exact(form: Form, kept: Any, items: Any, device: torch.device) -> bool:
    """Whether finishing gives the items, in nests of the same kind."""
    finished = form.finish(nests.map_tensors(lambda t: t.to(device), kept))
    on_cpu = nests.map_tensors(lambda t: t.cpu(), finished)
    return type(finished) is type(items) and nests.equal(on_cpu, items)


def _kinds(nest: Any) -> list[tuple[str, Any, Any]]:
    return [
        (place, leaf.dtype, tuple(leaf.shape[1:])) if isinstance(leaf, Tensor) else (place, None, None)
        for place, leaf in nests.leaves(nest)
    ]
