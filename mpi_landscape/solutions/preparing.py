"""From a configuration to a training that is ready to begin, and what it will cost."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from mpi_landscape.configuration.sections.training import TrainingConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation import premises
from mpi_landscape.evaluation.conversion import converted
from mpi_landscape.evaluation.inputs import find_inputs
from mpi_landscape.evaluation.lending import in_evaluation
from mpi_landscape.evaluation.replica import network_on
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.parallel.devices import available_cores, device_name, free_memory
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.premises import refuse_labels
from mpi_landscape.problem.build import is_ragged
from mpi_landscape.problem.checkpoints import Source, load
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.problem.fitting import check_tokens
from mpi_landscape.problem.losses import LOSSES, build_loss
from mpi_landscape.problem.networks.table import build_network
from mpi_landscape.solutions.member import Member, PreparedTraining
from mpi_landscape.training.feed import Feed, FeedFromMemory, make_feed
from mpi_landscape.training.memory import activation_bytes, choose_piece_size, prefers_channels_last
from mpi_landscape.training.recipe import Recipe, largest_batch

# Labels are looked at in pieces of this many examples.
_LABELS = 4096
# What the gradient of a batch may need. It depends on the kind of hardware alone, not on what is free or who else trains:
# with batch normalization, pieces of another size are another training.
_CPU_BYTES, _GPU_SHARE = 4 * 2**30, 0.5

Splits = Mapping[str, Dataset[Any]]


def read_splits(member: Member) -> Splits:
    """The data of a member with a split `train`; may fetch them, so one rank must come first."""
    if member.handed is not None:
        splits = member.handed.splits
    else:
        splits = build_splits(member.configuration.data, where=member.where, folders=_folders(member))
    if "train" not in splits:
        raise LandscapeError(
            f"{member.where}: data has no split 'train' to train on; it has {', '.join(splits)}"
        )
    return splits


def check_batches(member: Member, splits: Splits) -> None:
    """Refuse a batch larger than the set: members that share their data may still differ in this."""
    num_examples = len(splits["train"])  # type: ignore[arg-type]
    for phase in member.settings.plan:
        if isinstance(phase.batch_size, int) and phase.batch_size > num_examples:
            raise LandscapeError(
                f"{member.where}: training.batch_size is {phase.batch_size}, but the split train has {num_examples} "
                "examples; expected at most as many, or all"
            )


def prepare(
    member: Member,
    splits: Splits,
    ranks: Ranks,
    *,
    device: torch.device,
    threads: int,
    facts: Mapping[str, Any] | None = None,
) -> PreparedTraining:
    """Build a training, and check that its parts fit together, before anything is trained or written.

    What an earlier start of the same training decided, its `facts`, holds again.

    Raises:
        LandscapeError: A part does not fit the others.
    """
    settings = member.settings
    model, loss = build_untrained(member, ragged=is_ragged(splits))
    check_tokens(model, splits, where=member.where)
    model = model.to(device)
    # A loss that is one number is taken apart where the network draws nothing: in training, dropout gives another one every time.
    with in_evaluation(model):
        trial = network_on(model, device, torch.float32)
        inputs = {
            split: find_inputs(loss, trial, split, dataset, device=device, dtype=torch.float32).dtype
            for split, dataset in splits.items()
        }
        for split, dataset in splits.items():
            premises.try_two_examples(loss, model, split, dataset, device=device, dtype=inputs[split])
    feeds = {
        split: make_feed(
            split,
            dataset,
            device=device,
            dtype=inputs[split],
            workers=_workers(ranks),
            mode=settings.data,
            available=free_memory(device, ranks),
        )
        for split, dataset in splits.items()
    }
    _check_labels(member, model, feeds)
    train = feeds["train"]
    first = next(iter(train.batches(torch.arange(min(2, len(train))), 2)))
    # Two decisions that could change the last bits: made once, kept in the history, and the same ever after.
    if facts:
        channels_last, piece_size = bool(facts["channels_last"]), int(facts["piece_size"])
    else:
        channels_last = prefers_channels_last(model, loss, first)
        piece_size = _piece_size(settings, model, loss, train, device)
    return PreparedTraining(
        member=member,
        model=model,
        loss=loss,
        feeds=feeds,
        recipe=recipe_of(settings, piece_size),
        device=device,
        channels_last=channels_last,
        facts={
            "channels_last": int(channels_last),
            "piece_size": piece_size,
            "threads": threads,
            "device": device_name(device),
            "num_parameters": num_parameters(model),
            "num_examples": len(train),
        },
    )


def build_untrained(
    member: Member, say: Callable[[str], None] = lambda _: None, *, ragged: bool = False
) -> tuple[nn.Module, LossFunction]:
    """The network that a training begins with, and its loss; what is to be known of the start is said.

    `ragged` is whether examples may have several sizes.
    """
    if member.handed is not None:
        return member.handed.model, member.handed.loss
    settings = member.settings
    build_loss(member.configuration.loss, where=member.where, folders=_folders(member))
    torch.manual_seed(settings.seed)
    model = build_network(member.configuration.model, where=member.where, folders=_folders(member))
    model = converted(model, torch.float32)
    if settings.start is not None:
        chosen = member.configuration.model
        source = Source(path=settings.start, key=chosen.key, part=chosen.part)
        for line in load(model, source, where=settings.start):
            say(f"start       {settings.start}: {line}")
    loss = build_loss(
        member.configuration.loss, where=member.where, folders=_folders(member), model=model, ragged=ragged
    )
    return model, loss


def recipe_of(settings: TrainingConfiguration, piece_size: int) -> Recipe:
    """What a section `training` asks for; `piece_size` 0 stands for a batch at once."""
    return Recipe(phases=settings.plan, seed=settings.seed, piece_size=piece_size or None)


def num_parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _workers(ranks: Ranks) -> int:
    """Processes that read what streams; they change no bit, so every core may take part."""
    cores = len(available_cores())
    # A rank that is bound to some cores has them for itself.
    return cores if cores < (os.cpu_count() or 1) else max(1, cores // ranks.local_size)


def _folders(member: Member) -> list[Path]:
    return [Path(member.where).resolve().parent]


def _check_labels(member: Member, model: nn.Module, feeds: Mapping[str, Feed]) -> None:
    """Refuse labels that the loss cannot take; where data stream, of the first examples only."""
    name = member.configuration.loss.name
    if name not in LOSSES:
        return
    model.eval()
    for split, feed in feeds.items():
        # Labels of resident data cost nothing; decoding every image once more would.
        count = len(feed) if isinstance(feed, FeedFromMemory) else min(len(feed), _LABELS)
        size = min(_LABELS, count)
        batches = enumerate(feed.batches(torch.arange(count), size))
        named = ((f"examples from {number * size}", batch) for number, batch in batches)
        refuse_labels(name, model, named, where=f"{member.where}: data, split {split}")


def _piece_size(
    settings: TrainingConfiguration, model: nn.Module, loss: LossFunction, feed: Feed, device: torch.device
) -> int:
    """Examples that go through the network at once; 0 for a batch as it is."""
    if settings.piece_size != "auto":
        return settings.piece_size
    largest = max(largest_batch(phase, len(feed)) for phase in settings.plan)
    count = min(8, len(feed))
    batch = next(iter(feed.batches(torch.arange(count), count)))
    budget = _CPU_BYTES
    if device.type == "cuda":
        budget = int(_GPU_SHARE * torch.cuda.get_device_properties(device).total_memory)
    piece = choose_piece_size(largest, activation_bytes(model, loss, batch) / count, budget)
    return 0 if piece >= largest else piece
