import os
from types import SimpleNamespace

import pytest
import torch

from mpi_landscape import LandscapeError
from mpi_landscape.parallel import devices
from mpi_landscape.parallel.devices import (
    available_cores,
    choose_device,
    distinct,
    fair_share,
    local_index,
    shared_device_warning,
    thread_share,
)
from mpi_landscape.parallel.ranks import Ranks


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that torch sees this many GPUs, whose UUIDs start at `first`."""

    def see(count: int, first: int = 0) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda device: SimpleNamespace(uuid=f"GPU-{first + device.index}"),
        )

    return see


@pytest.mark.parametrize(
    ("request_", "count", "local_rank", "expected", "reason"),
    [
        ("auto", 0, 0, "cpu", "no GPU"),
        ("auto", 4, 0, "cuda:0", "the first rank of the node takes the first"),
        ("auto", 4, 3, "cuda:3", "each its own"),
        ("auto", 4, 6, "cuda:2", "more ranks than GPUs take them in turn"),
        ("auto", 1, 3, "cuda:0", "one GPU per task: the launcher has hidden the others"),
        ("cuda", 2, 1, "cuda:1", "asked for by kind"),
        ("cuda:1", 2, 0, "cuda:1", "asked for by number"),
        ("cpu", 4, 2, "cpu", "GPUs are left alone when asked to"),
    ],
)
def test_a_rank_takes_the_gpu_of_its_place_on_the_node(gpus, request_, count, local_rank, expected, reason):
    gpus(count)
    # The global rank is another one: it must not matter.
    ranks = Ranks(rank=local_rank + 17, size=64, local_rank=local_rank, local_size=8, host="node2")
    assert choose_device(request_, ranks) == torch.device(expected), reason


@pytest.mark.parametrize(
    ("request_", "count", "words", "reason"),
    [
        ("cuda", 0, "torch sees no GPU on node2; use 'cpu' or 'auto'", "asked for, not there"),
        ("cuda:2", 2, "'cuda:2' is not there: torch sees 2 GPUs on node2", "numbers start at 0"),
        ("cuda:0", 0, "is not there: torch sees 0 GPUs", "none at all"),
        ("gpu", 2, "'gpu' is no device; valid are auto, cpu, cuda, cuda:N", "no such word"),
        ("", 2, "'' is no device", "nothing"),
        ("cuda:-1", 2, "'cuda:-1' is no device", "a negative number"),
        ("mps", 2, "'mps' is not supported", "a device of torch that is not ours"),
        ("meta", 0, "'meta' is not supported", "a device that computes nothing"),
    ],
)
def test_a_device_that_is_not_there_is_refused(gpus, request_, count, words, reason):
    gpus(count)
    with pytest.raises(LandscapeError, match=r"compute\.device: ") as caught:
        choose_device(request_, Ranks(host="node2"))
    assert words in str(caught.value), reason


def test_gpus_are_dealt_evenly_to_the_ranks_of_a_node():
    assert [local_index(rank, 3) for rank in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert [local_index(rank, 1) for rank in range(3)] == [0, 0, 0]


@pytest.fixture
def told(monkeypatch):
    """Ranks of a job whose answers to each other are known."""

    def make(rank: int, answers: list, host: str = "a") -> Ranks:
        def gather(self, value):
            assert value == answers[rank]
            return answers

        monkeypatch.setattr(Ranks, "gather", gather)
        return Ranks(rank=rank, size=len(answers), host=host)

    return make


GPU = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("answers", "words", "reason"),
    [
        ([("a", "GPU-0"), ("a", "GPU-1")], None, "each its own"),
        ([("a", "GPU-0"), ("b", "GPU-0")], None, "other nodes; a UUID of a virtual GPU may be the same"),
        ([("a", "GPU-0"), None], None, "the other is on the CPU"),
        ([("a", "GPU-0"), ("a", "GPU-0")], "share one GPU on a:", "two on one"),
        (
            [("a", "GPU-0"), ("c", "GPU-5"), ("b", "GPU-1"), ("c", "GPU-5"), ("a", "GPU-0")],
            "share one GPU on a, c:",
            "every crowded node is named once",
        ),
    ],
)
def test_ranks_that_share_a_gpu_are_warned(gpus, told, answers, words, reason):
    gpus(1)
    found = shared_device_warning(GPU, told(0, answers))
    assert (found is None) == (words is None), reason
    assert words is None or words in found, reason


def test_ranks_on_processors_share_no_gpu(told):
    assert shared_device_warning(torch.device("cpu"), told(0, [None, None])) is None


ALL, LEFT, RIGHT = tuple(range(8)), (0, 1, 2, 3), (4, 5, 6, 7)


@pytest.mark.parametrize(
    ("places", "expected", "reason"),
    [
        ([("a", ALL)], [8], "alone: all cores"),
        ([("a", ALL)] * 3, [3, 3, 2], "unbound ranks divide the node, and no core is left over"),
        ([("a", (0,)), ("a", (1,))], [1, 1], "bound to a core each"),
        (
            [("a", LEFT), ("a", RIGHT), ("a", RIGHT)],
            [4, 2, 2],
            "bound to sockets: those of one socket divide it",
        ),
        (
            [("a", ALL), ("b", ALL), ("a", ALL)],
            [4, 8, 4],
            "the same core numbers on another node are other cores",
        ),
        ([("a", (0, 1))] * 3, [1, 1, 1], "more ranks than cores: one thread each, never none"),
    ],
)
def test_the_cores_of_a_mask_are_divided_among_its_ranks(monkeypatch, told, places, expected, reason):
    found = []
    for rank, (host, mask) in enumerate(places):
        monkeypatch.setattr(devices, "available_cores", lambda mask=mask: mask)
        found.append(thread_share(told(rank, places, host)))
    assert found == expected, reason


def test_a_number_of_threads_that_was_asked_for_is_taken(monkeypatch, told):
    monkeypatch.setattr(devices, "available_cores", lambda: LEFT)
    assert thread_share(told(0, [("a", LEFT)] * 2), 7) == 7


@pytest.mark.parametrize(("cores", "sharers"), [(1, 1), (8, 3), (3, 8), (64, 7), (7, 7)])
def test_shares_differ_by_one_at_most_and_use_every_core(cores, sharers):
    shares = [fair_share(cores, sharers, place) for place in range(sharers)]
    assert max(shares) - min(shares) <= 1
    assert min(shares) >= 1
    assert sum(shares) == max(cores, sharers)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux: affinity masks")
def test_only_the_cores_that_this_process_may_use_are_counted():
    whole = os.sched_getaffinity(0)
    one = min(whole)
    try:
        os.sched_setaffinity(0, {one})
        assert available_cores() == (one,)
        assert thread_share(Ranks()) == 1
    finally:
        os.sched_setaffinity(0, whole)
    assert available_cores() == tuple(sorted(whole))


def test_names_are_counted_in_the_order_of_their_first():
    assert distinct(["H100", "A100", "H100"]) == "2 x H100, 1 x A100"
    assert distinct([]) == ""


def test_the_processor_has_a_name():
    name = devices.device_name(torch.device("cpu"))
    assert torch.backends.cpu.get_cpu_capability() in name
    assert "\n" not in name


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA GPU and a torch that was built for it"
)
def test_a_real_gpu_is_found_and_named():
    device = choose_device("auto", Ranks())
    assert device.type == "cuda"
    assert devices.device_name(device) == torch.cuda.get_device_name(0)
    assert shared_device_warning(device, Ranks()) is None
