"""Image folders and ImageNet, from files that the test writes and torchvision reads."""

import hashlib
import io
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from mpi_landscape.configuration.sections.sources import DataConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.resident import make_resident
from mpi_landscape.problem.datasets.table import build_splits

imagenet_module = pytest.importorskip("torchvision.datasets.imagenet", reason="pip install torchvision")

WNIDS = [f"n{index:08d}" for index in range(1000)]
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def build(name, root, *, download=False, splits=None, **arguments):
    configuration = DataConfiguration(
        name=name, root=str(root), download=download, splits=splits, arguments=arguments
    )
    return build_splits(configuration, where="mine.yaml", folders=[])


def picture(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels, kind="JPEG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def write(path, pixels, kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(pixels, kind))


@pytest.fixture
def animals(tmp_path):
    """Two splits of images of 6 by 6: five in training, of which three dogs and two cats; PNG keeps every pixel."""
    pixels = {}
    for number, name in enumerate(
        [
            "train/dog/a",
            "train/dog/b",
            "train/dog/c",
            "train/cat/x",
            "train/cat/y",
            "test/cat/p",
            "test/dog/q",
        ]
    ):
        pixels[name] = picture(number, 6, 6)
        write(tmp_path / f"{name}.png", pixels[name])
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "readme.txt").write_text("not a split")
    (tmp_path / ".cache" / "thing").mkdir(parents=True)
    (tmp_path / "drawings").mkdir()
    return tmp_path, pixels


@pytest.fixture(scope="module")
def imagenet_root(tmp_path_factory):
    """Class folders as the published archives unpack, one image each: large JPEG files in the first three."""
    root = tmp_path_factory.mktemp("imagenet")
    tiny = encoded(picture(0, 4, 5))
    for split in ("train", "val"):
        for wnid in WNIDS:
            (root / split / wnid).mkdir(parents=True)
            (root / split / wnid / f"{wnid}_1.JPEG").write_bytes(tiny)
    shapes = {"train": [(300, 400), (500, 260), (224, 224)], "val": [(256, 257), (333, 333), (700, 300)]}
    for split, sizes in shapes.items():
        for wnid, (height, width) in zip(WNIDS[:3], sizes, strict=True):
            (root / split / wnid / f"{wnid}_1.JPEG").write_bytes(encoded(picture(height, height, width)))
    (root / "val" / WNIDS[1] / f"{WNIDS[1]}_2.JPEG").write_bytes(tiny)
    return root


def test_the_images_of_a_folder_are_their_pixels_and_their_class(animals):
    root, pixels = animals
    splits = build("image_folder", root)
    assert list(splits) == ["train", "test"]
    # Round the classes, in the order of their names: a limit of two sees both.
    orders = {
        "train": ["train/cat/x", "train/dog/a", "train/cat/y", "train/dog/b", "train/dog/c"],
        "test": ["test/cat/p", "test/dog/q"],
    }
    for split, order in orders.items():
        assert len(splits[split]) == len(order)
        for index, name in enumerate(order):
            image, label = splits[split][index]
            expected = pixels[name].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
            np.testing.assert_array_equal(image.numpy(), expected)
            assert label == ["cat", "dog"].index(name.split("/")[1])
            assert (image.dtype, label.dtype, label.shape) == (torch.float32, torch.int64, ())


def test_the_images_of_a_folder_are_normalised_by_the_statistics_that_are_given(animals):
    root, pixels = animals
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    image, _ = build("image_folder", root, mean=mean, std=std)["test"][1]
    by_hand = (pixels["test/dog/q"] / 255 - mean) / std
    np.testing.assert_allclose(image.numpy(), by_hand.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "ending", "mode"),
    [("PNG", "png", "RGB"), ("JPEG", "jpg", "RGB"), ("PNG", "png", "L"), ("PNG", "png", "RGBA")],
)
def test_images_are_scaled_by_their_shorter_side_and_cut_in_the_center(tmp_path, kind, ending, mode):
    path = tmp_path / "only" / "a" / f"1.{ending}"
    path.parent.mkdir(parents=True)
    Image.fromarray(picture(3, 30, 50)).convert(mode).save(path, kind)
    image, label = build("image_folder", tmp_path, size=16, resize=20)["only"][0]
    # With Pillow alone: 30 by 50 becomes 20 by 33; of 33, from column 8 (or 9: (33 - 16) / 2 = 8.5, to even).
    with Image.open(path) as opened:
        scaled = opened.convert("RGB").resize((33, 20), Image.Resampling.BILINEAR)
    by_hand = np.asarray(scaled)[2:18, 8:24].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(image.numpy(), by_hand, rtol=1e-6)
    assert (image.shape, int(label)) == ((3, 16, 16), 0)


