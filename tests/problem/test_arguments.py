import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader, TensorDataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.arguments import check_data, check_loss, check_network

DATA = TensorDataset(torch.zeros(4, 3), torch.zeros(4))


def refusal(check, value):
    with pytest.raises(LandscapeError) as caught:
        check(value, where="here()")
    text = str(caught.value)
    assert text.startswith("here(): ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda inputs: inputs, "the function <lambda>"),
        (nn.Linear, "the class Linear; expected a network, an instance of torch.nn.Module; make one of it"),
        (nn.Linear(3, 1).state_dict(), "a state dictionary"),
        ("resnet56", "a str"),
        (None, "a NoneType"),
        (nn.Linear(3, 1, device="meta"), "weight is on the meta device"),
    ],
)
def test_what_is_no_network_is_named(model, words):
    assert words in refusal(check_network, model)


def test_parameters_on_several_devices_are_named():
    with FakeTensorMode():  # of devices that this machine need not have
        parts = [nn.Linear(3, 3, device=device) for device in ("cuda:0", "cuda:1", "cpu")]
        text = refusal(check_network, nn.Sequential(*parts))
    assert "0.weight on cuda:0, 1.weight on cuda:1, 2.weight on cpu" in text
    assert "model.cpu()" in text


def test_a_network_is_taken():
    check_network(nn.Linear(3, 1), where="here()")


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (5, "loss is 5"),
        (None, "loss is null"),
        (nn.CrossEntropyLoss, "the class CrossEntropyLoss"),
        (lambda batch: batch, "cannot be called with (model, batch)"),
    ],
)
def test_what_is_no_loss_is_named(loss, words):
    assert words in refusal(check_loss, loss)


@pytest.mark.parametrize(
    "loss",
    ["mse", nn.CrossEntropyLoss(), F.mse_loss, lambda model, batch: 0, lambda model, batch, power=2: 0],
)
def test_a_loss_is_taken(loss):
    check_loss(loss, where="here()")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({0: DATA}, "a split named 0; expected letters, digits and _"),
        ({"val/clean": DATA}, "a split named 'val/clean'"),
        ({"train set": DATA}, "a split named 'train set'"),
        ({"": DATA}, "a split named ''"),
        ({}, "an empty mapping"),
        (None, "split train is null"),
        ({"test": DataLoader(DATA, batch_size=None)}, "split test is a DataLoader with batch_size=None"),
        ({"train": []}, "split train is empty"),
    ],
)
def test_what_is_no_data_is_named(data, words):
    assert words in refusal(check_data, data)


def test_one_data_set_is_the_split_train():
    assert check_data(DATA, where="here()").splits == {"train": DATA}
    assert list(check_data({"a": DATA, "b_2": DATA}, where="here()").splits) == ["a", "b_2"]
