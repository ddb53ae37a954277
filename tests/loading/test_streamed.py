import gc
import threading
import time
import weakref
from collections import Counter
from contextlib import closing

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.loading.nests import equal
from mpi_landscape.loading.resident import make_resident
from mpi_landscape.loading.streamed import SAMPLE, make_streamed

CPU = torch.device("cpu")


class Pixels:
    """Images as bytes, decoded one at a time, each decoding counted."""

    def __init__(self, count=50, thread_safe=True, broken=None):
        self.thread_safe = thread_safe
        self.read = Counter()
        self.broken = broken
        self.count = count
        self.lock = threading.Lock()
        self.threads = set()

    def __len__(self):
        return self.count

    def stored_item(self, index):
        with self.lock:
            self.read[index] += 1
            self.threads.add(threading.current_thread().name)
        if index == self.broken:
            raise OSError("torn\n in two")
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (3, 6), dtype=torch.uint8, generator=generator), index % 4

    def finish(self, examples):
        pixels, labels = examples
        return [pixels.float() / 255 - 0.5, torch.as_tensor(labels)]

    def __getitem__(self, index):
        image, label = self.finish(self.stored_item(index))
        return image, int(label)


def streamed_of(dataset, batch_size=4, dtype=torch.float32, **more):
    return make_streamed("train", dataset, batch_size=batch_size, device=CPU, dtype=dtype, **more)


def resident_of(dataset, batch_size=4, dtype=torch.float32, **more):
    return make_resident("train", dataset, batch_size=batch_size, device=CPU, dtype=dtype, **more)


def readers_alive():
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


class Strings(list):
    thread_safe = True


