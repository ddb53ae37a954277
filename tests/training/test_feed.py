import itertools
import random
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset, default_collate
from torchvision.transforms import functional as vision

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.nests import equal, in_precision
from mpi_landscape.training.augmentation import Augment
from mpi_landscape.training.feed import FeedFromLoader, FeedFromMemory, make_feed

CPU = torch.device("cpu")
ORDER = torch.tensor([4, 0, 10, 3, 3, 9, 1])
Pair = namedtuple("Pair", ["image", "label"])


def examples(dataset, mode="resident", **changes):
    return make_feed("train", dataset, **{"device": CPU, "dtype": torch.float32, "mode": mode, **changes})


def floats(count=11):
    generator = torch.Generator().manual_seed(5)
    return [(torch.rand(2, 4, 3, generator=generator), float(index)) for index in range(count)]


KINDS = {
    "stored": lambda pictures, recorded: pictures(),
    "part of a stored one": lambda pictures, recorded: Subset(pictures(20), range(3, 14)),
    "pairs": lambda pictures, recorded: recorded(floats()),
    "double precision": lambda pictures, recorded: recorded([(x.double(), y) for x, y in floats()]),
    "mappings and text": lambda pictures, recorded: recorded(
        [{"name": f"{y}", "inner": {"image": x, "label": y}} for x, y in floats()]
    ),
    "named tuples": lambda pictures, recorded: recorded([Pair(x, int(y)) for x, y in floats()]),
    "arrays": lambda pictures, recorded: recorded([(x.numpy(), np.float32(y)) for x, y in floats()]),
    "one tensor": lambda pictures, recorded: recorded([x for x, _ in floats()]),
    "vectors": lambda pictures, recorded: TensorDataset(torch.rand(11, 3), torch.arange(11)),
}