def test_size_alone_is_that_of_the_shorter_side_too(animals):
    root, _ = animals
    alone = build("image_folder", root, size=4)["train"]
    both = build("image_folder", root, size=4, resize=4)["train"]
    assert alone[0][0].shape == (3, 4, 4)
    assert all(torch.equal(alone[index][0], both[index][0]) for index in range(5))


def test_a_limit_of_a_folder_has_as_many_classes_as_can_be(animals):
    root, _ = animals
    splits = build("image_folder", root, limit={"train": 2})
    assert splits["train"].labels.tolist() == [0, 1]
    assert len(splits["test"]) == 2
    whole = build("image_folder", root)
    assert splits["train"].paths == whole["train"].paths[:2]


def test_labels_of_a_folder_can_be_drawn_at_random(tmp_path):
    tiny = encoded(picture(0, 2, 2), "PNG")
    for split, num in (("train", 300), ("test", 9)):
        for name in ("a", "b", "c"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(num // 3):
                (tmp_path / split / name / f"{number}.png").write_bytes(tiny)
    clean = build("image_folder", tmp_path)
    drawn = build("image_folder", tmp_path, random_labels={"fraction": 0.5, "seed": 3})
    changed = (clean["train"].labels != drawn["train"].labels).sum().item()
    # A third each: half of two thirds of 300 are 100, four standard deviations of 8.2.
    assert abs(changed - 100) < 33
    assert torch.equal(clean["test"].labels, drawn["test"].labels)
    assert clean["train"].paths == drawn["train"].paths


def test_an_image_is_decoded_only_when_it_is_asked_for(animals):
    root, _ = animals
    (root / "train" / "dog" / "b.png").write_bytes(b"not a picture")
    split = build("image_folder", root)["train"]
    assert split[0][0].shape == (3, 6, 6)
    with pytest.raises(LandscapeError, match=r"train/dog/b.png cannot be decoded \(Unidentified.*replace"):
        split[3]


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_truncated_image_is_refused(tmp_path, kind):
    path = tmp_path / "train" / "a" / f"1.{kind}"
    write(path, picture(0, 64, 64), "PNG" if kind == "png" else "JPEG")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LandscapeError, match=rf"{path} cannot be decoded"):
        build("image_folder", tmp_path)["train"][0]


def test_a_folder_reads_the_same_twice_and_into_batches(animals):
    root, _ = animals
    digests = {
        make_resident(
            "train",
            build("image_folder", root)["train"],
            batch_size=batch_size,
            device=torch.device("cpu"),
            dtype=torch.float32,
        ).digest
        for batch_size in (2, 5)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("split", ["train", "val"])
def test_imagenet_is_what_torchvision_evaluates_its_networks_on(imagenet_root, split):
    from torchvision.models import MobileNet_V2_Weights

    transform = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    images = build("imagenet", imagenet_root)[split]
    for index in range(4):
        image, label = images[index]
        with Image.open(imagenet_root / split / WNIDS[index] / f"{WNIDS[index]}_1.JPEG") as opened:
            expected = transform(opened.convert("RGB"))
        assert image.shape == (3, 224, 224)
        # The same operations; a division by 255 may be a multiplication there.
        torch.testing.assert_close(image, expected, rtol=1e-6, atol=1e-6)
        assert label == index


def test_imagenet_is_scaled_to_256_cut_to_224_and_normalised(imagenet_root):
    images = build("imagenet", imagenet_root)["train"]
    plain = build("imagenet", imagenet_root, preprocessing=False)["train"]
    # With Pillow alone: 300 by 400 becomes 256 by 341; of 341, from column 58 ((341 - 224) / 2 = 58.5, to even).
    with Image.open(imagenet_root / "train" / WNIDS[0] / f"{WNIDS[0]}_1.JPEG") as opened:
        scaled = opened.resize((341, 256), Image.Resampling.BILINEAR)
    cut = np.asarray(scaled)[16:240, 58:282] / 255
    np.testing.assert_allclose(plain[0][0].numpy(), cut.transpose(2, 0, 1), rtol=1e-6)
    by_hand = ((cut - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_allclose(images[0][0].numpy(), by_hand, rtol=1e-5, atol=1e-5)


def test_imagenet_may_be_cut_otherwise(imagenet_root):
    image, _ = build("imagenet", imagenet_root, resize=40, size=32)["val"][2]
    assert image.shape == (3, 32, 32)


def test_imagenet_has_all_examples_and_a_limit_spans_classes(imagenet_root):
    whole = build("imagenet", imagenet_root)
    assert (len(whole["train"]), len(whole["val"])) == (1000, 1001)
    # The second image of class 1 comes after the first of all.
    assert whole["val"].labels.tolist() == [*range(1000), 1]
    batch = build("imagenet", imagenet_root, limit={"val": 8}, splits=("val",))
    assert list(batch) == ["val"]
    assert batch["val"].labels.tolist() == list(range(8))


def test_imagenet_may_be_its_validation_split_only(imagenet_root, tmp_path):
    (tmp_path / "val").symlink_to(imagenet_root / "val")
    assert list(build("imagenet", tmp_path)) == ["val"]
    with pytest.raises(LandscapeError, match=r"random_labels is 0.5, which is for split train; .* among val"):
        build("imagenet", tmp_path, random_labels=0.5)


def test_imagenet_with_torchvisions_meta_file_refuses_folders_of_other_classes(imagenet_root, tmp_path):
    names = {wnid: (f"class {wnid}",) for wnid in WNIDS}
    (tmp_path / "val").symlink_to(imagenet_root / "val")
    torch.save((names, WNIDS), tmp_path / "meta.bin")
    assert len(build("imagenet", tmp_path)["val"]) == 1001
    del names[WNIDS[7]]
    torch.save((names, WNIDS), tmp_path / "meta.bin")
    with pytest.raises(
        LandscapeError, match=r"val cannot be read as a folder of class .*KeyError.*n00000007"
    ):
        build("imagenet", tmp_path)


def add(archive, name, content):
    information = tarfile.TarInfo(name)
    information.size = len(content)
    archive.addfile(information, io.BytesIO(content))


def write_archives(root, monkeypatch):
    """Write the three published archives, small: devkit with its meta.mat, tar of tars, flat validation images."""
    savemat = pytest.importorskip("scipy.io", reason="pip install scipy").savemat
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children"]
    synsets = np.zeros(1001, dtype=[(field, object) for field in fields])
    for index in range(1000):
        # Numbered backwards: the devkit's numbers are not the labels.
        synsets[index] = (index + 1, WNIDS[999 - index], f"name {index}, other name", "gloss", 0)
    synsets[1000] = (1001, "n99999999", "a class of classes", "gloss", 2)
    matrix = io.BytesIO()
    savemat(matrix, {"synsets": synsets})
    truth = "".join(f"{number}\n" for number in range(1, 1001))
    tiny = {index: encoded(np.full((8, 8, 3), index % 256, dtype=np.uint8), "PNG") for index in range(1000)}
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        add(archive, "ILSVRC2012_devkit_t12/data/meta.mat", matrix.getvalue())
        add(archive, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", truth.encode())
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as archive:
        for index in range(1000):
            add(archive, f"ILSVRC2012_val_{index + 1:08d}.JPEG", tiny[index])
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as archive:
        for index, wnid in enumerate(WNIDS):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as images:
                add(images, f"{wnid}_10.JPEG", tiny[index])
            add(archive, f"{wnid}.tar", inner.getvalue())
    sums = {
        part: (name, hashlib.md5((root / name).read_bytes()).hexdigest())
        for part, (name, _) in imagenet_module.ARCHIVE_META.items()
    }
    monkeypatch.setattr(imagenet_module, "ARCHIVE_META", sums)


def test_the_published_archives_of_imagenet_are_unpacked_when_that_is_asked_for(tmp_path, monkeypatch):
    write_archives(tmp_path, monkeypatch)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(
        LandscapeError, match=r"imagenet is not in data.root .*data.download to true to unpack"
    ):
        build("imagenet", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    splits = build("imagenet", tmp_path, download=True, preprocessing=False)
    assert {name: len(split) for name, split in splits.items()} == {"train": 1000, "val": 1000}
    # Validation image k is of the class that the devkit numbers k: the one numbered backwards.
    for label in (0, 7, 250):
        assert splits["train"][label][0].unique().item() == pytest.approx(label / 255, rel=1e-6)
        assert splits["val"][label][0].unique().item() == pytest.approx((999 - label) % 256 / 255, rel=1e-6)
    assert splits["val"].labels.tolist() == list(range(1000))


def test_archives_of_imagenet_that_cannot_be_unpacked_are_refused(tmp_path):
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(b"half a download")
    with pytest.raises(
        LandscapeError, match=r"ILSVRC2012_img_val.tar cannot be unpacked .*ILSVRC2012_devkit_t12.tar.gz"
    ):
        build("imagenet", tmp_path, download=True)


def test_reading_files_does_not_need_scipy(imagenet_root, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    assert len(build("imagenet", imagenet_root)["train"]) == 1000


@pytest.mark.parametrize(
    ("name", "fields", "words", "why"),
    [
        (
            "image_folder",
            {"root": "absent"},
            ["no split folders", "absent", "train/name_of_class"],
            "nothing",
        ),
        (
            "image_folder",
            {"root": "train"},
            ["no split folders", "train/name_of_class"],
            "one level too deep",
        ),
        (
            "image_folder",
            {"download": True},
            ["image_folder cannot be fetched", "data.download"],
            "no source",
        ),
        ("image_folder", {"size": 0}, ["size is 0", "at least 1"], "no pixels"),
        ("image_folder", {"size": 8, "resize": 7}, ["resize is 7", "at least 8"], "cut out of less"),
        ("image_folder", {"resize": 8}, ["resize is 8", "size is not given"], "still of many sizes"),
        ("image_folder", {"mean": [0.5]}, ["mean is [0.5]", "3 in a list"], "always three channels"),
        ("image_folder", {"limit": {"val": 3}}, ["unknown split 'val'", "train, test"], "another split"),
        ("image_folder", {"splits": ("val",)}, ["unknown split 'val'", "train, test"], "another split"),
        (
            "imagenet",
            {"root": "absent"},
            ["imagenet is not in data.root", "image-net.org", "devkit"],
            "nothing",
        ),
        ("imagenet", {}, ["2 class folders", "expected 1000", "image_folder"], "a part of it"),
        ("imagenet", {"size": 300}, ["resize is 256", "at least 300"], "cut out of less"),
    ],
)
def test_images_that_cannot_be_had_are_refused(animals, name, fields, words, why):
    root, _ = animals
    with pytest.raises(LandscapeError) as caught:
        build(name, **{**fields, "root": root / fields.get("root", ".")})
    message = str(caught.value)
    assert message.startswith("mine.yaml: data"), why
    assert "\n" not in message, why
    for word in words:
        assert word in message, why


def test_splits_of_different_classes_are_refused(animals):
    root, _ = animals
    write(root / "test" / "bird" / "1.png", picture(0, 6, 6))
    with pytest.raises(
        LandscapeError, match=r"other classes in test than in train: only one of them has bird"
    ):
        build("image_folder", root)


def test_a_class_without_images_is_refused(animals):
    root, _ = animals
    (root / "train" / "bird").mkdir()
    with pytest.raises(LandscapeError, match=r"train cannot be read as a folder of class folders.*bird"):
        build("image_folder", root)
