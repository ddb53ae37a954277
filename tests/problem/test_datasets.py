import hashlib
import pickle
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from mpi_landscape.configuration.sections.sources import DataConfiguration, ModelConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.problem.losses import evaluate
from mpi_landscape.problem.networks.table import build_network

datasets = pytest.importorskip("torchvision.datasets", reason="pip install torchvision")

DIGITS = {
    "train": "0e6b9962db9a87dc7cf964c038a64c20d1d4090302aa50c38e9ea66e3f9ebacd",
    "test": "fdb7792f33c6eab18921d663d58a0e87395c6ea06fec633ed74076a4f16af033",
}
CIFAR10 = {**{f"data_batch_{index}": 3 for index in range(1, 6)}, "test_batch": 4}


def build(**fields):
    return build_splits(DataConfiguration(**fields), where="mine.yaml", folders=[])


def write_cifar(folder, files, labels_key, meta, num_classes, monkeypatch, kind):
    """Write the published format, small, and tell torchvision the checksums of these files."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    contents = {}
    for name, num in files.items():
        pixels = generator.integers(0, 256, (num, 3072), dtype=np.uint8)
        labels = generator.integers(0, num_classes, num).tolist()
        contents[name] = {"data": pixels, labels_key: labels}
    contents[meta[0]] = {meta[1]: [f"class {index}" for index in range(num_classes)]}
    sums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(kind, "train_list", [[name, sums[name]] for name in files if "test" not in name])
    monkeypatch.setattr(kind, "test_list", [[name, sums[name]] for name in files if "test" in name])
    monkeypatch.setattr(kind, "meta", {"filename": meta[0], "key": meta[1], "md5": sums[meta[0]]})
    return contents


def write_idx(path, values):
    """Write the format of MNIST: two zeros, the type, the number of axes, their lengths, the bytes."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    path.write_bytes(header + values.tobytes())


def write_mnist(root, name="MNIST"):
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(1)
    contents = {}
    for part, num in (("train", 7), ("t10k", 3)):
        contents[part] = (
            generator.integers(0, 256, (num, 28, 28), dtype=np.uint8),
            np.arange(num, dtype=np.uint8),
        )
        write_idx(raw / f"{part}-images-idx3-ubyte", contents[part][0])
        write_idx(raw / f"{part}-labels-idx1-ubyte", contents[part][1])
    return contents


def write_cifar10(root, monkeypatch):
    folder = root / "cifar-10-batches-py"
    meta = ("batches.meta", "label_names")
    return write_cifar(folder, CIFAR10, "labels", meta, 10, monkeypatch, datasets.CIFAR10)


def test_the_digits_are_split_and_none_is_lost():
    from sklearn.datasets import load_digits

    splits = build(name="digits")
    assert list(splits) == ["train", "test"]
    assert (len(splits["train"]), len(splits["test"])) == (1442, 355)
    original = sorted(image.tobytes() for image in load_digits().images.astype(np.uint8))
    kept = sorted(image.numpy().tobytes() for split in splits.values() for image in split.images)
    assert kept == original


