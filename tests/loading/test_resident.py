import hashlib

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.nests import equal, rows, tensor_bytes
from mpi_landscape.loading.reading import collate, read_items
from mpi_landscape.loading.resident import make_resident

CPU = torch.device("cpu")


def resident_of(dataset, batch_size=4, dtype=torch.float32):
    return make_resident("train", dataset, batch_size=batch_size, device=CPU, dtype=dtype)


def dataset(count=10):
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(count, 3, 2, generator=generator), torch.arange(count))


@pytest.mark.parametrize(
    ("count", "batch_size", "valid"),
    [
        (10, 4, [4, 4, 2]),
        (10, 5, [5, 5]),
        (10, 1, [1] * 10),
        (3, 64, [3]),  # no padding: the split is the batch
        (1, 64, [1]),
    ],
)
def test_every_example_is_there_once_and_in_order(count, batch_size, valid):
    resident = resident_of(dataset(count), batch_size)
    assert resident.num_examples == count
    assert resident.batch_size == min(batch_size, count)
    assert [batch.valid for batch in resident.batches] == valid
    labels = torch.cat([rows(batch.data, 0, batch.valid)[1] for batch in resident.batches])
    assert labels.tolist() == list(range(count))
    images = torch.cat([rows(batch.data, 0, batch.valid)[0] for batch in resident.batches])
    assert torch.equal(images, dataset(count).tensors[0])


def test_all_batches_have_one_size_and_the_last_repeats_its_last_item():
    resident = resident_of(dataset(10), 4)
    assert {tuple(batch.data[0].shape) for batch in resident.batches} == {(4, 3, 2)}
    assert resident.batches[-1].data[1].tolist() == [8, 9, 9, 9]


def test_the_data_set_is_read_once():
    asked = []

    class Counting:
        def __len__(self):
            return 7

        def __getitem__(self, index):
            asked.append(index)
            return torch.zeros(1), 0

    resident_of(Counting(), 3)
    assert asked == list(range(7))


def test_later_changes_of_the_data_set_do_not_reach_what_is_resident():
    data = dataset()
    resident = resident_of(data)
    data.tensors[0].zero_()
    assert resident.batches[0].data[0].abs().min() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floating_point_takes_the_precision_of_the_computation_and_nothing_else_does(dtype):
    item = {
        "half": torch.ones(2, dtype=torch.float16),
        "python": 0.1,
        "numpy": np.array([0.1, 0.2]),
        "pixels": torch.tensor([255], dtype=torch.uint8),
        "label": 3,
        "mask": torch.tensor([True]),
        "wave": torch.tensor([1 + 2j]),
        "name": "text",
    }
    data = resident_of([item, item], dtype=dtype).batches[0].data
    assert {name: data[name].dtype for name in item if name != "name"} == {
        "half": dtype,
        "python": dtype,
        "numpy": dtype,
        "pixels": torch.uint8,
        "label": torch.int64,
        "mask": torch.bool,
        "wave": torch.complex64,
    }
    # float64 is not rounded on its way.
    assert data["numpy"][0].tolist() == torch.tensor([0.1, 0.2], dtype=torch.float64).to(dtype).tolist()
    assert data["name"] == ["text", "text"]


def test_strings_are_padded_like_everything_else():
    resident = resident_of([(f"text {index}", index) for index in range(5)], 3)
    assert [list(batch.data[0]) for batch in resident.batches] == [
        ["text 0", "text 1", "text 2"],
        ["text 3", "text 4", "text 4"],
    ]


def test_the_digest_does_not_depend_on_the_batch_size():
    assert len({resident_of(dataset(), size).digest for size in (1, 3, 4, 10, 99)}) == 1
    words = [(f"word {index}", float(index)) for index in range(7)]
    assert len({resident_of(words, size).digest for size in (1, 2, 7)}) == 1


def test_the_digest_does_not_depend_on_the_order_of_a_mapping():
    first, second = {"a": 1, "b": 2.0}, {"b": 2.0, "a": 1}
    assert resident_of([first] * 3).digest == resident_of([second] * 3).digest


def test_the_digest_is_sha256_of_every_place():
    data = dataset(5)
    partial = {
        "/0": hashlib.sha256(b"torch.float32 (3, 2)" + data.tensors[0].numpy().tobytes()).hexdigest(),
        "/1": hashlib.sha256(b"torch.int64 ()" + data.tensors[1].numpy().tobytes()).hexdigest(),
    }
    whole = "".join(f"{place} {digest} " for place, digest in partial.items())
    assert resident_of(data, 2).digest == hashlib.sha256(whole.encode()).hexdigest()


