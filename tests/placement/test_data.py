import pytest
import torch
from torch.utils.data import TensorDataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.resident import Resident
from mpi_landscape.loading.streamed import Streamed
from mpi_landscape.parallel import devices
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.shared_memory import Node
from mpi_landscape.placement.data import Room, choose, hold

SIZES = {"train": 400, "test": 90}


@pytest.mark.parametrize(
    ("request_", "room", "placements", "reason"),
    [
        ("auto", Room(free=1000), ["resident", "resident"], "490 of 1,000"),
        ("auto", Room(free=980), ["resident", "streamed"], "490 is half: the second one no longer fits"),
        ("auto", Room(free=800), ["streamed", "resident"], "400 is half, 90 is not"),
        ("auto", Room(free=100), ["streamed", "streamed"], "neither fits"),
        ("auto", Room(free=1000, copies=2), ["streamed", "resident"], "every rank has its own copy"),
        ("auto", Room(free=None), ["resident", "resident"], "nobody tells how much is free"),
        ("resident", Room(free=490), ["resident", "resident"], "asked for, and it fits just so"),
        ("resident", Room(free=None), ["resident", "resident"], "asked for, and nobody tells"),
        ("streamed", Room(free=10**9), ["streamed", "streamed"], "asked for"),
    ],
)
def test_data_are_resident_where_they_take_less_than_half_of_what_is_free(request_, room, placements, reason):
    chosen = choose(request_, SIZES, room)
    assert [text.split()[0] for text in chosen.values()] == placements, reason
    assert list(chosen) == list(SIZES)


def test_resident_data_that_do_not_fit_are_refused_in_one_line():
    with pytest.raises(LandscapeError, match=r"compute\.data: resident .*'test' .*490 B, and 489 B are free"):
        choose("resident", SIZES, Room(free=489))


def held(monkeypatch, request_, free, count=40):
    monkeypatch.setattr("mpi_landscape.placement.data.free_memory", lambda device, ranks: free)
    splits = {"train": TensorDataset(torch.randn(count, 5), torch.arange(count))}
    ranks = Ranks()
    with Node(ranks) as node:
        return hold(
            splits,
            ranks,
            node,
            request=request_,
            batch_size=8,
            device=torch.device("cpu"),
            dtype=torch.float32,
            readers=2,
        )[:2]


@pytest.mark.parametrize(
    ("request_", "free", "kind", "words"),
    [
        ("auto", 10**6, Resident, ["resident", "1.12 kB", "float32", "1 MB free"]),
        ("auto", 2000, Streamed, ["streamed", "1.12 kB are half or more of 2 kB free"]),
        ("streamed", 10**6, Streamed, ["streamed", "compute.data"]),
        ("resident", 1200, Resident, ["resident", "compute.data"]),
    ],
)
def test_it_is_said_how_much_is_held_where_and_why(monkeypatch, request_, free, kind, words):
    splits, text = held(monkeypatch, request_, free)
    assert isinstance(splits["train"], kind)
    assert text.startswith("train ")
    for word in words:
        assert word in text
    assert "\n" not in text


def test_a_piece_takes_an_eighth_of_what_is_free(monkeypatch):
    splits, _ = held(monkeypatch, "streamed", 28 * 8 * 8 * 2 + 100)
    assert splits["train"].most_batches == 2


@pytest.mark.parametrize(
    ("request_", "free", "words"),
    [
        ("resident", 1000, ["compute.data", "resident", "1.12 kB", "1 kB are free", "streamed"]),
        ("streamed", 400, ["two batches of 8", "'train'", "compute.batch_size"]),
        ("auto", 400, ["two batches of 8", "'train'"]),
    ],
)
def test_data_that_can_be_held_nowhere_are_refused(monkeypatch, request_, free, words):
    with pytest.raises(LandscapeError) as caught:
        held(monkeypatch, request_, free)
    for word in words:
        assert word in str(caught.value)


def test_free_memory_is_known_here():
    assert (devices.free_memory(torch.device("cpu"), Ranks()) or 0) > 2**20
