import copy

import pytest
import torch
from torch import nn

from mpi_landscape.evaluation.conversion import converted
from mpi_landscape.evaluation.replica import network_on

CPU = torch.device("cpu")
LATE = 1.7e9 + 1  # float32 has 1.7e9 next to it


class Clock(nn.Module):
    """Buffers of every kind beside a layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layer, self.normalization = nn.Linear(2, 3), nn.BatchNorm1d(3)
        self.register_buffer("since", torch.tensor(LATE, dtype=torch.float64))
        self.register_buffer("turn", torch.tensor([1 + 2j, -3j]))
        self.register_buffer("fine_turn", torch.tensor([LATE * 1j], dtype=torch.complex128))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("order", torch.tensor([2**40 + 1, 0]))
        self.register_buffer("coarse", torch.tensor([0.1], dtype=torch.bfloat16))


def kinds(network):
    return {name: tensor.dtype for name, tensor in network.state_dict().items()}


def test_every_number_keeps_its_value_in_32_bits_and_in_64():
    for dtype in (torch.float32, torch.float64):
        network = Clock()
        before = copy.deepcopy(network.state_dict())
        converted(network, dtype)
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor.to(torch.complex128), before[name].to(torch.complex128)), (dtype, name)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float32, (torch.float32, torch.float64, torch.complex64, torch.complex128, torch.float32)),
        (torch.float64, (torch.float64, torch.float64, torch.complex128, torch.complex128, torch.float64)),
    ],
)
def test_types_after_conversion(dtype, expected):
    found = kinds(converted(Clock(), dtype))
    assert tuple(found[name] for name in ("layer.weight", "since", "turn", "fine_turn", "coarse")) == expected
    assert found["mask"] == torch.bool
    assert found["order"] == found["normalization.num_batches_tracked"] == torch.int64
    assert found["normalization.running_mean"] == dtype


@pytest.mark.parametrize("affine", [True, False])
def test_the_statistics_of_a_network_in_float64_follow_its_parameters(affine):
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, affine=affine)).double().eval()
    network[1].running_mean.fill_(0.25)
    inputs = torch.tensor([[1.0, 2.0]])
    expected = network(inputs.double())
    assert torch.allclose(converted(network, torch.float32)(inputs).double(), expected, atol=1e-6)


def test_complex_parameters_stay_complex():
    network = nn.Module()
    network.spectrum = nn.Parameter(torch.tensor([1 + 2j], dtype=torch.complex128))
    assert converted(network, torch.float32).spectrum.dtype == torch.complex64
    assert converted(network, torch.float64).spectrum.dtype == torch.complex128
    assert network.spectrum.imag.item() == 2


def test_what_two_modules_share_stays_shared():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).double()
    network[1].weight = network[0].weight
    network[0].register_buffer("scale", torch.ones(1, dtype=torch.float16))
    network[1].register_buffer("scale", network[0].scale)
    converted(network, torch.float32)
    assert network[1].weight is network[0].weight
    assert network[1].scale is network[0].scale


def test_a_copy_on_a_device_leaves_the_original_and_shares_what_need_not_be_converted():
    network = Clock().train()
    before = kinds(network)
    copied = network_on(network, CPU, torch.float64)
    assert kinds(network) == before
    assert network.training
    assert not copied.training
    assert copied.layer.weight.dtype == torch.float64
    same = network_on(network, CPU, torch.float32)
    assert same.layer.weight.data_ptr() == network.layer.weight.data_ptr()
    assert same.turn.data_ptr() != network.turn.data_ptr()