def test_every_digit_has_a_fifth_of_its_examples_in_the_test_split():
    splits = build(name="digits")
    train, test = (np.bincount(splits[name].labels.numpy(), minlength=10) for name in ("train", "test"))
    assert (test == (train + test) // 5).all()


def test_the_digits_are_standardised_with_the_statistics_of_the_training_split():
    split = build(name="digits")["train"]
    images = torch.stack([split[index][0] for index in range(len(split))]).double()
    assert images.shape == (1442, 1, 8, 8)
    # The constants have three digits.
    assert abs(images.mean()) < 2e-3
    assert abs(images.std() - 1) < 2e-3


def test_an_example_is_an_image_and_its_label_and_the_same_every_time():
    splits = build(name="digits")
    image, label = splits["test"][3]
    assert (image.shape, image.dtype, label.dtype, label.shape) == ((1, 8, 8), torch.float32, torch.int64, ())
    again, _ = build(name="digits")["test"][3]
    assert torch.equal(image, again)


def linear_weights(num, size):
    """Weights (size, num) of linear interpolation between the centers of pixels, constant beyond the outermost."""
    weights = np.zeros((size, num))
    for row in range(size):
        place = min(max((row + 0.5) * num / size - 0.5, 0), num - 1)
        left = min(int(place), num - 2)
        weights[row, left : left + 2] = (1 - (place - left), place - left)
    return weights


@pytest.mark.parametrize("size", [16, 32])
def test_larger_digits_are_interpolated_between_the_centers_of_the_pixels(size):
    plain = build(name="digits", arguments={"preprocessing": False})
    larger = build(name="digits", arguments={"preprocessing": False, "size": size})
    weights = linear_weights(8, size)
    for split in ("train", "test"):
        assert torch.equal(larger[split].labels, plain[split].labels)
        for index in (0, 7, len(plain[split]) - 1):
            original, enlarged = plain[split][index][0], larger[split][index][0]
            assert (enlarged.shape, enlarged.dtype) == ((1, size, size), torch.float32)
            # Sixteenths and 64ths of whole numbers: exact.
            by_hand = weights @ original[0].double().numpy() @ weights.T
            np.testing.assert_array_equal(enlarged[0].numpy(), by_hand)
            by_torch = torch.nn.functional.interpolate(original[None], (size, size), mode="bilinear")
            assert torch.equal(enlarged, by_torch[0])


@pytest.mark.parametrize("size", [8, 16, 32])
def test_digits_of_every_size_are_standardised(size):
    split = build(name="digits", arguments={"size": size})["train"]
    images = torch.stack([split[index][0] for index in range(len(split))]).double()
    # The constants have three digits.
    assert abs(images.mean()) < 2e-3
    assert abs(images.std() - 1) < 2e-3


@pytest.mark.parametrize("size", [8, 32])
def test_digits_of_three_channels_have_the_same_in_each(size):
    one = build(name="digits", arguments={"size": size})["test"]
    three = build(name="digits", arguments={"size": size, "channels": 3})["test"]
    for index in (0, 4, 354):
        assert torch.equal(three[index][0], one[index][0].repeat(3, 1, 1))
        assert three[index][0].shape == (3, size, size)


def test_the_digits_without_arguments_are_the_bytes_they_have_always_been():
    # Surfaces that exist are resumed only with these fingerprints: of the values before the arguments were added.
    digests = {}
    for name, split in build(name="digits").items():
        whole = hashlib.sha256()
        for index in range(len(split)):
            image, label = split[index]
            whole.update(image.numpy().tobytes() + label.numpy().tobytes())
        digests[name] = whole.hexdigest()
    assert digests == DIGITS


def test_the_digits_need_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(LandscapeError, match=r"mine.yaml: data: digits needs scikit-learn; pip install"):
        build(name="digits")


def test_cifar10_is_what_torchvision_and_its_transforms_make_of_the_files(tmp_path, monkeypatch):
    from torchvision import transforms

    contents = write_cifar10(tmp_path, monkeypatch)
    splits = build(name="cifar10", root=str(tmp_path))
    # Bytes, as in the reference code of Li et al. (2018).
    mean, std = ([value / 255 for value in row] for row in ([125.3, 123.0, 113.9], [63.0, 62.1, 66.7]))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    for name, is_train in (("train", True), ("test", False)):
        reference = datasets.CIFAR10(tmp_path, train=is_train, transform=transform)
        assert len(splits[name]) == len(reference) == (15 if is_train else 4)
        for index in range(len(reference)):
            image, label = splits[name][index]
            assert torch.equal(image, reference[index][0])
            assert label == reference[index][1]
    # And of the first bytes of the file, without torchvision: the red channel comes first, row by row.
    red = contents["data_batch_1"]["data"][0, 32 * 5 + 7]
    assert splits["train"][0][0][0, 5, 7].item() == pytest.approx((red / 255 - mean[0]) / std[0], rel=1e-6)


def test_cifar100_has_its_fine_labels(tmp_path, monkeypatch):
    contents = write_cifar(
        tmp_path / "cifar-100-python",
        {"train": 6, "test": 5},
        "fine_labels",
        ("meta", "fine_label_names"),
        100,
        monkeypatch,
        datasets.CIFAR100,
    )
    splits = build(name="cifar100", root=str(tmp_path))
    assert splits["train"].labels.tolist() == contents["train"]["fine_labels"]
    assert splits["test"].labels.tolist() == contents["test"]["fine_labels"]
    assert splits["test"][0][0].shape == (3, 32, 32)


def test_mnist_is_read_from_its_files(tmp_path):
    contents = write_mnist(tmp_path)
    splits = build(name="mnist", root=str(tmp_path))
    for name, part in (("train", "train"), ("test", "t10k")):
        pixels, labels = contents[part]
        assert len(splits[name]) == len(labels)
        for index in range(len(labels)):
            image, label = splits[name][index]
            expected = (pixels[index][None] / 255 - 0.1307) / 0.3081
            np.testing.assert_allclose(image.numpy(), expected, rtol=1e-5, atol=1e-6)
            assert label == labels[index]


def test_fashion_mnist_is_read_from_its_files(tmp_path):
    contents = write_mnist(tmp_path, "FashionMNIST")
    splits = build(name="fashion_mnist", root=str(tmp_path))
    for name, part in (("train", "train"), ("test", "t10k")):
        pixels, labels = contents[part]
        assert splits[name].labels.tolist() == labels.tolist()
        for index in range(len(labels)):
            expected = (pixels[index][None] / 255 - 0.2860) / 0.3530
            np.testing.assert_allclose(splits[name][index][0].numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("cifar10", None)]
)
def test_without_preprocessing_pixels_go_from_0_to_1(tmp_path, monkeypatch, name, folder):
    if folder:
        first = write_mnist(tmp_path, folder)["train"][0][0][None]
    else:
        contents = write_cifar10(tmp_path, monkeypatch)
        first = contents["data_batch_1"]["data"][0].reshape(3, 32, 32)
    split = build(name=name, root=str(tmp_path), arguments={"preprocessing": False})["train"]
    np.testing.assert_array_equal(split[0][0].numpy(), first.astype(np.float32) / np.float32(255))


