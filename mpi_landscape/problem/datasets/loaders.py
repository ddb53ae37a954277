"""What of a DataLoader is taken: its data set and how it makes batches, not in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.collated import Collated
from mpi_landscape.problem.datasets.given import Split, is_hugging_face, materialized, of_hugging_face


def of_loader(loader: DataLoader[Any], where: str, name: str) -> Split:
    """What a loader reads, and how it makes batches; not in which order."""
    subject = f"{where}: split {name}"
    if loader.batch_size is None and loader.batch_sampler is None:
        raise LandscapeError(
            f"{subject} is a DataLoader with batch_size=None, which hands on what its data set gives, batches perhaps; valid "
            f"is the data set itself, or a DataLoader that makes the batches"
        )
    own: Any = None if loader.collate_fn is default_collate else loader.collate_fn
    if isinstance(loader.dataset, IterableDataset):
        inner = materialized(loader.dataset, subject, name)
        chosen = None
    elif is_hugging_face(loader.dataset):
        inner = of_hugging_face(loader.dataset, name, collated=own is not None)
        chosen = _chosen(loader, subject)
    else:
        inner, chosen = Split(dataset=loader.dataset), _chosen(loader, subject)
    dataset = inner.dataset if chosen is None else Subset(inner.dataset, chosen)
    batch_size = loader.batch_size or _most(loader)
    taken = ["data set", *["collate_fn"] * (own is not None), f"batch size {batch_size}"]
    left = [
        *(["order"] if not isinstance(_sampler(loader), SequentialSampler) else []),
        *(["drop_last"] if loader.drop_last else []),
    ]
    of = f" ({len(chosen)} of its {len(inner.dataset)} examples, as its sampler says)" if chosen else ""
    note = f"{name}: of the DataLoader its {' and '.join([', '.join(taken[:-1]), taken[-1]])} are taken{of}"
    note += f", not its {' and '.join(left)}" if left else ""
    return replace(
        inner,
        dataset=dataset if own is None else Collated(dataset, own),
        batch_size=batch_size,
        notes=[*inner.notes, note],
    )


def _sampler(loader: DataLoader[Any]) -> Any:
    """What names the examples: a sampler of batches has one of its own."""
    return getattr(loader.batch_sampler, "sampler", loader.sampler)


def _most(loader: DataLoader[Any]) -> int | None:
    sizes = [len(each) for each in _batches_of(loader)]
    return max(sizes, default=None)


def _batches_of(loader: DataLoader[Any]) -> Iterator[list[int]]:
    return iter([list(each) for each in loader.batch_sampler or ()])


def _chosen(loader: DataLoader[Any], subject: str) -> list[int] | None:
    """The examples that a loader's sampler names, sorted; None where these are all.

    Raises:
        LandscapeError: It repeats or weights them: their mean is then not that over the data set.
    """
    sampler = _sampler(loader)
    length = len(loader.dataset)  # type: ignore[arg-type]
    if isinstance(sampler, WeightedRandomSampler) or (
        isinstance(sampler, RandomSampler) and (sampler.replacement or sampler.num_samples != length)
    ):
        raise LandscapeError(
            f"{subject} is a DataLoader whose {type(sampler).__name__} draws examples anew in every epoch, so its loss is not "
            f"that of a fixed set of examples; valid is loader.dataset, for the mean over all, or a loss that weights"
        )
    has_own_batches = type(loader.batch_sampler) is not BatchSampler
    if not has_own_batches and isinstance(sampler, SequentialSampler | RandomSampler | DistributedSampler):
        return None
    if has_own_batches:
        indices = [index for batch in _batches_of(loader) for index in batch]
    else:
        source = sampler.indices if isinstance(sampler, SubsetRandomSampler) else sampler
        indices = [int(index) for index in source]
    unique = sorted(set(indices))
    if len(unique) < len(indices):
        raise LandscapeError(
            f"{subject} is a DataLoader whose {type(sampler).__name__} names some examples more than once; valid is "
            f"loader.dataset, or a sampler that names each at most once"
        )
    if not unique:
        raise LandscapeError(
            f"{subject} is a DataLoader whose sampler names no example; expected at least one"
        )
    return None if len(unique) == length else unique