RAGGED = [(torch.full((1 + index // 4,), float(index)), index) for index in range(10)]
WORDS = Strings([(f"word {index}", index) for index in range(11)])


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize("most_bytes", [1, 200, 2**30])
@pytest.mark.parametrize(
    ("dataset", "reason"),
    [(Pixels(), "bytes"), (WORDS, "strings"), (RAGGED, "each batch of its own shape")],
)
def test_streamed_batches_are_the_resident_ones(dataset, reason, readers, most_bytes):
    resident = resident_of(dataset)
    streamed = streamed_of(dataset, readers=readers, most_bytes=most_bytes)
    for first, stop in [(0, resident.num_batches), (1, 3), (2, 2)]:
        found = [(batch.valid, batch.data) for piece in streamed.pieces(first, stop) for batch in list(piece)]
        expected = resident.batches[first:stop]
        assert [valid for valid, _ in found] == [batch.valid for batch in expected]
        for (_, data), batch in zip(found, expected, strict=True):
            assert equal(data, batch.data), reason
    assert readers_alive() == []


@pytest.mark.parametrize("make", [resident_of, streamed_of])
def test_an_order_puts_the_examples_into_other_batches_and_leaves_the_digest(make):
    order = np.random.default_rng(5).permutation(50)
    plain = make(Pixels())
    ordered = plain.reordered(order)
    images = torch.stack([Pixels()[index][0] for index in order.tolist()])
    with closing(ordered.pieces(0, ordered.num_batches)) as pieces:
        found = torch.cat([batch.data[0][: batch.valid] for piece in pieces for batch in piece])
    assert torch.equal(found, images)
    assert ordered.digest == plain.digest
    assert torch.equal(ordered.example(7)[0][0], Pixels()[7][0])


@pytest.mark.parametrize("make", [resident_of, streamed_of])
@pytest.mark.parametrize("order", [[0, 1, 2], [0] * 50, list(range(1, 51))])
def test_an_order_that_is_no_permutation_is_refused(make, order):
    with pytest.raises(LandscapeError, match="each of its 50 examples once"):
        make(Pixels()).reordered(np.array(order))


@pytest.mark.parametrize("make", [resident_of, streamed_of])
def test_strings_and_ragged_batches_follow_an_order_too(make):
    order = np.array([4, 2, 3, 0, 1, 5, 7, 6, 10, 9, 8])
    ordered = make(WORDS).reordered(order)
    with closing(ordered.pieces(0, 3)) as pieces:
        batches = [list(batch.data[0]) for piece in pieces for batch in piece]
    assert batches[0] == ["word 4", "word 2", "word 3", "word 0"]
    assert ordered.digest == make(WORDS).digest


def test_every_example_is_read_once_for_all_points_of_a_tile():
    data = Pixels(50)
    network = torch.nn.Linear(18, 4)
    layout = layout_of(network)
    center = layout.flatten(dict(network.named_parameters()), where="test")
    direction = torch.randn(center.shape, generator=torch.Generator().manual_seed(1))

    def loss(model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0].flatten(1)), batch[1], reduction="none")

    streamed, resident = streamed_of(data, readers=2, most_bytes=500), resident_of(Pixels(50))
    points = [(value,) for value in np.linspace(-1, 1, 7).tolist()]
    with Evaluator(network, loss, layout, center, [direction], device=CPU) as evaluator:
        data.read.clear()
        with closing(streamed.pieces(2, 13)) as pieces:
            sums = evaluator.tile(pieces, points)
        expected = evaluator.tile(resident.pieces(2, 13), points)
    assert data.read == Counter(range(8, 50))
    assert np.array_equal(sums, expected, equal_nan=True)  # this loss gives no accuracy


def test_sums_are_added_batch_by_batch_wherever_a_piece_ends():
    # 2^53 + 1 is rounded away, so that any other order of these terms gives another sum.
    values = torch.tensor([2.0**53, 1.0, 1.0, -(2.0**53), 1.0, 3.0], dtype=torch.float64)
    network = torch.nn.Linear(1, 1).double()
    layout = layout_of(network)
    center = layout.flatten(
        {name: tensor.float() for name, tensor in network.named_parameters()}, where="test"
    )
    examples = TensorDataset(values)
    batches = resident_of(examples, 1, torch.float64).batches
    running = 0.0
    for value in values.tolist():
        running += value
    with Evaluator(
        network, lambda model, batch: batch[0], layout, center, [], device=CPU, dtype=torch.float64
    ) as evaluator:
        for cuts in ([6], [1, 5], [2, 2, 2], [3, 1, 2]):
            stops = np.cumsum(cuts).tolist()
            pieces = [batches[stop - cut : stop] for cut, stop in zip(cuts, stops, strict=True)]
            assert evaluator.tile(pieces, [(0.0,)])[0, 0] == running


def test_no_more_than_the_next_piece_is_read_ahead():
    data = Pixels(64)
    streamed = streamed_of(data, readers=2, most_bytes=8 * 26)
    assert streamed.most_batches == 2
    data.read.clear()
    with closing(streamed.pieces(0, 16)) as pieces:
        for taken, piece in enumerate(pieces, start=1):
            assert len(piece) == 2
            deadline = time.monotonic() + 5
            while sum(data.read.values()) < min(64, 8 * (taken + 1)) and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.02)
            assert sum(data.read.values()) == min(64, 8 * (taken + 1))


@pytest.mark.parametrize("dataset", [Pixels(64), TensorDataset(torch.zeros(64, 3))])
def test_a_piece_gives_its_memory_back_whoever_still_has_a_name_for_it(dataset):
    names, tensors = [], []
    with closing(streamed_of(dataset, most_bytes=1).pieces(0, 16)) as pieces:
        for piece in pieces:
            assert [tensor() for tensor in tensors] == [None] * len(tensors)
            names.append(piece)
            tensors += [weakref.ref(batch.data[0]) for batch in piece]
    assert len(tensors) == 16


@pytest.mark.parametrize("readers", [1, 3])
def test_an_item_that_cannot_be_read_is_refused_with_its_split_and_ends_all_threads(readers):
    data = Pixels(50)
    streamed = streamed_of(data, readers=readers, most_bytes=1)
    data.broken = 30
    taken = []
    with pytest.raises(LandscapeError, match=r"item 30 of split 'train' .*OSError: torn in two"):
        taken.extend(len(piece) for piece in streamed.pieces(0, 13))
    assert sum(taken) == 7
    assert readers_alive() == []


def test_leaving_early_ends_all_threads():
    streamed = streamed_of(Pixels(), readers=2)
    with closing(streamed.pieces(0, 13)) as pieces:
        next(pieces)
        assert readers_alive()
    assert readers_alive() == []

    class Slow(Pixels):
        def stored_item(self, index):
            time.sleep(0.02)
            return super().stored_item(index)

    def stop():
        raise KeyboardInterrupt

    slow = Slow(8)
    streamed = streamed_of(slow, readers=2)
    slow.read.clear()
    with pytest.raises(KeyboardInterrupt):
        next(streamed.pieces(0, 2, between=stop))
    gc.collect()
    assert readers_alive() == []
    assert sum(slow.read.values()) < 8


@pytest.mark.parametrize(("thread_safe", "most"), [(True, 3), (False, 1)])
def test_only_a_data_set_that_says_so_is_read_by_several_threads(thread_safe, most):
    data = Pixels(40, thread_safe=thread_safe)
    streamed = streamed_of(data, readers=3)
    data.threads.clear()
    for _ in streamed.pieces(0, 10):
        pass
    assert 1 <= len(data.threads) <= most
    resident = Pixels(40, thread_safe=thread_safe)
    make_resident("train", resident, batch_size=4, device=CPU, dtype=torch.float32, readers=3)
    assert thread_safe or resident.threads == {"MainThread"}


def test_several_threads_may_take_batches_of_one_piece():
    streamed, resident = streamed_of(Pixels()), resident_of(Pixels())
    with closing(streamed.pieces(0, 13)) as pieces:
        wrong, first = [], 0
        for piece in pieces:

            def look(piece=piece, first=first):
                for number in range(len(piece)):
                    if not equal(piece[number].data, resident.batches[first + number].data):
                        wrong.append(first + number)

            threads = [threading.Thread(target=look) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            first += len(piece)
    assert (wrong, first) == ([], 13)


def test_a_small_split_has_the_digest_of_the_resident_one_and_a_large_one_says_what_it_stands_for():
    assert streamed_of(Pixels(50)).digest == resident_of(Pixels(50)).digest
    assert streamed_of(Pixels(50)).identity == resident_of(Pixels(50)).identity
    data = Pixels(SAMPLE + 200)
    large = streamed_of(data, 64)
    assert large.identity.startswith(f"{SAMPLE + 200} examples, ")
    assert large.identity.endswith(f" of {SAMPLE} of them")
    assert max(data.read[index] for index in (0, SAMPLE + 199)) == data.read[0] > 0
    assert sum(1 for count in data.read.values() if count) == SAMPLE
    assert streamed_of(Pixels(SAMPLE + 201), 64).digest != large.digest


@pytest.mark.parametrize("count", [1, 5, 1025])
def test_batches_are_counted_like_resident_ones(count):
    streamed, resident = streamed_of(Pixels(count), 64), resident_of(Pixels(count), 64)
    assert (streamed.batch_size, streamed.num_batches) == (resident.batch_size, resident.num_batches)