def test_a_limit_keeps_the_first_examples_of_the_files(tmp_path, monkeypatch):
    contents = write_cifar10(tmp_path, monkeypatch)
    whole = build(name="cifar10", root=str(tmp_path))
    # Over the border of the first file, which has three.
    some = build(name="cifar10", root=str(tmp_path), arguments={"limit": {"train": 5}})
    labels = contents["data_batch_1"]["labels"] + contents["data_batch_2"]["labels"][:2]
    assert some["train"].labels.tolist() == labels
    assert (len(some["train"].images), len(some["test"])) == (5, 4)
    for index in range(5):
        assert torch.equal(some["train"][index][0], whole["train"][index][0])


def test_labels_at_random_are_classes_of_the_set_and_of_training_only(tmp_path, monkeypatch):
    files = {"train": 400, "test": 50}
    meta = ("meta", "fine_label_names")
    contents = write_cifar(
        tmp_path / "cifar-100-python", files, "fine_labels", meta, 100, monkeypatch, datasets.CIFAR100
    )
    splits = build(name="cifar100", root=str(tmp_path), arguments={"random_labels": 1.0})
    drawn = splits["train"].labels
    assert splits["test"].labels.tolist() == contents["test"]["fine_labels"]
    assert (int(drawn.min()) >= 0, int(drawn.max()) <= 99, int(drawn.max()) >= 90) == (True, True, True)
    # 4 of 400 agree by chance, with a standard deviation of 2.
    assert (drawn == torch.tensor(contents["train"]["fine_labels"])).sum() < 4 + 5 * 2


