from collections import namedtuple

import pytest
import torch
from torch.utils.data import default_collate

from mpi_landscape.loading.nests import (
    equal,
    fresh,
    in_precision,
    leaves,
    map_tensors,
    mapped,
    moved,
    rows,
    taken,
    tensors,
)

Pair = namedtuple("Pair", ["image", "label"])


def items(count=5):
    """One of everything that the default collation takes."""
    return [
        {
            "pair": Pair(torch.full((2,), float(index)), index),
            "words": (f"word {index}", b"bytes"),
            "names": [f"a{index}", f"b{index}"],
            "deep": [{"value": index / 2}],
        }
        for index in range(count)
    ]


def test_rows_of_a_batch_are_the_collation_of_those_items():
    batch = rows(default_collate(items()), 1, 4)
    expected = default_collate(items()[1:4])
    assert equal(batch, expected)
    assert isinstance(batch["pair"], Pair)
    assert [tuple(names) for names in batch["names"]] == [("a1", "a2", "a3"), ("b1", "b2", "b3")]
    assert [len(words) for words in batch["words"]] == [3, 3]


def test_rows_of_strings_alone_are_strings():
    assert rows(["a", "b", "c"], 1, 3) == ["b", "c"]
    assert rows((b"a", b"b", b"c"), 0, 2) == (b"a", b"b")


def test_rows_are_views():
    batch = [torch.zeros(4, 2), torch.zeros(4)]
    rows(batch, 1, 2)[0][0, 0] = 7
    assert batch[0][1, 0] == 7


def test_map_tensors_keeps_the_nest_and_everything_that_is_no_tensor():
    batch = default_collate(items())
    doubled = map_tensors(lambda tensor: 2 * tensor, batch)
    assert type(doubled["pair"]) is Pair
    assert doubled["pair"].image[3].tolist() == [6, 6]
    assert doubled["deep"][0]["value"].tolist() == [0, 1, 2, 3, 4]
    assert doubled["words"] == batch["words"]
    assert batch["pair"].label.tolist() == [0, 1, 2, 3, 4]


def test_sequences_become_lists_on_request_as_in_the_default_collation():
    nest = {"pair": Pair(torch.ones(2), 3), "deep": ((torch.ones(2), ("a", "b")), [])}
    kept, listed = mapped(lambda leaf: leaf, nest), mapped(lambda leaf: leaf, nest, lists=True)
    assert [type(each["deep"]) for each in (kept, listed)] == [tuple, list]
    assert [type(each["deep"][0]) for each in (kept, listed)] == [tuple, list]
    assert [type(each["pair"]) for each in (kept, listed)] == [Pair, Pair]
    assert listed["deep"][0][1] == ("a", "b"), "the strings of a batch are a leaf"
    assert listed["deep"][1] == []


CPU = torch.device("cpu")


def test_the_precision_of_a_batch_is_that_of_its_real_numbers_only():
    batch = {
        "image": torch.ones(2, 3, dtype=torch.float64),
        "label": torch.tensor([1, 2]),
        "pixels": torch.tensor([3, 4], dtype=torch.uint8),
        "names": ["a", "b"],
        "pair": Pair(torch.ones(2, dtype=torch.float16), "c"),
        "list": [torch.ones(2), 5],
    }
    result = in_precision(batch, torch.float32)
    kinds = {name: result[name].dtype for name in ("image", "label", "pixels")}
    assert kinds == {"image": torch.float32, "label": torch.int64, "pixels": torch.uint8}
    assert result["names"] == ["a", "b"]
    assert type(result["pair"]) is Pair
    assert (result["pair"].image.dtype, result["pair"].label) == (torch.float32, "c")
    assert result["list"][1] == 5
    assert in_precision(batch, torch.float64)["image"].dtype == torch.float64
    assert moved(batch, CPU)["pair"].image.dtype == torch.float16


def test_examples_are_taken_in_every_leaf():
    nest = {
        "x": torch.arange(6).view(3, 2),
        "inner": [["a", "b", "c"], Pair(torch.arange(3), ("d", "e", "f"))],
    }
    result = taken(nest, torch.tensor([2, 0, 2]))
    assert result["x"].tolist() == [[4, 5], [0, 1], [4, 5]]
    assert result["inner"][0] == ["c", "a", "c"]
    assert result["inner"][1].image.tolist() == [2, 0, 2]
    assert result["inner"][1].label == ["f", "d", "f"]


def test_leaves_name_every_place_once():
    batch = default_collate(items())
    places = [place for place, _ in leaves(batch)]
    assert places == [
        "/pair/0",
        "/pair/1",
        "/words/0",
        "/words/1",
        "/names/0",
        "/names/1",
        "/deep/0/value",
    ]
    assert [place for place, _ in tensors(batch)] == ["/pair/0", "/pair/1", "/deep/0/value"]


@pytest.mark.parametrize(
    ("first", "second", "expected", "reason"),
    [
        ([torch.ones(2)], [torch.ones(2)], True, "the same"),
        ([torch.ones(2)], (torch.ones(2),), True, "a list and a tuple hold the same places"),
        ([torch.ones(2)], [torch.tensor([1.0, 2.0])], False, "another value"),
        ([torch.ones(2)], [torch.ones(2).double()], False, "another type"),
        ([torch.ones(2)], [torch.ones(1, 2)], False, "another shape"),
        ([torch.ones(2)], [torch.ones(2), torch.ones(2)], False, "one more"),
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}, False, "another key"),
        ([torch.tensor([torch.nan, 1.0])], [torch.tensor([torch.nan, 1.0])], True, "NaN equals itself"),
        ([torch.tensor([torch.nan, 1.0])], [torch.tensor([1.0, torch.nan])], False, "NaN elsewhere"),
        ([torch.tensor([torch.nan, 1.0])], [torch.tensor([1.0, 1.0])], False, "NaN on one side"),
        (
            [torch.tensor([torch.nan, torch.inf])],
            [torch.tensor([torch.nan, torch.finfo(torch.float32).max])],
            False,
            "infinity is not the largest number, even beside a NaN",
        ),
        ([torch.tensor([torch.nan, torch.inf])], [torch.tensor([torch.nan, -torch.inf])], False, "the sign"),
        ([torch.tensor([True, False])], [torch.tensor([True, True])], False, "truth values"),
        ([torch.tensor([1 + 2j])], [torch.tensor([1 + 2j])], True, "complex numbers"),
        ([torch.zeros(0, 3)], [torch.zeros(0, 3)], True, "nothing"),
        ([["a", "b"]], [["a", "b"]], True, "strings"),
        ([["a", "b"]], [["a", "c"]], False, "another string"),
        ([["a", "b"]], [torch.ones(2)], False, "strings and numbers"),
    ],
)
def test_equal_sees_every_difference(first, second, expected, reason):
    assert equal(first, second) is expected, reason
    assert equal(second, first) is expected, reason


def test_what_is_taken_out_of_fresh_containers_is_gone_from_these_alone():
    given = {"input": (torch.zeros(2), [torch.ones(2)]), "names": ["a", "b"], "labels": torch.arange(2)}
    taken = fresh(given)
    assert taken["labels"] is given["labels"]
    assert taken["input"][1][0] is given["input"][1][0]
    taken.pop("labels")
    taken["input"][1].clear()
    taken["names"].pop()
    assert list(given) == ["input", "names", "labels"]
    assert len(given["input"][1]) == 1
    assert given["names"] == ["a", "b"]
