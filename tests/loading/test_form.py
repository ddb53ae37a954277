import pytest
import torch
from torch.utils.data import TensorDataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.form import PROBED, find_form
from mpi_landscape.loading.nests import equal, tensors
from mpi_landscape.loading.resident import make_resident
from mpi_landscape.problem.datasets.images import ImageDataset

CPU = torch.device("cpu")


def images(count=70):
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (count, 3, 4, 5), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 7
    return ImageDataset(pixels, labels, scale=255.0, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


def form_of(dataset, dtype=torch.float32):
    return find_form("train", dataset, device=CPU, dtype=dtype)


class OneByOne:
    """Stored forms that are asked for one at a time, as those in files are."""

    def __init__(self, inner):
        self.inner = inner
        self.asked = []

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[index]

    def stored_item(self, index):
        self.asked.append(index)
        return self.inner.images[index], self.inner.labels[index]

    def finish(self, examples):
        return self.inner.finish(examples)


class Shifted(ImageDataset):
    """A user's class that changes what an item is, and inherits the rest."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + 1e-6, label


class LastShifted(ImageDataset):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + (index == len(self) - 1), label


class TooFew(ImageDataset):
    def stored(self):
        return self.images[1:], self.labels[1:]


class Tuples(ImageDataset):
    """Finished tuples, where the default collation makes lists."""

    def finish(self, examples):
        return tuple(super().finish(examples))


class Mappings(ImageDataset):
    """Finished nests of another type than the collated items': a loss may ask for a mapping's keys or a list."""

    def finish(self, examples):
        image, label = super().finish(examples)
        return {0: image, 1: label}


def again(kind):
    source = images()
    return kind(source.images, source.labels, scale=255.0, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


@pytest.mark.parametrize(
    ("dataset", "kind", "reason"),
    [
        (images(), "stored", "all at once"),
        (OneByOne(images()), "stored items", "one by one"),
        (again(Shifted), "items", "other items than the stored ones"),
        (again(LastShifted), "items", "the last example is probed"),
        (again(TooFew), "items", "stored rows are missing"),
        (again(Tuples), "stored", "tuples are collated into lists"),
        (again(Mappings), "items", "another nest"),
        (TensorDataset(torch.zeros(5, 2)), "items", "nothing stored"),
        ([(torch.zeros(2), "a")] * 3, "loose", "strings are no rows of an array"),
    ],
)
def test_the_stored_form_is_kept_only_where_it_is_that_of_the_items(dataset, kind, reason):
    assert form_of(dataset).kind == kind, reason


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("wrap", [lambda data: data, OneByOne])
@pytest.mark.parametrize("batch_size", [1, 8, 64, 100])
def test_batches_of_the_stored_form_are_the_collated_items_bit_for_bit(wrap, dtype, batch_size):
    data = images()
    resident = make_resident("train", wrap(data), batch_size=batch_size, device=CPU, dtype=dtype)
    for number, batch in enumerate(resident.batches):
        for row in range(resident.batch_size):
            image, label = data[min(number * resident.batch_size + row, len(data) - 1)]
            assert torch.equal(batch.data[0][row], image.to(dtype))
            assert batch.data[1][row] == label
        assert batch.data[0].dtype == dtype


def test_a_loss_gets_the_nest_of_the_default_collation():
    for data in (images(), again(Tuples), OneByOne(again(Tuples))):
        resident = make_resident("train", data, batch_size=16, device=CPU, dtype=torch.float32)
        assert type(resident.batches[0].data) is list


def test_the_digest_does_not_depend_on_the_form():
    data = images()
    plain = TensorDataset(torch.stack([data[index][0] for index in range(70)]), data.labels)
    digests = {
        make_resident("train", each, batch_size=16, device=CPU, dtype=torch.float32).digest
        for each in (data, OneByOne(data), plain)
    }
    assert len(digests) == 1


def test_what_is_kept_is_as_small_as_what_is_stored():
    assert form_of(images()).example_bytes == 3 * 4 * 5 + 8
    assert form_of(TensorDataset(torch.zeros(9, 6), torch.zeros(9))).example_bytes == 28
    assert form_of(TensorDataset(torch.zeros(9, 6)), torch.float64).example_bytes == 48


def test_only_a_sample_is_read_twice():
    data = OneByOne(images(200))
    make_resident("train", data, batch_size=64, device=CPU, dtype=torch.float32)
    assert len(data.asked) == 200 + PROBED
    assert set(data.asked) == set(range(200))


def test_a_loss_that_writes_into_its_batch_does_not_reach_what_is_stored():
    data = images()
    form = form_of(data)
    for _, tensor in tensors(form.finish(form.read([3, 4]))):
        tensor.zero_()
    resident = make_resident("train", data, batch_size=32, device=CPU, dtype=torch.float32)
    resident.batches[0].data[1].zero_()
    assert equal(form.read([3, 4]), (data.images[3:5], data.labels[3:5]))
    assert data.labels[3] == 3


def test_an_empty_split_is_refused():
    with pytest.raises(LandscapeError, match="'train' is empty"):
        form_of([])
