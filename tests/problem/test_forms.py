"""Data in every usual form: what is taken of it, and what is not."""

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.collated import Collated
from mpi_landscape.problem.datasets.forms import splits_of

X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)
DATA = TensorDataset(X, Y)


def given(data, **how):
    return splits_of(data, where="here: data", **how)


def rows(dataset):
    return [tuple(torch.as_tensor(part).tolist() for part in dataset[index]) for index in range(len(dataset))]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (DATA, "a data set"),
        ((X, Y), "tensors"),
        ((X.numpy(), Y.numpy()), "arrays"),
        ((X.numpy()[::-1].copy()[::-1], Y), "an array that goes backwards"),
        ((X.numpy().astype(">f4"), Y), "another order of bytes"),
        ((X.clone().requires_grad_(True), Y), "a tensor that asks for gradients"),
        (list(zip(X, Y, strict=True)), "a list of pairs"),
        (DataLoader(DATA, batch_size=3), "a loader"),
        (DataLoader(DATA, batch_size=3, shuffle=True, drop_last=True), "one for training"),
        (DataLoader(list(zip(X, Y, strict=True)), batch_sampler=BatchSampler(SequentialSampler(Y), 4, False)), "batches"),
        (iter(list(zip(X, Y, strict=True))), "an iterator"),
        ((pair for pair in zip(X, Y, strict=True)), "a generator"),
    ],
)  # fmt: skip
def test_a_form_of_one_data_set_gives_its_examples_in_order(data, why):
    splits = given(data).splits
    assert list(splits) == ["train"], why
    assert rows(splits["train"]) == rows(DATA), why


def test_longer_tuples_and_dicts_are_items_of_the_same_kind():
    assert given((X, Y, X, Y)).splits["train"][3][2].tolist() == X[3].tolist()
    split = given({"input_ids": X, "labels": Y}).splits["train"]
    assert {name: value.tolist() for name, value in split[4].items()} == {
        "input_ids": [8.0, 9.0],
        "labels": 4,
    }
    assert len(split) == 10
    with pytest.raises(IndexError):
        split[10]


def test_a_dict_of_tensors_is_one_split_but_under_the_names_of_splits():
    assert list(given({"train": X, "test": X}).splits) == ["train", "test"]
    assert list(given({"splits": {"left": X, "right": X}}).splits) == ["left", "right"]
    assert list(given({"left": X, "right": X}).splits) == ["train"]
    several = given({"train": (X, Y), "valid": DataLoader(DATA), "other": {"x": X, "y": Y}})
    assert list(several.splits) == ["train", "valid", "other"]


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def test_what_can_only_be_gone_through_is_read_once_and_said():
    found = given(DataLoader(Stream([(x, 1) for x in X]), batch_size=4))
    assert len(found.splits["train"]) == 10
    assert found.batch_size == 4
    assert any("a Stream, read once and kept: 10 items" in note for note in found.notes)


def test_of_a_loader_data_set_collate_fn_and_batch_size_are_taken_and_said():
    def collate(items):
        return torch.stack([x for x, _ in items]), torch.stack([y for _, y in items])

    found = given({"train": DataLoader(DATA, batch_size=3, shuffle=True, drop_last=True, collate_fn=collate)})
    split = found.splits["train"]
    assert isinstance(split, Collated)
    assert split.collate_fn is collate
    assert found.batch_size == 3
    assert found.notes == [
        "train: of the DataLoader its data set, collate_fn and batch size 3 are taken, not its order and drop_last"
    ]


class Reversed(Sampler):
    def __iter__(self):
        return iter(range(9, -1, -1))

    def __len__(self):
        return 10


@pytest.mark.parametrize(
    ("sampler", "wanted"),
    [
        (SubsetRandomSampler([7, 2, 5]), [2, 5, 7]),
        (Reversed(), list(range(10))),
        (RandomSampler(DATA), list(range(10))),
        ([3, 1], [1, 3]),
    ],
)
def test_the_examples_that_a_sampler_names_are_those_of_the_split(sampler, wanted):
    split = given(DataLoader(DATA, sampler=sampler)).splits["train"]
    assert [int(split[index][1]) for index in range(len(split))] == wanted


