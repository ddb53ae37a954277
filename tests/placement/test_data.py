import pytest
import torch
from torch.utils.data import TensorDataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.resident import Resident
from mpi_landscape.loading.streamed import Streamed
from mpi_landscape.parallel import devices
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.shared_memory import Node
from mpi_landscape.placement.data import hold


def held(monkeypatch, request_, free, count=40):
    monkeypatch.setattr("mpi_landscape.placement.data.free_memory", lambda device, ranks: free)
    splits = {"train": TensorDataset(torch.randn(count, 5), torch.arange(count))}
    ranks = Ranks()
    with Node(ranks) as node:
        held = hold(
            splits,
            ranks,
            node,
            request=request_,
            batch_size=8,
            device=torch.device("cpu"),
            dtypes={"train": torch.float32},
            readers=2,
        )
    return held.splits, held.text


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
