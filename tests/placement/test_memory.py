"""The batch size against the memory of a device."""

import pytest
import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.watching import Footprint, footprint
from mpi_landscape.evaluation.precision import precision_of
from mpi_landscape.parallel import devices
from mpi_landscape.parallel.devices import DeviceMemory
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.memory import ALIVE, KEPT, choose_batch, example_bytes

# The largest layer gives 50 numbers of 4 bytes for an example.
PER_EXAMPLE = 50 * 4 * ALIVE * KEPT
PLENTY = 2**40
CPU = torch.device("cpu")


def chosen(share=PLENTY, free=PLENTY, users=1, asked="auto", **more):
    memory = DeviceMemory(share=share, free=free, users=users)
    return choose_batch(Footprint(largest=50), 600, asked, precision_of("float32"), CPU, memory, **more)


@pytest.mark.parametrize(
    ("share", "size", "reason"),
    [
        (PLENTY, 512, "there is plenty"),
        (512 * PER_EXAMPLE, 512, "its share suffices exactly"),
        (512 * PER_EXAMPLE - 1, 256, "a byte too little: halved"),
        (1, 1, "never less than an example"),
    ],
)
def test_an_automatic_batch_is_halved_until_it_fits_its_share_of_all_memory(share, size, reason):
    found = chosen(share)
    assert (found.size, found.bytes) == (size, size * PER_EXAMPLE), reason


@pytest.mark.parametrize("users", [1, 2, 3, 64])
@pytest.mark.parametrize("free", [PLENTY, 64 * 512 * PER_EXAMPLE])
def test_the_batch_size_depends_neither_on_the_number_of_ranks_nor_on_what_is_free(users, free):
    assert chosen(300 * PER_EXAMPLE, free=free, users=users).size == 256


def test_an_automatic_batch_has_no_more_examples_than_it_may():
    assert chosen(most=64).size == 64
    assert chosen(32 * PER_EXAMPLE, most=64).size == 32


def test_ranks_have_fewer_threads_where_not_all_have_room_for_a_batch():
    free = 2 * 2 * 3 * 512 * PER_EXAMPLE
    assert chosen(free=free, users=2, threads="auto", available=8).threads == 3
    assert chosen(free=free, users=2, threads="auto", available=2).threads == 2
    assert chosen(free=2 * 512 * PER_EXAMPLE, users=2, threads="auto", available=8).threads == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"free": 3 * 512 * PER_EXAMPLE, "users": 4},
            [
                "is 512: ",
                "free for 4 ranks on a node",
                "valid is 3 ranks on a node, or --set compute.batch_size=384",
            ],
        ),
        ({"free": 512 * PER_EXAMPLE - 1}, ["are free for it; valid is --set compute.batch_size=511"]),
        ({"free": 512 * PER_EXAMPLE, "threads": 2}, ["2 threads", "fewer compute.threads", "batch_size=256"]),
        ({"free": PER_EXAMPLE - 1}, ["valid is a device with more memory"]),
        ({"free": 99 * PER_EXAMPLE, "asked": 100}, ["is 100: ", "compute.batch_size=99"]),
        (
            {"free": 99 * PER_EXAMPLE, "decided": 100},
            ["is 100 in the file: ", "--set compute.batch_size=99 in a new file"],
        ),
    ],
)
def test_a_batch_for_which_not_every_rank_has_room_is_refused_with_what_would_fit(arguments, words):
    with pytest.raises(LandscapeError) as refused:
        chosen(**arguments)
    for word in words:
        assert word in str(refused.value)


def test_a_batch_that_was_asked_for_or_that_a_file_has_is_never_changed():
    assert chosen(1, free=100 * PER_EXAMPLE, asked=100).size == 100
    assert chosen(1, decided=100, most=64).size == 100
    assert chosen(1, decided=100, asked=50).size == 50


def test_a_convolution_in_float64_counts_its_matrix_of_patches():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 5, groups=2))
    images = torch.zeros(2, 3, 16, 16)
    found = footprint(network, lambda: network(images), 2)
    # 3 x 3 of 3 channels at 16 x 16 places; 5 x 5 of 2 channels at 12 x 12 places is more; 1 x 1 needs none.
    assert found == Footprint(largest=8 * 16 * 16, columns=2 * 25 * 12 * 12)
    numbers = ALIVE * found.largest
    assert example_bytes(found, precision_of("float64"), torch.device("cuda")) == 8 * numbers
    assert example_bytes(found, precision_of("float32"), CPU) == 4 * numbers * KEPT
    assert example_bytes(found, precision_of("float64"), CPU) == 8 * (numbers + found.columns) * KEPT


def test_a_pass_that_takes_no_mode_is_watched_without_one():
    network = nn.Linear(3, 5)

    def run():
        if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
            raise RuntimeError("no mode")
        network(torch.zeros(2, 3))

    assert footprint(network, run, 2) == Footprint(largest=5)


def test_the_share_of_a_batch_is_a_part_of_all_memory(monkeypatch):
    monkeypatch.setattr(devices.os, "cpu_count", lambda: 4)
    memory = devices.memory_of(CPU, Ranks(host="here"))
    assert memory.share == devices.psutil.virtual_memory().total // 8
    assert memory.users == 1
    assert memory.free <= 8 * memory.share
