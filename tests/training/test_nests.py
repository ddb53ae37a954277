from collections import namedtuple

import pytest
import torch

from mpi_landscape.training import nests

CPU = torch.device("cpu")
Pair = namedtuple("Pair", ["image", "label"])


def test_moving_a_batch_changes_the_precision_of_real_numbers_only():
    batch = {
        "image": torch.ones(2, 3, dtype=torch.float64),
        "label": torch.tensor([1, 2]),
        "pixels": torch.tensor([3, 4], dtype=torch.uint8),
        "names": ["a", "b"],
        "pair": Pair(torch.ones(2, dtype=torch.float16), "c"),
        "list": [torch.ones(2), 5],
    }
    result = nests.moved(batch, CPU)
    kinds = {name: result[name].dtype for name in ("image", "label", "pixels")}
    assert kinds == {"image": torch.float32, "label": torch.int64, "pixels": torch.uint8}
    assert result["names"] == ["a", "b"]
    assert type(result["pair"]) is Pair
    assert (result["pair"].image.dtype, result["pair"].label) == (torch.float32, "c")
    assert result["list"][1] == 5
    assert nests.moved(batch, CPU, torch.float64)["image"].dtype == torch.float64


def test_examples_are_selected_in_every_leaf():
    nest = {
        "x": torch.arange(6).view(3, 2),
        "inner": [["a", "b", "c"], Pair(torch.arange(3), ("d", "e", "f"))],
    }
    result = nests.selected(nest, torch.tensor([2, 0, 2]))
    assert result["x"].tolist() == [[4, 5], [0, 1], [4, 5]]
    assert result["inner"][0] == ["c", "a", "c"]
    assert result["inner"][1].image.tolist() == [2, 0, 2]
    assert result["inner"][1].label == ["f", "d", "f"]


def test_images_are_the_first_tensor_of_four_dimensions():
    first, second = torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 1)
    nest = [torch.ones(2), {"a": first, "b": second}]
    result = nests.with_images(lambda images: images * 5, nest)
    assert [leaf.sum().item() for leaf in nests.tensors(result)] == [2, 10, 2]
    assert nests.with_images(lambda images: images * 5, [torch.ones(2)])[0].sum() == 2


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        pytest.param([torch.ones(2), ["a"]], [torch.ones(2), ["a"]], True, id="the same"),
        pytest.param([torch.tensor([1.0, torch.nan])], [torch.tensor([1.0, torch.nan])], True, id="NaN"),
        pytest.param([torch.ones(2)], [torch.zeros(2)], False, id="values"),
        pytest.param([torch.ones(2)], [torch.ones(3)], False, id="shapes"),
        pytest.param([torch.ones(2)], [torch.ones(2).double()], False, id="types"),
        pytest.param([["a"]], [["b"]], False, id="strings"),
        pytest.param([["a"]], [torch.ones(1)], False, id="kinds"),
        pytest.param([torch.ones(2)], [torch.ones(2), torch.ones(2)], False, id="numbers of leaves"),
    ],
)
def test_nests_are_equal_where_all_leaves_are(first, second, same):
    assert nests.equal(first, second) is same
