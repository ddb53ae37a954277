import math

import numpy as np
import pytest
import torch

from mpi_landscape.configuration.sections.sources import DataConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.problem.datasets.variants import first_labels, read_variant

NUM = 20_000


def build(**arguments):
    configuration = DataConfiguration(name="digits", arguments=arguments)
    return build_splits(configuration, where="mine.yaml", folders=[])


def variant(**arguments):
    given = {
        "limit": None,
        "random_labels": 0.0,
        "preprocessing": True,
        "mean": None,
        "std": None,
        **arguments,
    }
    return read_variant(splits=("train", "test"), usual=((0.5,), (0.25,)), **given)


def noisy(fraction, *, seed=0, num=NUM, num_classes=10, split="train"):
    """Labels of 1 everywhere, with noise."""
    chosen = variant(random_labels={"fraction": fraction, "seed": seed})
    return first_labels(chosen, split, np.full(num, 1), num_classes=num_classes)


@pytest.mark.parametrize("num_classes", [2, 7, 1000])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_the_fraction_of_labels_is_drawn_and_one_class_in_all_is_the_true_one_again(fraction, num_classes):
    changed = (noisy(fraction, num_classes=num_classes) != 1).sum()
    expected = fraction * (1 - 1 / num_classes)
    # Independent examples: four standard deviations of a binomial count.
    assert abs(changed - NUM * expected) <= 4 * math.sqrt(NUM * expected * (1 - expected)) + 1e-9


def test_labels_at_random_are_all_classes_alike():
    counts = np.bincount(noisy(1.0, num_classes=7), minlength=7)
    assert len(counts) == 7
    # Chi-squared of six degrees of freedom is above 22.5 once in a thousand.
    assert ((counts - NUM / 7) ** 2 / (NUM / 7)).sum() < 22.5


def test_no_fraction_changes_no_label():
    assert (noisy(0.0) == 1).all()


def test_labels_of_another_split_are_the_true_ones():
    assert (noisy(1.0, split="test") == 1).all()


def test_the_same_seed_gives_the_same_labels_and_another_seed_others():
    assert np.array_equal(noisy(0.5, seed=4), noisy(0.5, seed=4))
    assert not np.array_equal(noisy(0.5, seed=4), noisy(0.5, seed=5))


def test_a_label_at_random_does_not_depend_on_how_many_examples_there_are():
    assert np.array_equal(noisy(0.5)[:100], noisy(0.5, num=100))


def test_a_higher_fraction_adds_to_the_examples_of_a_lower_one():
    few, many = noisy(0.2), noisy(0.7)
    assert np.array_equal(few[few != 1], many[few != 1])


def test_labels_at_random_are_the_same_on_every_machine_and_version():
    # Drawn by hand from the bits that NumPy promises never to change (NEP 19): 64 of them, the upper 53 used.
    bits = [int(each) for each in np.random.PCG64(11).random_raw(16)]
    pairs = [(bits[index] / 2**64, bits[index + 1] / 2**64) for index in range(0, 16, 2)]
    expected = [int(label * 10) if choice < 0.5 else 1 for choice, label in pairs]
    assert noisy(0.5, seed=11, num=8).tolist() == expected
    assert expected != [1] * 8


def test_the_images_stay_when_labels_are_drawn():
    clean, drawn = build(), build(random_labels={"fraction": 0.4, "seed": 2})
    assert torch.equal(clean["train"].images, drawn["train"].images)
    assert torch.equal(clean["test"].labels, drawn["test"].labels)
    changed = (clean["train"].labels != drawn["train"].labels).double().mean().item()
    # 0.4 times 9 in 10, four standard deviations of 1,442 examples.
    assert changed == pytest.approx(0.36, abs=4 * math.sqrt(0.36 * 0.64 / 1442))


@pytest.mark.parametrize(
    ("limit", "sizes", "why"),
    [
        (32, (32, 32), "of every split"),
        ({"train": 32}, (32, 355), "of one split, the other whole"),
        ({"train": 8, "test": 3}, (8, 3), "of each its own"),
        (1000, (1000, 355), "no split has more than it has"),
        ({}, (1442, 355), "of none"),
        (None, (1442, 355), "no limit"),
    ],
)
def test_a_limit_keeps_the_first_examples(limit, sizes, why):
    whole, some = build(), build(limit=limit)
    assert (len(some["train"]), len(some["test"])) == sizes, why
    assert (len(some["train"].images), len(some["test"].images)) == sizes, why
    for split in ("train", "test"):
        for index in (0, len(some[split]) // 2, len(some[split]) - 1):
            image, label = some[split][index]
            assert torch.equal(image, whole[split][index][0]), why
            assert torch.equal(label, whole[split][index][1]), why


def test_a_limited_set_with_noise_is_the_beginning_of_the_whole_one_with_noise():
    noise = {"fraction": 0.5, "seed": 1}
    whole, some = build(random_labels=noise), build(random_labels=noise, limit=40)
    assert torch.equal(some["train"].labels, whole["train"].labels[:40])


def test_without_preprocessing_pixels_go_from_0_to_1():
    from sklearn.datasets import load_digits

    splits = build(preprocessing=False)
    np.testing.assert_array_equal(splits["train"][0][0][0].numpy(), load_digits().images[0] / 16)
    images = torch.stack([image for split in splits.values() for image, _ in map(split.__getitem__, (1, 2))])
    assert (images.min().item(), images.max().item()) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "words", "why"),
    [
        ({"limit": 0}, ["limit is 0", "at least 1", "{train: 32}"], "nothing left"),
        ({"limit": True}, ["limit is true"], "not a number"),
        ({"limit": 2.5}, ["limit is 2.5"], "not whole"),
        ({"limit": [8]}, ["limit is [8]"], "a list"),
        ({"limit": {"test": -1}}, ["limit.test is -1", "at least 1"], "of one split"),
        (
            {"limit": {"tain": 8}},
            ["unknown split 'tain'", "train, test", "did you mean 'train'"],
            "a typo",
        ),
        ({"random_labels": 1.5}, ["random_labels is 1.5", "from 0 to 1"], "above 1"),
        ({"random_labels": -0.1}, ["random_labels is -0.1"], "below 0"),
        ({"random_labels": float("nan")}, ["random_labels is nan"], "no number"),
        ({"random_labels": True}, ["random_labels is true"], "no number"),
        ({"random_labels": "half"}, ["random_labels is 'half'"], "text"),
        ({"random_labels": {"seed": 1}}, ["random_labels", "needs a fraction"], "no fraction"),
        (
            {"random_labels": {"fractoin": 1}},
            ["unknown field 'fractoin'", "fraction, seed", "did you mean 'fraction'"],
            "a typo",
        ),
        ({"random_labels": {"fraction": 1, "seed": -1}}, ["random_labels.seed is -1"], "a negative seed"),
        ({"random_labels": {"fraction": 1, "seed": 0.5}}, ["random_labels.seed is 0.5"], "not whole"),
        ({"preprocessing": 0}, ["preprocessing is 0", "true or false"], "a number"),
        (
            {"preprocessing": False, "std": [0.3]},
            ["std is [0.3]", "no effect", "leave out"],
            "two that do not go together",
        ),
        ({"mean": [float("inf")]}, ["mean is [inf]", "finite"], "not finite"),
    ],
)
def test_an_argument_that_is_not_valid_is_refused(arguments, words, why):
    with pytest.raises(LandscapeError) as caught:
        build(**arguments)
    message = str(caught.value)
    assert message.startswith("mine.yaml: data: "), why
    assert "\n" not in message, why
    for word in words:
        assert word in message, why