def swap(values):
    return [values[1], values[0], *values[2:]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda items: items[:-1], "one example less"),
        (swap, "another order"),
        (lambda items: [*items[:-1], (items[-1][0], 9, "c")], "another label"),
        (lambda items: [*items[:-1], (items[-1][0] + 1e-6, *items[-1][1:])], "another pixel"),
        (lambda items: [*items[:-1], (*items[-1][:2], "d")], "another string"),
        (lambda items: [(image.reshape(1, 2), *rest) for image, *rest in items], "another shape"),
        (lambda items: [(image.int(), *rest) for image, *rest in items], "another type"),
        (lambda items: [(*item, 0) for item in items], "one more entry"),
        (lambda items: [(image, text, label) for image, label, text in items], "another place"),
    ],
)
def test_the_digest_tells_data_sets_apart(change, reason):
    items = [(torch.tensor([float(index), 1.0]), index, "abc"[index]) for index in range(3)]
    assert resident_of(change(items)).digest != resident_of(items).digest, reason


def test_strings_are_told_apart_by_where_one_ends():
    assert resident_of([("ab", 0), ("c", 0)]).digest != resident_of([("a", 0), ("bc", 0)]).digest
    assert resident_of([("' 'a", 0)]).digest != resident_of([("'", 0), ("a", 0)]).digest


def test_the_bytes_of_a_tensor_are_its_values_in_c_order():
    values = torch.arange(6, dtype=torch.int16).reshape(2, 3)
    assert bytes(tensor_bytes(values.T)) == values.numpy().T.tobytes(order="C")
    assert bytes(tensor_bytes(torch.zeros(0, 3))) == b""
    assert bytes(tensor_bytes(torch.tensor(True))) == b"\x01"
    assert len(tensor_bytes(torch.ones(3, dtype=torch.bfloat16, requires_grad=True))) == 6


class Broken:
    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 4:
            raise OSError("no such file:\n  image 4.png")
        return torch.zeros(2), index


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], ["'train'", "empty"]),
        (Broken(), ["item 4", "'train'", "OSError", "no such file: image 4.png"]),
        ([(torch.zeros(2), 0), (torch.zeros(3), 0)], ["'train'", "do not collate", "shape"]),
        ([{"a": 1}, {"b": 1}], ["'train'", "do not collate"]),
        ([(None, 1)], ["'train'", "do not collate", "NoneType"]),
        ([(1, 2), (1, 2, 3)], ["'train'", "do not collate"]),
        ([np.arange(4)[::-1]] * 2, ["'train'", "do not collate", "negative"]),
    ],
)
def test_data_that_cannot_be_used_is_refused_in_one_line(data, words):
    with pytest.raises(LandscapeError) as caught:
        resident_of(data)
    message = str(caught.value)
    assert message.startswith("data: ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_no_items_at_all_do_not_collate():
    with pytest.raises(LandscapeError, match="do not collate"):
        collate("train", read_items("train", dataset(), []), dtype=torch.float32)


class Words(list):
    """Examples with a string each, which no array holds."""


@pytest.mark.parametrize("kind", ["tensors", "words"])
def test_another_order_has_the_same_examples_and_the_same_digest(kind):
    examples = dataset(11) if kind == "tensors" else Words((f"word {index}", index) for index in range(11))
    resident = resident_of(examples, 4)
    order = np.random.default_rng(2).permutation(11)
    changed = resident.reordered(order)
    assert changed.digest == resident.digest
    assert changed.identity == resident.identity
    assert [batch.valid for batch in changed.batches] == [4, 4, 3]
    labels = torch.cat([torch.as_tensor(batch.data[1]) for batch in changed.batches])
    assert labels.tolist() == [*order, order[-1]], "the last batch repeats its last example"
    for index in range(11):
        one, other = changed.example(index), resident.example(index)
        assert equal(one, other), "an example keeps its number in the data set"
    again = np.random.default_rng(3).permutation(11)
    twice = changed.reordered(again)
    assert torch.cat([torch.as_tensor(b.data[1]) for b in twice.batches])[:11].tolist() == again.tolist()


def test_what_is_no_order_of_the_examples_is_refused():
    for order in (np.arange(10), np.zeros(11, dtype=int), np.arange(1, 12)):
        with pytest.raises(LandscapeError, match="each of its 11 examples once"):
            resident_of(dataset(11), 4).reordered(order)
