import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.inputs import find_inputs
from mpi_landscape.loading.resident import make_resident
from mpi_landscape.loading.streamed import make_streamed

CPU = torch.device("cpu")
TIMES = torch.arange(1.7e9, 1.7e9 + 10, dtype=torch.float64)[:, None]


class Clock(nn.Module):
    def forward(self, times):
        return (times - 1.7e9).float()


def squared(model, batch):
    return (model(batch[0]) - batch[1]).square().flatten(1).mean(1)


def found(model, data, dtype=torch.float32, loss=squared):
    return find_inputs(loss, model.eval(), "train", data, device=CPU, dtype=dtype)


def test_what_the_network_takes_stays_as_given():
    inputs = found(Clock(), TensorDataset(TIMES, torch.zeros(10, 1)))
    assert inputs.dtype is None
    assert inputs.words() == "as given: float64"


def test_what_the_network_does_not_take_becomes_float32_and_is_told_why():
    inputs = found(nn.Linear(1, 1), TensorDataset(TIMES, torch.zeros(10, 1)))
    assert inputs.dtype == torch.float32
    assert inputs.words().startswith("float64 becomes float32, since as given loss: calling it on")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_of_16_bits_are_given_to_a_network_that_takes_them(dtype):
    data = TensorDataset(torch.ones(4, 1, dtype=dtype), torch.zeros(4, 1))
    assert found(Clock(), data).dtype is None
    assert found(nn.Linear(1, 1), data).dtype == torch.float32


def test_of_numbers_in_float32_there_is_nothing_to_say():
    inputs = found(nn.Linear(1, 1), TensorDataset(torch.ones(4, 1), torch.zeros(4, 1)))
    assert (inputs.dtype, inputs.words()) == (None, "")


def test_in_float64_all_become_float64():
    inputs = found(Clock().double(), TensorDataset(torch.ones(4, 1), torch.zeros(4, 1)), torch.float64)
    assert (inputs.dtype, inputs.words()) == (torch.float64, "")


def test_items_that_do_not_collate_are_refused():
    with pytest.raises(LandscapeError, match="do not collate"):
        found(Clock(), [(object(), 1.0)] * 3)


@pytest.mark.parametrize("make", [make_resident, make_streamed])
def test_given_numbers_reach_the_loss_bit_for_bit_and_the_digest_tells_them_apart(make):
    def made(times, dtype):
        return make("train", TensorDataset(times), batch_size=4, device=CPU, dtype=dtype)

    given, rounded = made(TIMES, None), made(TIMES, torch.float32)
    batches = [batch for piece in given.pieces(0, 3) for batch in piece]
    assert torch.equal(torch.cat([batch.data[0][: batch.valid] for batch in batches]), TIMES)
    other = TIMES.clone()
    other[3] += 1e-6  # far below what float32 can tell
    assert made(other, torch.float32).digest == rounded.digest
    assert made(other, None).digest != given.digest


@pytest.mark.parametrize("make", [make_resident, make_streamed])
def test_the_digest_of_numbers_in_float32_does_not_depend_on_how_they_are_asked_for(make):
    data = TensorDataset(torch.linspace(0, 1, 10)[:, None], torch.arange(10))
    digests = {
        make("train", data, batch_size=4, device=CPU, dtype=dtype).digest for dtype in (None, torch.float32)
    }
    assert len(digests) == 1