def test_other_statistics_may_be_given(tmp_path):
    contents = write_mnist(tmp_path)
    splits = build(name="mnist", root=str(tmp_path), arguments={"mean": [0], "std": [1]})
    np.testing.assert_allclose(splits["test"][2][0].numpy()[0], contents["t10k"][0][2] / 255, rtol=1e-6)


def test_the_splits_are_those_that_are_asked_for_in_that_order():
    assert list(build(name="digits", splits=("test", "train"))) == ["test", "train"]
    assert list(build(name="digits", splits=("test",))) == ["test"]


@pytest.mark.parametrize(
    ("fields", "words", "why"),
    [
        (
            {"name": "cifra10"},
            ["data.name is 'cifra10'", "digits, mnist, cifar10, cifar100", "did you mean"],
            "a typo",
        ),
        ({"name": "cifar10"}, ["data.root is missing", "folder"], "no root"),
        (
            {"name": "cifar10", "root": "ROOT"},
            ["cifar-10-batches-py", "ROOT", "data.download"],
            "nothing there",
        ),
        (
            {"name": "cifar100", "root": "ROOT"},
            ["cifar-100-python", "ROOT", "data.download"],
            "nothing there",
        ),
        ({"name": "mnist", "root": "ROOT/no"}, ["MNIST/raw", "ROOT/no"], "no such folder"),
        ({"name": "mnist", "root": "ROOT", "arguments": {"root": "x"}}, ["data.root"], "in the wrong place"),
        (
            {"name": "digits", "splits": ("train", "tset")},
            ["split 'tset'", "train, test", "'test'"],
            "a typo",
        ),
        ({"name": "fashion_mnist", "root": "ROOT"}, ["FashionMNIST/raw", "data.download"], "nothing there"),
        (
            {"name": "digits", "arguments": {"sizes": 16}},
            ["no argument 'sizes'", "mean, std", "did you mean 'size'"],
            "no such argument",
        ),
        ({"name": "digits", "arguments": {"size": 24}}, ["size is 24", "8, 16, 32"], "no such size"),
        ({"name": "digits", "arguments": {"size": 16.0}}, ["size is 16.0", "8, 16, 32"], "not whole"),
        ({"name": "digits", "arguments": {"channels": 2}}, ["channels is 2", "1, 3"], "no such channels"),
        (
            {"name": "mnist", "root": "ROOT", "arguments": {"limit": {"tset": 3}}},
            ["limit has unknown split 'tset'", "train, test", "did you mean 'test'"],
            "a typo, told before the files are looked for",
        ),
        (
            {"name": "digits", "arguments": {"mean": 0.5}},
            ["mean is 0.5", "one number per channel"],
            "not a list",
        ),
        (
            {"name": "digits", "arguments": {"mean": [1, 2, 3]}},
            ["mean is [1, 2, 3]", "1 in a list"],
            "three channels",
        ),
        ({"name": "digits", "arguments": {"std": [0]}}, ["std is [0]", "above 0"], "a division by zero"),
    ],
)
def test_data_that_cannot_be_had_is_refused(tmp_path, fields, words, why):
    placed = {key: str(tmp_path) + value[4:] if key == "root" else value for key, value in fields.items()}
    with pytest.raises(LandscapeError) as caught:
        build(**placed)
    message = str(caught.value)
    assert message.startswith("mine.yaml: data"), why
    assert "\n" not in message, why
    for word in words:
        assert word.replace("ROOT", str(tmp_path)) in message, why


def test_a_damaged_file_of_cifar10_is_refused(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LandscapeError, match=r"CIFAR10 in .* is incomplete or damaged"):
        build(name="cifar10", root=str(tmp_path))


def test_a_truncated_file_of_mnist_is_refused(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LandscapeError, match=r"MNIST in .* is incomplete or damaged"):
        build(name="mnist", root=str(tmp_path))


def test_a_failed_download_is_told_as_such(tmp_path, monkeypatch):
    def fail(self):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.MNIST, "download", fail)
    with pytest.raises(
        LandscapeError, match=r"mine.yaml: data: MNIST cannot be fetched into .*no route to host"
    ):
        build(name="mnist", root=str(tmp_path), download=True)


