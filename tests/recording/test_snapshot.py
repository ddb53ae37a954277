"""What is kept of a network: its tensors at one moment, under its own names."""

import copy

import pytest
import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.recording.snapshot import snapshot


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.second = nn.Linear(3, 4)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.tensor([2, 3]))


def test_it_is_a_copy_that_training_does_not_reach():
    network = Tied()
    expected = copy.deepcopy(network.state_dict())
    found = snapshot(network)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)
    assert list(found.state) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found.state[name], tensor), name
        assert found.state[name].dtype == tensor.dtype


def test_tied_tensors_are_one():
    found = snapshot(Tied())
    assert found.state["first.weight"].data_ptr() == found.state["second.weight"].data_ptr()
    assert found.parameters.count("first.weight") + found.parameters.count("second.weight") == 1
    network = Tied()
    expected = sum(float((each.detach().double() ** 2).sum()) for each in network.parameters()) ** 0.5
    assert snapshot(network).weight_norm == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    "wrapped",
    [
        nn.DataParallel,
        torch.compile,
        lambda each: torch.compile(nn.DataParallel(each)),
        lambda each: nn.DataParallel(torch.compile(each)),
    ],
)
def test_names_are_those_of_the_network_without_its_wrappings(wrapped):
    network = Tied()
    assert list(snapshot(wrapped(network)).state) == list(network.state_dict())
    network.first = torch.compile(network.first)
    assert list(snapshot(network).state) == list(Tied().state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fewer_bits_are_those_of_torch_and_integers_stay(dtype):
    network = Tied()
    found = snapshot(network, dtype=dtype).state
    for name, tensor in network.state_dict().items():
        wanted = tensor.to(dtype) if tensor.is_floating_point() else tensor
        assert found[name].dtype == wanted.dtype
        assert torch.equal(found[name], wanted)


def test_a_number_beyond_the_type_is_refused():
    network = nn.Linear(2, 1)
    with torch.no_grad():
        network.weight[0, 1] = -1e5
    with pytest.raises(
        LandscapeError, match="weight has a number of size 100000, beyond 'float16'; valid is dtype bfloat16"
    ):
        snapshot(network, dtype=torch.float16)
    with torch.no_grad():
        network.weight[0, 1] = float("inf")
    assert snapshot(network, dtype=torch.float16).state["weight"][0, 1] == float("inf")


def test_only_what_is_trained():
    network = Tied()
    network.first.requires_grad_(False)
    assert sorted(snapshot(network, trainable_only=True).state) == [
        "norm.bias", "norm.num_batches_tracked", "norm.running_mean", "norm.running_var", "norm.weight", "scale", "second.bias",
    ]  # fmt: skip
    with pytest.raises(LandscapeError, match="trainable_only needs the network"):
        snapshot(network.state_dict(), trainable_only=True)


class FullyShardedDataParallel(nn.Module):
    """Of the name by which it is told."""

    def __init__(self, module):
        super().__init__()
        self.module = module


@pytest.mark.parametrize("mark", [None, "device_mesh", "ds_id"])
def test_a_network_that_no_rank_has_is_refused_with_what_to_do(mark):
    network = nn.Linear(2, 1)
    if mark is None:
        network = FullyShardedDataParallel(network)
    else:
        setattr(network.weight, mark, 1)
    with pytest.raises(
        LandscapeError, match=r"weight is sharded by .*full_state_dict=True.*in place of the network"
    ) as caught:
        snapshot(network)
    assert "\n" not in str(caught.value)


def test_a_real_sharded_network_is_refused(tmp_path):
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        network = fsdp.fully_shard(
            nn.Linear(4, 2), mesh=torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        )
        with pytest.raises(LandscapeError, match="is sharded by FSDP or tensor parallelism"):
            snapshot(network)
        with pytest.raises(LandscapeError, match="is sharded, so no rank has all of it"):
            snapshot(network.state_dict())
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("given", [5, nn.Linear, None])
def test_what_is_no_network_is_refused(given):
    with pytest.raises(LandscapeError, match="expected the network, or its state dictionary"):
        snapshot(given)


def test_no_values_are_refused():
    with pytest.raises(LandscapeError, match="is on the meta device"):
        snapshot(nn.Linear(2, 1, device="meta"))
