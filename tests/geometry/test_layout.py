import pytest
import torch
from torch import nn

from mpi_landscape import LandscapeError
from mpi_landscape.geometry.layout import Layout, layout_of


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 3, (3, 2)), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(6, 4, bias=False)
    )


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(5, 3)
        self.decoder = nn.Linear(3, 5)
        self.decoder.weight = self.encoder.weight


def test_entries_follow_named_parameters_without_gaps():
    model = network()
    layout = layout_of(model)
    assert [(entry.name, entry.shape) for entry in layout.entries] == [
        (name, tuple(parameter.shape)) for name, parameter in model.named_parameters()
    ]
    offset = 0
    for entry in layout.entries:
        assert entry.offset == offset
        offset = entry.stop
    assert layout.size == offset == sum(parameter.numel() for parameter in model.parameters())
    assert layout.num_filters == 3 + 1 + 1 + 1 + 4


def test_flat_vector_is_the_concatenation_of_the_parameters():
    model = network()
    expected = nn.utils.parameters_to_vector(model.parameters()).detach()
    vector = layout_of(model).flatten(model.state_dict(), where="state")
    assert vector.dtype == torch.float32
    assert torch.equal(vector, expected)
    assert not vector.requires_grad


def test_views_share_the_memory_of_the_vector():
    model = network()
    layout = layout_of(model)
    vector = torch.zeros(layout.size)
    views = layout.views(vector)
    views["3.weight"][1, 2] = 7
    assert vector[layout.entries[-1].offset + 1 * 6 + 2] == 7
    assert vector.count_nonzero() == 1


def test_a_network_is_restored_from_its_vector():
    model = network()
    layout = layout_of(model)
    vector = layout.flatten(model.state_dict(), where="state", dtype=torch.float64)
    assert vector.dtype == torch.float64
    for name, view in layout.views(vector).items():
        assert torch.equal(view.float(), model.get_parameter(name))


def test_tied_weights_appear_once_under_their_first_name():
    layout = layout_of(Tied())
    assert [entry.name for entry in layout.entries] == ["encoder.weight", "decoder.bias"]
    assert layout.size == 5 * 3 + 5


def test_running_statistics_follow_the_parameters_when_asked():
    model = network()
    plain, full = layout_of(model), layout_of(model, normalization_buffers=True)
    assert full.entries[: len(plain.entries)] == plain.entries
    added = full.entries[len(plain.entries) :]
    assert [(entry.name, entry.kind, entry.num_filters) for entry in added] == [
        ("1.running_mean", "buffer", 1),
        ("1.running_var", "buffer", 1),
    ]
    model[1].running_var.fill_(5)
    assert full.flatten(model.state_dict(), where="state")[-3:].tolist() == [5, 5, 5]


def test_other_buffers_never_move():
    model = network()
    model.register_buffer("running_total", torch.zeros(2))
    names = [entry.name for entry in layout_of(model, normalization_buffers=True).entries]
    assert "running_total" not in names
    assert "1.num_batches_tracked" not in names


def test_a_state_that_does_not_fit_is_refused_naming_what_differs():
    model = network()
    state = model.state_dict()
    del state["0.bias"]
    state["3.weight"] = torch.zeros(6, 4)
    with pytest.raises(LandscapeError) as caught:
        layout_of(model).flatten(state, where="old.pt")
    assert str(caught.value) == (
        "old.pt does not fit this network: 0.bias is missing; 3.weight has shape (6, 4), the network (4, 6)"
    )


def test_only_the_first_three_differences_are_listed():
    model = network()
    with pytest.raises(LandscapeError, match=r"0\.weight is missing; .*; 1\.weight is missing; and 2 more$"):
        layout_of(model).flatten({}, where="empty.pt")


def test_a_state_of_other_numbers_is_refused():
    model = nn.Linear(2, 1, bias=False)
    with pytest.raises(LandscapeError, match=r"weight has dtype torch\.complex64"):
        layout_of(model).flatten({"weight": torch.zeros(1, 2, dtype=torch.complex64)}, where="x.pt")


@pytest.mark.parametrize("shape", [(29,), (31,), (1, 30), ()])
def test_a_vector_of_another_shape_is_refused(shape):
    layout = layout_of(nn.Linear(5, 5))
    assert layout.size == 30
    with pytest.raises(LandscapeError, match=r"make \(30,\)"):
        layout.views(torch.zeros(shape))


def complex_network() -> nn.Module:
    model = nn.Linear(2, 2)
    model.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    return model


def integer_network() -> nn.Module:
    model = nn.Linear(2, 2)
    model.codes = nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.ReLU(), nn.Flatten()), "no parameters"),
        (nn.BatchNorm1d(3, affine=False), "no parameters"),
        (nn.Sequential(nn.LazyLinear(3)), "0.weight is not initialised"),
    ],
)
def test_networks_without_a_landscape_are_refused(model, message):
    with pytest.raises(LandscapeError, match=message):
        layout_of(model, normalization_buffers=True)


def test_layouts_of_equal_networks_are_equal():
    assert layout_of(network()) == layout_of(network())
    assert layout_of(network()) != layout_of(nn.Linear(2, 2))
    assert isinstance(hash(layout_of(network())), int)


def test_layout_needs_no_storage():
    with torch.device("meta"):
        model = network()
    assert isinstance(layout_of(model), Layout)
    assert layout_of(model) == layout_of(network())