SOURCE = """
from torch.utils.data import IterableDataset, TensorDataset
import torch

class Endless:
    def __getitem__(self, index): return index
    def __len__(self): raise TypeError("no length")

class Stream(IterableDataset):
    def __len__(self): return 3
    def __iter__(self): return iter(())

def good(num=4): return {"train": TensorDataset(torch.zeros(num, 2)), "valid_2": [(1, 2), (3, 4)]}
def one(): return TensorDataset(torch.zeros(3))
def none(): return {}
def nothing(): pass
def empty(): return {"train": [1], "test": []}
def stream(): return {"train": Stream()}
def endless(): return {"train": Endless()}
def generator(): return {"train": iter([1, 2])}
def spaced(): return {"my split": [1]}
def number(): return {1: [1]}
"""


@pytest.fixture
def mine(tmp_path):
    name = "d" + "".join(character for character in tmp_path.name if character.isalnum())
    (tmp_path / f"{name}.py").write_text(SOURCE)
    yield lambda function, **fields: build_splits(
        DataConfiguration(target=f"{name}:{function}", **fields), where="mine.yaml", folders=[tmp_path]
    )
    sys.modules.pop(name, None)


def test_a_target_gives_its_own_splits(mine):
    splits = mine("good", arguments={"num": 6}, splits=("valid_2", "train"))
    assert {name: len(split) for name, split in splits.items()} == {"valid_2": 2, "train": 6}
    assert list(splits) == ["valid_2", "train"]


@pytest.mark.parametrize("function", ["one", "generator"])
def test_a_target_may_return_one_data_set_or_what_can_be_read_once(mine, function):
    assert list(mine(function)) == ["train"]


@pytest.mark.parametrize(
    ("function", "fields", "words", "why"),
    [
        ("none", {}, ["is an empty mapping", "several of these by name"], "no splits"),
        ("nothing", {}, ["returned nothing", "DataLoader"], "a forgotten return"),
        ("empty", {}, ["split test is empty"], "an empty split"),
        ("stream", {}, ["split train, a Stream, gave no item"], "a stream that has ended"),
        ("endless", {}, ["split train", "does not know its length"], "no length"),
        ("spaced", {}, ["split named 'my split'", "letters"], "the name of a variable"),
        ("number", {}, ["split named 1"], "no name"),
        ("good", {"splits": ("test",)}, ["unknown split 'test'", "train, valid_2"], "not one of its splits"),
        ("good", {"arguments": {"nmu": 1}}, ["no argument 'nmu'", "did you mean 'num'"], "a typo"),
    ],
)
def test_a_target_that_returns_no_usable_data_is_refused(mine, function, fields, words, why):
    with pytest.raises(LandscapeError) as caught:
        mine(function, **fields)
    message = str(caught.value)
    assert message.startswith("mine.yaml: data"), why
    assert "\n" not in message, why
    for word in words:
        assert word in message, why


def test_an_empty_split_that_is_not_asked_for_does_no_harm(mine):
    assert list(mine("empty", splits=("train",))) == ["train"]


def test_constant_examples_with_a_product_are_the_toys():
    model = build_network(ModelConfiguration(name="product2"), where="here", folders=[])
    split = build(name="constant", arguments={"target": 0.5, "count": 3})["train"]
    with torch.no_grad():
        model.factors.copy_(torch.tensor([2.0, -0.75]))
        batch = default_collate([split[index] for index in range(3)])
        result = evaluate(model, batch, name="mse", arguments={})
    assert result["loss"].tolist() == [4.0] * 3, "(w1 w2 - target)^2"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "one"}, "target is 'one'"),
        ({"target": float("nan")}, "target is"),
        ({"count": 0}, "count is 0"),
    ],
)
def test_constant_examples_refuse_what_is_no_number(arguments, words):
    with pytest.raises(LandscapeError, match=words):
        build(name="constant", arguments=arguments)
