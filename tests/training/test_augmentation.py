import numpy as np
import pytest
import torch
from torchvision.transforms import functional as vision

from mpi_landscape.loading.nests import tensors
from mpi_landscape.training.augmentation import Augment, shift_and_flip, with_images

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
    ),
]


def one_by_one(images, rows, columns, flips, shift):
    """Pad, crop and mirror each image with torchvision."""
    done = []
    for image, row, column, flip in zip(images, rows.tolist(), columns.tolist(), flips.tolist(), strict=True):
        cut = vision.crop(vision.pad(image, [shift] * 4), row, column, *image.shape[1:])
        done.append(vision.hflip(cut) if flip else cut)
    return torch.stack(done)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize(("shift", "channels"), [(0, 3), (1, 1), (2, 3), (4, 2)])
def test_moving_and_mirroring_is_torchvisions_image_by_image(device, dtype, shift, channels):
    generator = torch.Generator().manual_seed(shift)
    images = torch.randint(256, (40, channels, 4, 7), generator=generator).to(dtype)
    rows, columns = torch.randint(2 * shift + 1, (2, 40), generator=generator)
    flips = torch.arange(40) % 3 == 0
    found = shift_and_flip(
        images.to(device),
        rows=rows.to(device),
        columns=columns.to(device),
        flips=flips.to(device),
        shift=shift,
    )
    assert found.dtype == dtype
    assert torch.equal(found.cpu(), one_by_one(images, rows, columns, flips, shift))


def test_every_offset_and_both_directions_come_equally_often():
    draws = Augment(seed=3, epoch=1, shift=4, flip=True).draws(90_000)
    for offsets in (draws.rows, draws.columns):
        counts = np.bincount(offsets.numpy(), minlength=9)
        # Five standard deviations of a binomial count with p = 1/9.
        assert len(counts) == 9
        assert np.abs(counts - 10_000).max() < 5 * np.sqrt(90_000 * 8 / 81)
    assert abs(int(draws.flips.sum()) - 45_000) < 5 * np.sqrt(90_000 / 4)
    both = np.corrcoef(np.stack([draws.rows, draws.columns, draws.flips]))
    assert np.abs(both - np.eye(3)).max() < 5 / np.sqrt(90_000)


@pytest.mark.parametrize("changes", [{"seed": 4}, {"epoch": 2}])
def test_what_is_drawn_follows_from_seed_and_epoch_alone(changes):
    how = {"seed": 3, "epoch": 1, "shift": 2, "flip": True}

    def drawn(**others):
        draws = Augment(**{**how, **others}).draws(50)
        return torch.stack([draws.rows, draws.columns, draws.flips])

    torch.manual_seed(1)
    first = drawn()
    torch.manual_seed(2)
    assert torch.equal(drawn(), first)
    assert not torch.equal(drawn(**changes), first)


@pytest.mark.parametrize(
    ("shift", "flip", "moves", "mirrors"), [(2, False, True, False), (0, True, False, True)]
)
def test_only_what_was_asked_for_is_done(shift, flip, moves, mirrors):
    draws = Augment(seed=0, epoch=1, shift=shift, flip=flip).draws(50)
    assert bool((draws.rows != shift).any()) == bool((draws.columns != shift).any()) == moves
    assert bool(draws.flips.any()) == mirrors


def test_nothing_is_drawn_where_nothing_was_asked_for():
    assert Augment(seed=0, epoch=1).draws(50) is None


def test_images_are_the_first_tensor_of_four_dimensions():
    first, second = torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 1)
    batch = [torch.ones(2), {"a": first, "b": second}]
    result = with_images(lambda images: images * 5, batch)
    assert [leaf.sum().item() for _, leaf in tensors(result)] == [2, 10, 2]
    assert with_images(lambda images: images * 5, [torch.ones(2)])[0].sum() == 2