@pytest.mark.parametrize(("mode", "workers"), [("resident", 0), ("streamed", 0), ("streamed", 2)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [3, 7, 100, (1, 4, 2)])
def test_batches_are_the_collated_items_in_the_order_asked_for(kind, mode, workers, size, pictures, recorded):
    dataset = KINDS[kind](pictures, recorded)
    given = examples(dataset, mode, workers=workers)
    assert isinstance(given, FeedFromMemory if mode == "resident" else FeedFromLoader)
    assert len(given) == 11
    sizes = [size] * (-(-7 // size)) if isinstance(size, int) else size
    cuts = np.cumsum([0, *sizes])
    wanted = [
        in_precision(default_collate([dataset[index] for index in ORDER[start:stop]]), torch.float32)
        for start, stop in itertools.pairwise(cuts)
    ]
    found = list(given.batches(ORDER, size))
    assert len(found) == len(wanted)
    assert all(map(equal, found, wanted))
    assert [type(batch) for batch in found] == [type(batch) for batch in wanted]


@pytest.mark.parametrize("mode", ["resident", "streamed"])
def test_floating_point_numbers_come_in_the_precision_of_the_network(mode, pictures):
    ((images, labels),) = examples(pictures(), mode, dtype=torch.float64).batches(ORDER, 7)
    assert (images.dtype, labels.dtype) == (torch.float64, torch.int64)


@pytest.mark.parametrize(("mode", "workers"), [("resident", 0), ("streamed", 0), ("streamed", 2)])
@pytest.mark.parametrize("sizes", [1, 3, 7, (2, 5)])
def test_images_are_augmented_as_they_are_stored_so_that_the_frame_is_black(mode, workers, sizes, pictures):
    dataset = pictures()
    augment = Augment(seed=2, epoch=3, shift=2, flip=True)
    draws = augment.draws(len(dataset))
    done = []
    for index in ORDER.tolist():
        framed = vision.pad(dataset.images[index], [2] * 4)
        image = vision.crop(framed, int(draws.rows[index]), int(draws.columns[index]), 5, 6)
        image = vision.hflip(image) if draws.flips[index] else image
        done.append((image.float() / 255 - 0.4) / 0.3)
    found = list(examples(dataset, mode, workers=workers).batches(ORDER, sizes, augment))
    assert torch.equal(torch.cat([images for images, _ in found]), torch.stack(done))
    assert torch.equal(torch.cat([labels for _, labels in found]), dataset.labels[ORDER])


@pytest.mark.parametrize("kind", KINDS)
def test_resident_and_streamed_examples_are_augmented_alike(kind, pictures, recorded):
    dataset = KINDS[kind](pictures, recorded)
    augment = Augment(seed=2, epoch=3, shift=2, flip=True)
    first, second = (
        list(examples(dataset, mode).batches(ORDER, 3, augment)) for mode in ("resident", "streamed")
    )
    assert all(map(equal, first, second))
    plain = list(examples(dataset).batches(ORDER, 3))
    has_images = kind != "vectors"
    assert all(map(equal, first, plain)) != has_images


def test_augmenting_leaves_the_data_as_it_was(pictures):
    dataset = pictures()
    before = dataset.images.clone()
    for mode in ("resident", "streamed"):
        for images, _ in examples(dataset, mode).batches(ORDER, 3, Augment(seed=0, epoch=1, shift=1)):
            images.zero_()
    assert torch.equal(dataset.images, before)


@pytest.mark.parametrize(("mode", "workers"), [("resident", 0), ("streamed", 2)])
def test_labels_stay_with_their_images(mode, workers, pictures):
    dataset = pictures(40, height=5, width=5)
    dataset.labels = torch.arange(40)
    dataset.images[:] = dataset.labels[:, None, None, None]
    augment = Augment(seed=0, epoch=1, shift=2, flip=True)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    seen = []
    for images, labels in examples(dataset, mode, workers=workers).batches(order, 7, augment):
        # Whatever way an image is moved by two pixels, its middle one is its own.
        assert torch.equal(((images[:, 0, 2, 2] * 0.3 + 0.4) * 255).round().long(), labels)
        seen += labels.tolist()
    assert seen == order.tolist()


class Noisy(torch.utils.data.Dataset):
    """Items that are drawn anew each time, from every generator that there is."""

    def __len__(self):
        return 11

    def __getitem__(self, index):
        return torch.rand(2), np.random.rand(), random.random(), index


@pytest.mark.parametrize("mode", ["auto", "resident", "streamed"])
def test_items_that_are_others_on_a_second_reading_are_streamed(mode):
    assert isinstance(examples(Noisy(), mode), FeedFromLoader)


def noisy_rows(workers=0, size=3, order=ORDER, **augment):
    augment = Augment(**{"seed": 0, "epoch": 1, **augment})
    rows = [
        torch.cat([a, b[:, None], c[:, None], d[:, None]], 1)
        for a, b, c, d in examples(Noisy(), workers=workers).batches(order, size, augment)
    ]
    return torch.cat(rows)


@pytest.mark.parametrize(
    "changes",
    [{}, {"workers": 2}, {"workers": 2, "size": 1}, {"size": 7}],
)
def test_what_a_data_set_draws_depends_on_the_example_and_not_on_who_reads_it(changes):
    torch.manual_seed(1)
    first = noisy_rows()
    torch.manual_seed(2)
    assert torch.equal(noisy_rows(**changes), first)


def test_what_a_data_set_draws_is_the_same_for_the_rest_of_an_epoch():
    assert torch.equal(noisy_rows(order=ORDER[3:]), noisy_rows()[3:])


@pytest.mark.parametrize("changes", [{"seed": 1}, {"epoch": 2}])
def test_what_a_data_set_draws_is_new_in_every_epoch_and_with_every_seed(changes):
    differs = noisy_rows(**changes)[:, :4] != noisy_rows()[:, :4]
    assert differs.all()


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_draws_nothing_from_the_generators_of_the_network(workers, pictures):
    def drawn(use):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        use()
        return torch.rand(1).item(), np.random.rand(), random.random()

    given = [examples(Noisy(), workers=workers), examples(pictures())]
    augment = Augment(seed=0, epoch=1, shift=1, flip=True)
    plain = drawn(lambda: None)
    assert drawn(lambda: [list(each.batches(ORDER, 3, augment)) for each in given]) == plain


# 11 images of 2 × 5 × 6 bytes and labels of 8; items of 4 bytes per pixel.
STORED, ITEMS = 11 * (60 + 8), 11 * (60 * 4 + 8)


@pytest.mark.parametrize(
    ("part", "available", "kind"),
    [
        pytest.param(False, None, FeedFromMemory, id="no bound"),
        pytest.param(False, 2 * STORED + 1, FeedFromMemory, id="under half, as it is stored"),
        pytest.param(False, 2 * STORED, FeedFromLoader, id="half"),
        pytest.param(True, 2 * ITEMS + 1, FeedFromMemory, id="under half, as items"),
        pytest.param(True, 2 * STORED + 1, FeedFromLoader, id="over half, as items"),
        pytest.param(True, 2 * ITEMS, FeedFromLoader, id="half, as items"),
    ],
)
def test_what_takes_less_than_half_of_the_memory_is_kept(part, available, kind, pictures):
    dataset = Subset(pictures(), range(11)) if part else pictures()
    assert type(examples(dataset, "auto", available=available)) is kind


def test_what_does_not_fit_is_not_read(recorded):
    dataset = recorded([torch.zeros(100)] * 1000)
    assert isinstance(examples(dataset, "auto", available=1000), FeedFromLoader)
    assert len(dataset.asked) <= 32


def test_data_that_is_kept_is_read_once(recorded):
    dataset = recorded([torch.zeros(3)] * 1000)
    given = examples(dataset)
    assert 1000 <= len(dataset.asked) <= 1064
    dataset.asked.clear()
    list(given.batches(ORDER, 3))
    assert dataset.asked == []


@pytest.mark.parametrize("mode", ["resident", "streamed"])
def test_a_stored_form_that_is_not_that_of_the_items_is_not_used(mode, pictures):
    inherited = pictures()

    class Negative(type(inherited)):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return -image, label

    dataset = Negative(inherited.images, inherited.labels)
    ((images, _),) = examples(dataset, mode).batches(ORDER, 7)
    assert torch.equal(images, torch.stack([-inherited[index][0] for index in ORDER.tolist()]))


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        if index == 5:
            raise OSError("not\na picture")
        return torch.zeros(3 if index != 6 else 4)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([1, 5], "item 5 of split 'train' could not be read: OSError: not a picture"),
        ([1, 6], "items of split 'train' do not collate into a batch: "),
    ],
)
def test_an_item_that_cannot_be_read_is_named_in_one_line(workers, order, words):
    given = examples(Broken(), "streamed", workers=workers)
    with pytest.raises(LandscapeError) as caught:
        list(given.batches(torch.tensor(order), 2))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(LandscapeError, match="item 5 of split 'train'"):
        examples(Broken())


@pytest.mark.parametrize(
    ("dataset", "mode", "words"),
    [
        ([], "auto", "split 'train' is empty"),
        ([1.0], "lazy", "mode 'lazy'; valid are auto, resident, streamed"),
    ],
)
def test_no_examples_and_no_such_mode_are_refused(dataset, mode, words):
    with pytest.raises(LandscapeError, match=words):
        examples(dataset, mode)
