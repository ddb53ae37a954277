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
from mpi_landscape.loading.collated import Collated
from mpi_landscape.loading.reading import collate, read_item
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
        dtype: What floating-point tensors of a finished batch become; None leaves them as they are given.
        num_examples: How many examples the data set has.
        kind: `stored`: rows of what the data set has `stored()`; `stored items`: each as its `stored_item(index)` gives
            it, collated; `items`: each as indexing gives it, collated; `loose`: likewise, but with strings, or of
            different shapes, so that rows of one array cannot hold them.
        template: What is kept of no example, for types and shapes; of one example where the kind is `loose`.
        rows: What the data set has stored, for the kind `stored`.
        seen: Items that were read to find the form, so that none is read twice.
    """

    split: str
    dataset: Any
    dtype: torch.dtype | None
    num_examples: int
    kind: Kind = "items"
    template: Any = None
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
        return sum(leaf.shape[1:].numel() * leaf.itemsize for _, leaf in nests.tensors(self.template))

    @property
    def concurrent(self) -> bool:
        """Whether several threads may read at once: rows of arrays, or a data set that says so of itself."""
        return self.kind == "stored" or bool(getattr(self.dataset, "thread_safe", False))

    def read_example(self, index: int) -> Any:
        """What `collated` takes of one example."""
        if self.kind == "stored":
            return index
        if index in self.seen:
            return self.seen.pop(index)
        return read_item(self.split, self.dataset, index, stored=self.kind == "stored items")

    def collated(self, examples: list[Any]) -> Any:
        """Several examples as they are kept, from what `read_example` gave of each."""
        if self.kind == "stored":
            return nests.taken(self.rows, torch.tensor(examples))
        dtype = None if self.kind == "stored items" else self.dtype
        return collate(self.split, examples, dtype=dtype, dataset=self.dataset)

    def read(self, indices: Sequence[int]) -> Any:
        """Several examples as they are kept, on the CPU.

        Raises:
            LandscapeError: The data set raised, or the examples do not collate.
        """
        return self.collated([self.read_example(index) for index in indices])

    @property
    def collates(self) -> bool:
        """Whether the data set makes its batches itself: a row of one batch may then be longer than that of another."""
        return isinstance(self.dataset, Collated)

    def finish(self, kept: Any) -> Any:
        """Make of several kept examples what collating their items gives, bit for bit; on any device."""
        if not self.must_finish:
            return kept
        owned = {tensor.data_ptr() for _, tensor in nests.tensors(kept)}
        finished = nests.in_precision(self.dataset.finish(kept), self.dtype)

        def own(leaf: Any) -> Any:
            # What finishing does not change (labels) is a view of what is kept; a loss that writes into its batch must
            # not reach that.
            return leaf.clone() if isinstance(leaf, Tensor) and leaf.data_ptr() in owned else leaf

        return nests.mapped(own, finished, lists=True)

    def fits(self, kept: Any) -> bool:
        """Whether examples are of the shapes and types of the template, so that rows of one array hold them."""
        return _kinds(kept) == _kinds(self.template)


def form_of_items(split: str, dataset: Dataset[Any], dtype: torch.dtype | None) -> Form:
    """The form that every data set has, unless it is empty: its items as indexing gives them, collated."""
    num_examples = len(dataset)  # type: ignore[arg-type]
    if num_examples == 0:
        raise LandscapeError(f"data: split {split!r} is empty; a loss needs at least one example")
    return Form(split=split, dataset=dataset, dtype=dtype, num_examples=num_examples)


def stored_form(
    plain: Form, *, device: torch.device, kinds: Sequence[Kind] = ("stored", "stored items")
) -> Form | None:
    """The smallest stored form of a data set from which its items follow; None where there is none.

    A data set may offer `finish(nest) -> nest`, which makes of some stored examples what the default collation makes of
    its items, and either `stored() -> nest of tensors (N, ...)` or `stored_item(index)`. Where that is not so, bit for
    bit, for 32 examples evenly spaced, the form is not used: a class of a user's may inherit these and change what an
    item is.

    Args:
        plain: The form of the items.
        device: Where batches are finished; the CPU, which finishes what a digest is of, is tried as well.
        kinds: The stored forms to try, in this order.
    """
    candidates = [each for kind in kinds for each in _candidates(plain, kind)]
    if not candidates:
        return None
    probed = nests.evenly_spaced(plain.num_examples, PROBED)
    items = plain.read(probed)
    for candidate in candidates:
        kept = candidate.read(probed)
        if all(_is_exact(candidate, kept, items, each) for each in {torch.device("cpu"), device}):
            return replace(candidate, template=_no_rows(kept))
    return None


def find_form(
    split: str,
    dataset: Dataset[Any],
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    team: Team | None = None,
) -> Form:
    """Find the smallest exact form of a split, see `stored_form`; process 0 of a team looks for all. Collective.

    Floating-point tensors of a batch become `dtype`, or stay as they are given where that is None. Batches are finished on
    `device`.

    Raises:
        LandscapeError: The split is empty, of another length in another process, or an item cannot be read or collated.
    """
    team = team or Alone()
    with team.together():
        plain = form_of_items(split, dataset, dtype)
    expected = team.share(plain.num_examples)
    with team.together():
        if plain.num_examples != expected:
            raise LandscapeError(
                f"data: split {split!r} has {plain.num_examples} examples in one process of this node and {expected} in "
                f"another; a random choice of examples needs a fixed seed"
            )
    with team.together():
        found = None if team.rank else _look(plain, device)
    told: tuple[Kind, Any] = (found.kind, found.template) if found else ("items", None)
    kind, template = team.share(told)
    if found is not None:
        return found
    rows = _stored_rows(plain) if kind == "stored" else None
    return replace(plain, kind=kind, template=template, rows=rows)


def _look(plain: Form, device: torch.device) -> Form:
    if isinstance(plain.dataset, Collated):
        # Rows are as long as their batch. Two items show whether they are rows at all.
        plain.read(range(min(2, plain.num_examples)))
        return replace(plain, kind="loose", template=plain.read([0]))
    found = stored_form(plain, device=device)
    if found is not None:
        return found
    item = plain.read_example(0)
    example = plain.collated([item])
    leaves = [leaf for _, leaf in nests.leaves(example)]
    if leaves and all(isinstance(leaf, Tensor) for leaf in leaves):
        return replace(plain, template=_no_rows(example), seen={0: item})
    return replace(plain, kind="loose", template=example, seen={0: item})


def _candidates(plain: Form, kind: Kind) -> list[Form]:
    """The form of a kind, unproven, where the data set offers it."""
    if kind == "stored":
        rows = _stored_rows(plain)
        return [] if rows is None else [replace(plain, kind=kind, rows=rows)]
    offers = hasattr(plain.dataset, "stored_item") and hasattr(plain.dataset, "finish")
    return [replace(plain, kind=kind)] if offers else []


def _no_rows(nest: Any) -> Any:
    return nests.map_tensors(lambda tensor: tensor[:0].clone(), nest)


def _stored_rows(plain: Form) -> Any | None:
    """Rows of tensors; None where the data set has none."""
    if not (hasattr(plain.dataset, "stored") and hasattr(plain.dataset, "finish")):
        return None
    rows = nests.map_tensors(lambda tensor: tensor.detach().cpu(), plain.dataset.stored())
    lengths = {leaf.shape[:1] if isinstance(leaf, Tensor) else None for _, leaf in nests.leaves(rows)}
    return rows if lengths == {(plain.num_examples,)} else None


def _is_exact(form: Form, kept: Any, items: Any, device: torch.device) -> bool:
    """Whether finishing gives the items, in nests of the same kind."""
    finished = nests.moved(form.finish(nests.moved(kept, device)), torch.device("cpu"))
    return type(finished) is type(items) and nests.equal(finished, items)


def _kinds(nest: Any) -> list[tuple[str, Any, Any]]:
    return [
        (place, leaf.dtype, tuple(leaf.shape[1:])) if isinstance(leaf, Tensor) else (place, None, None)
        for place, leaf in nests.leaves(nest)
    ]
