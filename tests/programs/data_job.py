"""Several ranks hold one data set. Run by test_data.py; rank 0 prints what every rank saw."""

import hashlib
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from mpi_landscape.loading.nests import leaves
from mpi_landscape.parallel import shared_memory
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.parallel.shared_memory import Node
from mpi_landscape.placement.data import hold
from mpi_landscape.problem.datasets.images import ImageDataset

kind, request, log = sys.argv[1:4]


class Counting:
    """Every reading is a line in a file that all ranks write to."""

    thread_safe = True

    def __init__(self, item):
        self.item = item

    def __len__(self):
        return 45

    def __getitem__(self, index):
        # One small write at the end of a file: no other can come between.
        with Path(log).open("a") as lines:
            lines.write(f"{index}\n")
        if kind == "broken" and index == 44:
            raise OSError("torn")
        return self.item(index)


def stored():
    generator = torch.Generator().manual_seed(8)
    pixels = torch.randint(0, 256, (45, 3, 2, 4), dtype=torch.uint8, generator=generator)
    return ImageDataset(pixels, torch.arange(45) % 5, scale=255.0, mean=(0.5,) * 3, std=(0.25,) * 3)


DATA = {
    "items": Counting(lambda index: (torch.full((3, 5), index / 7), index)),
    "broken": Counting(lambda index: (torch.zeros(2), index)),
    "strings": Counting(lambda index: (f"text {index}", index / 8)),
    # The last item is of another shape: found out when most is read.
    "ragged": Counting(lambda index: (torch.full((3 + (index >= 44),), index / 7), index)),
    "stored": stored(),
}
ranks = open_ranks()
room = nullcontext()
if request == "crowded":
    room = mock.patch.object(shared_memory, "room", return_value=0)
    request = "auto"
order = np.random.default_rng(1).permutation(45) if "order" in sys.argv else None
seen = {}
with room, Node(ranks) as node:
    try:
        held = hold(
            {"train": DATA[kind]},
            ranks,
            node,
            request=request,
            batch_size=4,
            device=torch.device("cpu"),
            dtypes={"train": torch.float32},
            readers=2,
        )
    except Exception as error:
        seen["error"] = f"{type(error).__name__}: {error}"
    else:
        seen["words"] = held.text
        train = held.splits["train"]
        if order is not None:
            train = train.reordered(order)
        seen["digest"] = train.digest
        content = hashlib.sha256()
        for piece in train.pieces(0, train.num_batches):
            for batch in piece:
                for place, leaf in leaves(batch.data):
                    values = leaf.numpy().tobytes() if isinstance(leaf, torch.Tensor) else repr(leaf).encode()
                    content.update(place.encode() + values + str(batch.valid).encode())
        seen["content"] = content.hexdigest()
        seen["kind"] = type(train).__name__
every = ranks.gather(seen)
if ranks.is_root:
    json.dump(every, sys.stdout)
