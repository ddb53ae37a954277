"""The named data sets: small labelled images, in memory as bytes, normalised the same way every time."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.messages import reason, shown


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Labelled images; an example is (image / scale − mean) / std, with its label.

    Args:
        images: (N, channels, height, width) uint8.
        labels: (N,) int64.
        scale: What the largest byte stands for, 255 for photographs.
        mean: One value per channel, after division by scale.
        std: One value per channel, likewise.

    Attributes:
        images: As given; with `scale`, `mean` and `std` the data at a quarter of the memory.
        labels: As given.
        scale: As given.
        mean: (channels, 1, 1) float32.
        std: (channels, 1, 1) float32.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, *, scale: float, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.images = images
        self.labels = labels
        self.scale = scale
        self.mean = torch.tensor(mean, dtype=torch.float32)[:, None, None]
        self.std = torch.tensor(std, dtype=torch.float32)[:, None, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index].to(torch.float32).div(self.scale)
        return image.sub(self.mean).div(self.std), self.labels[index]


def digits(*, mean: Sequence[float] = (0.305,), std: Sequence[float] = (0.376,)) -> dict[str, ImageDataset]:
    """Load the 1,797 handwritten digits of 8×8 pixels that scikit-learn brings along.

    Source: Alpaydin and Kaynak (1998), "Optical recognition of handwritten digits", UCI repository; the
    part for tests.
    Split here: of each digit, in the file's order, every fifth is a test example.

    Args:
        mean: Of the pixels of the training split, which go from 0 to 1; one value.
        std: Likewise.

    Returns:
        "train" and "test", images (1, 8, 8) float32 and labels from 0 to 9.

    Raises:
        LandscapeError: If scikit-learn is not installed, or mean or std are not valid.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise LandscapeError("digits needs scikit-learn; pip install 'mpi_landscape[quickstart]'") from error
    content = load_digits()
    images, labels = content.images.astype(np.uint8)[:, None], content.target.astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        # Per digit, as the file begins 0, 1, 2, ..., 9, 0, 1, ...: every fifth of all would be a 4 or a 9.
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    scaled = functools.partial(_images, scale=16.0, mean=mean, std=std)
    return {
        "train": scaled(images[~is_test], labels[~is_test]),
        "test": scaled(images[is_test], labels[is_test]),
    }


def mnist(
    *, root: Path, download: bool = False, mean: Sequence[float] = (0.1307,), std: Sequence[float] = (0.3081,)
) -> dict[str, ImageDataset]:
    """Read MNIST, 60,000 and 10,000 handwritten digits of 28×28 pixels.

    Source: LeCun et al. (1998), "Gradient-based learning applied to document recognition".

    Args:
        root: Folder that holds MNIST/raw with the four files, as torchvision lays them out.
        download: Whether they may be fetched.
        mean: Of the training pixels, which go from 0 to 1; one value.
        std: Likewise.

    Returns:
        "train" and "test", images (1, 28, 28) float32 and labels from 0 to 9.

    Raises:
        LandscapeError: If the files are absent or damaged, or mean or std are not valid.
    """
    return _from_torchvision("MNIST", Path("MNIST") / "raw", root, download, mean, std)


def cifar10(
    *,
    root: Path,
    download: bool = False,
    # Those of the reference code of Li et al. (2018), in bytes there; its checkpoints expect them.
    mean: Sequence[float] = (125.3 / 255, 123.0 / 255, 113.9 / 255),
    std: Sequence[float] = (63.0 / 255, 62.1 / 255, 66.7 / 255),
) -> dict[str, ImageDataset]:
    """Read CIFAR-10, 50,000 and 10,000 photographs of 32×32 pixels in 10 classes.

    Source: Krizhevsky (2009), "Learning multiple layers of features from tiny images".

    Args:
        root: Folder that holds cifar-10-batches-py, as the published archive unpacks.
        download: Whether it may be fetched.
        mean: Of the training pixels, which go from 0 to 1; red, green, blue.
        std: Likewise.

    Returns:
        "train" and "test", images (3, 32, 32) float32 and labels from 0 to 9; nothing is augmented.

    Raises:
        LandscapeError: If the files are absent or damaged, or mean or std are not valid.
    """
    return _from_torchvision("CIFAR10", Path("cifar-10-batches-py"), root, download, mean, std)


def cifar100(
    *,
    root: Path,
    download: bool = False,
    mean: Sequence[float] = (129.3 / 255, 124.1 / 255, 112.4 / 255),
    std: Sequence[float] = (68.2 / 255, 65.4 / 255, 70.4 / 255),
) -> dict[str, ImageDataset]:
    """Read CIFAR-100, 50,000 and 10,000 photographs of 32×32 pixels in 100 classes.

    Source: Krizhevsky (2009), "Learning multiple layers of features from tiny images".

    Args:
        root: Folder that holds cifar-100-python, as the published archive unpacks.
        download: Whether it may be fetched.
        mean: Of the training pixels, which go from 0 to 1; red, green, blue.
        std: Likewise.

    Returns:
        "train" and "test", images (3, 32, 32) float32 and labels from 0 to 99; nothing is augmented.

    Raises:
        LandscapeError: If the files are absent or damaged, or mean or std are not valid.
    """
    return _from_torchvision("CIFAR100", Path("cifar-100-python"), root, download, mean, std)


def _from_torchvision(
    kind: str, folder: Path, root: Path, download: bool, mean: Sequence[float], std: Sequence[float]
) -> dict[str, ImageDataset]:
    # Here, as its import takes longer than all of digits.
    import torchvision

    read: Callable[..., Any] = getattr(torchvision.datasets, kind)
    if not download and not (root / folder).is_dir():
        raise LandscapeError(
            f"{kind} is not in data.root {shown(str(root))}, which has no folder {folder}; set "
            "data.download to true to fetch it, or unpack it there"
        )
    splits = {}
    for split in ("train", "test"):
        try:
            content = read(root, train=split == "train", download=download)
        except Exception as error:  # Damaged pickles and failing downloads raise almost anything.
            if download:
                raise LandscapeError(f"{kind} cannot be fetched into {root} ({reason(error)})") from error
            raise LandscapeError(
                f"{kind} in {root / folder} is incomplete or damaged ({reason(error)}); remove the folder "
                "and set data.download to true, or unpack it again"
            ) from error
        pixels, labels = np.asarray(content.data), np.asarray(content.targets, dtype=np.int64)
        # torchvision keeps the channels last, or has none.
        images = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        splits[split] = _images(images, labels, scale=255.0, mean=mean, std=std)
    return splits


def _images(
    images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], *, scale: float, mean: Any, std: Any
) -> ImageDataset:
    for name, values in {"mean": mean, "std": std}.items():
        _check_statistics(name, values, images.shape[1])
    return ImageDataset(
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(labels),
        scale=scale,
        mean=mean,
        std=std,
    )


def _check_statistics(name: str, values: Any, num_channels: int) -> None:
    valid = isinstance(values, (list, tuple)) and len(values) == num_channels
    if not valid or any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
        raise LandscapeError(
            f"{name} is {shown(values)}; expected one number per channel, {num_channels} in a list"
        )
    if name == "std" and not all(0 < value < float("inf") for value in values):
        raise LandscapeError(f"std is {shown(values)}; expected numbers above 0")
