import numpy as np
import pytest
import torch

from mpi_landscape.loading.nests import tensors
from mpi_landscape.loading.store import ALIGNMENT, Store


def items(count):
    """One of every kind of number, in shapes whose batches do not end where alignment does."""
    index = torch.arange(count)
    return {
        "image": index[:, None, None].float() + torch.arange(15.0).reshape(3, 5) / 16,
        "label": index,
        "mask": (index[:, None] + torch.arange(3)) % 2 == 0,
        "wave": index.to(torch.complex64) * 1j,
        "byte": (index[:, None] % 251).to(torch.uint8).expand(-1, 7).contiguous(),
        "nothing": torch.zeros(count, 0),
    }


def filled(count, batch_size, step):
    data = items(count)
    template = {name: leaf[:0] for name, leaf in data.items()}
    memory = torch.empty(Store.bytes_needed(template, count, batch_size), dtype=torch.uint8)
    store = Store(template, count, batch_size, memory)
    positions = [
        (start, min(start + step, (start // batch_size + 1) * batch_size, count))
        for start in range(0, count, step)
    ]
    for start, stop in positions:
        store.put(start, {name: leaf[start:stop] for name, leaf in data.items()})
    return store, data


@pytest.mark.parametrize(
    ("count", "batch_size", "step"), [(12, 4, 4), (11, 4, 2), (7, 7, 7), (5, 1, 1), (9, 6, 3)]
)
def test_batches_hold_the_examples_in_order_and_repeat_the_last(count, batch_size, step):
    store, data = filled(count, batch_size, step)
    for number in range(store.num_batches):
        rows = np.minimum(np.arange(number * batch_size, (number + 1) * batch_size), count - 1)
        for name, leaf in store.batch(number).items():
            assert torch.equal(leaf, data[name][rows]), name
            assert leaf.is_contiguous()


def test_every_tensor_of_every_batch_begins_where_one_of_its_own_would():
    store, _ = filled(11, 3, 1)
    base = store.batch(0)["image"].data_ptr()
    for number in range(store.num_batches):
        for _, leaf in tensors(store.batch(number)):
            assert leaf.numel() == 0 or (leaf.data_ptr() - base) % ALIGNMENT == 0


def test_examples_are_found_wherever_they_are():
    store, data = filled(11, 4, 2)
    found = store.examples([10, 0, 3, 3])
    for name, leaf in found.items():
        assert torch.equal(leaf, data[name][[10, 0, 3, 3]]), name
