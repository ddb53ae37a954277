"""ImageNet, and any set of images that is laid out like it."""

from pathlib import Path
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.image_files import ImageFiles, class_folders, image_files
from mpi_landscape.problem.datasets.variants import Statistics, read_variant, varied
from mpi_landscape.problem.sizes import checked_count
from mpi_landscape.wording import listed, reason, shown

# Those that torchvision's networks were trained with, of a sample of the training images that is not known any more
# (pytorch/vision#1439).
_IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_UNCHANGED: Statistics = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_NUM_CLASSES = 1000
_ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
_DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"


@varied
def imagenet(
    *, root: Path, download: bool = False, resize: int = 256, size: int = 224, **variant: Any
) -> dict[str, ImageFiles]:
    """Read ImageNet, 1,281,167 and 50,000 photographs in 1,000 classes, as networks are evaluated on it.

    Source: Russakovsky et al. (2015), "ImageNet large scale visual recognition challenge", arXiv:1409.0575; the
    classification task of 2012.
    The shorter side is scaled to `resize`, the center cut out. Images are decoded one by one when asked for.

    Args:
        root: Folder that holds train, val, or both, each with 1,000 class folders (n01440764, ...), with or
            without the meta.bin of torchvision.
        download: Whether the published archives, if they lie in root, may be unpacked there; no program can
            fetch them.
        resize: Length of the shorter side, in pixels; 232 for the newer weights of torchvision.
        size: Height and width of the cut, in pixels.
        **variant: Of `read_variant`. The first ones are of as many classes as can be: the order goes round the classes, the
            first image of each, then the second. Mean and std are those that torchvision's networks were trained with.

    Returns:
        "train" and "val", or the one that is there; images (3, size, size) float32, labels from 0 to 999 in the
        order of the class folders' names, as torchvision's networks have them.

    Raises:
        LandscapeError: Neither split is there, one is incomplete, or an argument is not valid.
    """
    _check_sizes(resize, size)
    if download:
        _unpack(root)
    splits = [split for split in _ARCHIVES if (root / split).is_dir()]
    if not splits:
        raise LandscapeError(
            f"imagenet is not in data.root {shown(str(root))}, which has no folder train or val of class folders; "
            f"request the archives at https://image-net.org/download, put {_DEVKIT} and {listed(_ARCHIVES.values())} "
            "there, and set data.download to true to unpack them"
        )
    chosen = read_variant(splits, _IMAGENET, **variant)
    contents = {split: class_folders(root, split, official=(root / "meta.bin").is_file()) for split in splits}
    for split, content in contents.items():
        if len(content.classes) != _NUM_CLASSES:
            # Labels number the folders: with one missing, a trained network would be asked for other classes.
            raise LandscapeError(
                f"imagenet in {root / split} has {len(content.classes)} class folders; expected {_NUM_CLASSES}; a part "
                "of it, with labels of its own, is read by data.name image_folder"
            )
    return image_files(contents, chosen, resize=resize, size=size)


@varied
def image_folder(
    *, root: Path, download: bool = False, size: int | None = None, resize: int | None = None, **variant: Any
) -> dict[str, ImageFiles]:
    """Read images of your own, laid out as root/split/class/file: any number of splits, the same classes in each.

    Read as by torchvision's ImageFolder: JPEG, PNG, TIFF, WebP and others, always as three channels. Images are
    decoded one by one when asked for.

    Args:
        root: Folder that holds the split folders, such as train and test.
        download: Not possible here.
        size: Height and width that are cut from the center, in pixels; None if the images have one size already.
        resize: Length that the shorter side is given first, in pixels; None stands for `size`.
        **variant: Of `read_variant`, the order as of `imagenet`. Mean and std are 0 and 1.

    Returns:
        Data sets by folder name, train first; images (3, size, size) float32, labels in the order of the class
        folders' names.

    Raises:
        LandscapeError: There are no split folders, a class is empty, the splits have different classes, or an
            argument is not valid.
    """
    if download:
        raise LandscapeError("image_folder cannot be fetched; leave out data.download")
    if size is not None:
        resize = size if resize is None else resize
        _check_sizes(resize, size)
    elif resize is not None:
        raise LandscapeError(f"resize is {shown(resize)}, but size is not given; images need one size")
    splits = _split_folders(root)
    chosen = read_variant(splits, _UNCHANGED, **variant)
    contents = {split: class_folders(root, split) for split in splits}
    for split in splits[1:]:
        classes, other = set(contents[splits[0]].classes), set(contents[split].classes)
        if classes != other:
            raise LandscapeError(
                f"image_folder in {root} has other classes in {split} than in {splits[0]}: only one of them has "
                f"{listed(sorted(classes ^ other)[:5])}; labels number the class folders, so all splits need the same"
            )
    return image_files(contents, chosen, resize=resize, size=size)


def _check_sizes(resize: Any, size: Any) -> None:
    checked_count(size, "size")
    checked_count(resize, "resize")
    if resize < size:
        raise LandscapeError(f"resize is {resize}; expected at least {size}, the size that is cut out then")


def _unpack(root: Path) -> None:
    """Let torchvision unpack those archives of ImageNet that are not unpacked yet."""
    from torchvision.datasets import ImageNet

    for split, archive in _ARCHIVES.items():
        if (root / split).is_dir() or not (root / archive).is_file():
            continue
        try:
            ImageNet(root, split)
        except Exception as error:  # Damaged archives, a full disk, scipy that is not installed.
            raise LandscapeError(
                f"imagenet: {root / archive} cannot be unpacked ({reason(error)}); it needs {_DEVKIT} beside it, scipy "
                f"(pip install scipy), and no folder {split} left over from an earlier attempt"
            ) from error


def _split_folders(root: Path) -> list[str]:
    """Folders of folders, train first."""
    folders = sorted(each for each in root.iterdir() if each.is_dir()) if root.is_dir() else []
    names = [
        folder.name
        for folder in folders
        if not folder.name.startswith(".") and any(each.is_dir() for each in folder.iterdir())
    ]
    if not names:
        raise LandscapeError(
            f"image_folder found no split folders in data.root {shown(str(root))}; expected images as "
            f"{root}/train/name_of_class/any_name.png"
        )
    return sorted(names, key=lambda name: name != "train")