def test_a_loader_of_a_subset_has_that_subset():
    split = given(DataLoader(Subset(DATA, [8, 3]))).splits["train"]
    assert [int(split[index][1]) for index in range(len(split))] == [8, 3]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (DataLoader(DATA, batch_size=None), "batch_size=None, which hands on what its data set gives"),
        (
            DataLoader(DATA, sampler=WeightedRandomSampler([1.0] * 10, 10)),
            "draws examples anew in every epoch",
        ),
        (
            DataLoader(DATA, sampler=RandomSampler(DATA, replacement=True)),
            "draws examples anew in every epoch",
        ),
        (DataLoader(DATA, sampler=RandomSampler(DATA, num_samples=5)), "draws examples anew in every epoch"),
        (DataLoader(DATA, sampler=[1, 1, 2]), "names some examples more than once"),
        (DataLoader(DATA, sampler=SubsetRandomSampler([])), "names no example"),
        ((X, Y[:9]), "tensors of 10, 9 rows"),
        ((X, torch.tensor(1.0)), "a tensor without rows"),
        ((DATA, DATA), "a tuple of TensorDataset, TensorDataset"),
        ((X[:0], Y[:0]), "is empty"),
        ((), "a tuple of nothing"),
        ((X, np.array(["a"] * 10)), "an array of <U1; valid are arrays of numbers"),
        ({"train": {"x": X, "name": ["a"] * 10}}, "a dict of Tensor, list"),
        ({"train": TensorDataset}, "is the class TensorDataset"),
        (iter([]), "gave no item"),
        (5, "split train is 5"),
        ({}, "an empty mapping"),
    ],
)
def test_a_form_that_cannot_be_taken_is_refused_in_a_line(data, words):
    with pytest.raises(LandscapeError) as caught:
        given(data)
    message = str(caught.value)
    assert words in message
    assert message.startswith("here: data")
    assert "\n" not in message
    assert "expected" in message or "valid" in message or "one that was gone through before" in message


def test_an_endless_stream_ends_where_memory_does(monkeypatch):
    class Free:
        available = 2**20

    monkeypatch.setattr("psutil.virtual_memory", lambda: Free)

    def forever():
        while True:
            yield torch.zeros(1000)

    with pytest.raises(LandscapeError, match=r"has not ended after 132 items .*half of the memory"):
        given(forever())


def test_an_iterable_that_raises_names_the_item():
    def broken():
        yield 1
        raise RuntimeError("no more disk")

    with pytest.raises(LandscapeError, match="item 1 could not be read: RuntimeError: no more disk"):
        given(broken())


def test_a_collate_fn_is_for_every_split_that_brings_none():
    def mine(items):
        return torch.stack(items)

    found = given(
        {"train": [X[0]], "test": DataLoader([X[0]], collate_fn=lambda items: items)}, collate_fn=mine
    )
    assert found.splits["train"].collate_fn is mine
    assert found.splits["test"].collate_fn is not mine


def test_a_hugging_face_data_set_gives_tensors_and_leaves_texts_out():
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "input_ids": [[1, 2], [3, 4]], "label": [0, 1]})
    found = given(data)
    assert {name: value.tolist() for name, value in found.splits["train"][1].items()} == {
        "input_ids": [3, 4],
        "label": 1,
    }
    assert found.notes == ["train: columns of text are left out (text)"]
    both = given(datasets.DatasetDict({"train": data, "test": data}))
    assert list(both.splits) == ["train", "test"]
    # A collator gets what it expects: all of the item, as it is.
    raw = given(DataLoader(data, collate_fn=lambda items: items)).splits["train"]
    assert raw[0] == {"text": "a", "input_ids": [1, 2], "label": 0}


def test_a_lightning_data_module_gives_the_splits_that_it_has():
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningDataModule):
        def setup(self, stage):
            self.data = DATA

        def train_dataloader(self):
            return DataLoader(self.data, batch_size=5, shuffle=True)

        def test_dataloader(self):
            return [DataLoader(self.data), DataLoader(self.data)]

    found = given(Module())
    assert list(found.splits) == ["train", "test_0", "test_1"]
    assert found.batch_size == 5
