"""The published sets of small images, read by torchvision from their own files and kept in memory as bytes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.images import ImageDataset, image_dataset
from mpi_landscape.problem.messages import reason, shown
from mpi_landscape.problem.variants import Statistics, Variant, first_labels, read_variant

_SPLITS = ("train", "test")
# Of the 60,000 training images each, all pixels alike; four digits, as everybody writes them.
_MNIST: Statistics = ((0.1307,), (0.3081,))
_FASHION_MNIST: Statistics = ((0.2860,), (0.3530,))
# Those of the reference code of Li et al. (2018), in bytes there; its checkpoints expect them.
_CIFAR10: Statistics = ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255))
# Of the 50,000 training images, in bytes as for CIFAR-10.
_CIFAR100: Statistics = ((129.3 / 255, 124.1 / 255, 112.4 / 255), (68.2 / 255, 65.4 / 255, 70.4 / 255))


def mnist(
    *,
    root: Path,
    download: bool = False,
    limit: int | Mapping[str, int] | None = None,
    random_labels: float | Mapping[str, Any] = 0.0,
    preprocessing: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> dict[str, ImageDataset]:
    """Read MNIST, 60,000 and 10,000 handwritten digits of 28×28 pixels.

    Source: LeCun et al. (1998), "Gradient-based learning applied to document recognition".

    Args:
        root: Folder that holds MNIST/raw with the four files, as torchvision lays them out.
        download: Whether they may be fetched.
        limit: Most examples of every split, or a mapping of split names to such, such as {train: 32}: the
            first ones of the files.
        random_labels: Fraction of the training labels drawn at random, or {fraction: 1.0, seed: 0}; see
            :func:`~mpi_landscape.problem.variants.first_labels`.
        preprocessing: False leaves the pixels as they are, from 0 to 1.
        mean: Of the training pixels, which go from 0 to 1; one value, 0.1307 unless given.
        std: Likewise, 0.3081.

    Returns:
        "train" and "test", images (1, 28, 28) float32 and labels from 0 to 9.

    Raises:
        LandscapeError: If the files are absent or damaged, or an argument is not valid.
    """
    variant = _variant(limit, random_labels, preprocessing, mean, std, _MNIST)
    return _from_torchvision("MNIST", Path("MNIST") / "raw", root, download, variant)


def fashion_mnist(
    *,
    root: Path,
    download: bool = False,
    limit: int | Mapping[str, int] | None = None,
    random_labels: float | Mapping[str, Any] = 0.0,
    preprocessing: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> dict[str, ImageDataset]:
    """Read Fashion-MNIST, 60,000 and 10,000 pictures of clothes of 28×28 pixels in 10 classes.

    Source: Xiao, Rasul and Vollgraf (2017), "Fashion-MNIST: a novel image dataset for benchmarking machine
    learning algorithms", arXiv:1708.07747.

    Args:
        root: Folder that holds FashionMNIST/raw with the four files, as torchvision lays them out.
        download: Whether they may be fetched.
        limit: Most examples of every split, or a mapping of split names to such, such as {train: 32}: the
            first ones of the files.
        random_labels: Fraction of the training labels drawn at random, or {fraction: 1.0, seed: 0}; see
            :func:`~mpi_landscape.problem.variants.first_labels`.
        preprocessing: False leaves the pixels as they are, from 0 to 1.
        mean: Of the training pixels, which go from 0 to 1; one value, 0.2860 unless given.
        std: Likewise, 0.3530.

    Returns:
        "train" and "test", images (1, 28, 28) float32 and labels from 0 to 9.

    Raises:
        LandscapeError: If the files are absent or damaged, or an argument is not valid.
    """
    variant = _variant(limit, random_labels, preprocessing, mean, std, _FASHION_MNIST)
    return _from_torchvision("FashionMNIST", Path("FashionMNIST") / "raw", root, download, variant)


def cifar10(
    *,
    root: Path,
    download: bool = False,
    limit: int | Mapping[str, int] | None = None,
    random_labels: float | Mapping[str, Any] = 0.0,
    preprocessing: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> dict[str, ImageDataset]:
    """Read CIFAR-10, 50,000 and 10,000 photographs of 32×32 pixels in 10 classes.

    Source: Krizhevsky (2009), "Learning multiple layers of features from tiny images".

    Args:
        root: Folder that holds cifar-10-batches-py, as the published archive unpacks.
        download: Whether it may be fetched.
        limit: Most examples of every split, or a mapping of split names to such, such as {train: 32}: the
            first ones of the files.
        random_labels: Fraction of the training labels drawn at random, or {fraction: 1.0, seed: 0}; see
            :func:`~mpi_landscape.problem.variants.first_labels`.
        preprocessing: False leaves the pixels as they are, from 0 to 1.
        mean: Of the training pixels, which go from 0 to 1; red, green, blue. Those of the reference code of
            Li et al. (2018) unless given: 125.3, 123.0, 113.9, each over 255.
        std: Likewise: 63.0, 62.1, 66.7, each over 255.

    Returns:
        "train" and "test", images (3, 32, 32) float32 and labels from 0 to 9; nothing is augmented.

    Raises:
        LandscapeError: If the files are absent or damaged, or an argument is not valid.
    """
    variant = _variant(limit, random_labels, preprocessing, mean, std, _CIFAR10)
    return _from_torchvision("CIFAR10", Path("cifar-10-batches-py"), root, download, variant)


def cifar100(
    *,
    root: Path,
    download: bool = False,
    limit: int | Mapping[str, int] | None = None,
    random_labels: float | Mapping[str, Any] = 0.0,
    preprocessing: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> dict[str, ImageDataset]:
    """Read CIFAR-100, 50,000 and 10,000 photographs of 32×32 pixels in 100 classes.

    Source: Krizhevsky (2009), "Learning multiple layers of features from tiny images".

    Args:
        root: Folder that holds cifar-100-python, as the published archive unpacks.
        download: Whether it may be fetched.
        limit: Most examples of every split, or a mapping of split names to such, such as {train: 32}: the
            first ones of the files.
        random_labels: Fraction of the training labels drawn at random, or {fraction: 1.0, seed: 0}; see
            :func:`~mpi_landscape.problem.variants.first_labels`.
        preprocessing: False leaves the pixels as they are, from 0 to 1.
        mean: Of the training pixels, which go from 0 to 1; red, green, blue. Unless given 129.3, 124.1, 112.4,
            each over 255.
        std: Likewise: 68.2, 65.4, 70.4, each over 255.

    Returns:
        "train" and "test", images (3, 32, 32) float32 and labels from 0 to 99; nothing is augmented.

    Raises:
        LandscapeError: If the files are absent or damaged, or an argument is not valid.
    """
    variant = _variant(limit, random_labels, preprocessing, mean, std, _CIFAR100)
    return _from_torchvision("CIFAR100", Path("cifar-100-python"), root, download, variant)


def _variant(
    limit: Any, random_labels: Any, preprocessing: Any, mean: Any, std: Any, usual: Statistics
) -> Variant:
    return read_variant(
        splits=_SPLITS,
        limit=limit,
        random_labels=random_labels,
        preprocessing=preprocessing,
        mean=mean,
        std=std,
        usual=usual,
    )


def _from_torchvision(
    kind: str, folder: Path, root: Path, download: bool, variant: Variant
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
    for split in _SPLITS:
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
        kept = first_labels(variant, split, labels, num_classes=len(content.classes))
        # torchvision keeps the channels last, or has none.
        images = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        images = np.ascontiguousarray(images[: len(kept)])
        splits[split] = image_dataset(torch.from_numpy(images), kept, scale=255.0, variant=variant)
    return splits
