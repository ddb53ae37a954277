import pytest
import torch
from torch import nn

from mpi_landscape.configuration.sections.sources import ModelConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.networks.resnet import BasicBlock, PaddingShortcut
from mpi_landscape.problem.networks.table import build_network


def build(name, **arguments):
    return build_network(ModelConfiguration(name=name, arguments=arguments), where="mine.yaml", folders=[])


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("depth", "millions"),
    [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)],
)
def test_option_a_has_the_number_of_parameters_of_the_paper(depth, millions):
    # He et al. (2016), arXiv:1512.03385, table 6; given there with two digits.
    network = build(f"resnet{depth}", shortcut="padding")
    assert float(f"{num_parameters(network) / 1e6:.2g}") == millions


def test_a_projection_adds_two_convolutions_and_their_normalisation():
    # 1×1: 16·32 and 32·64 weights; a scale and a shift for each of 32 and 64 channels.
    added = num_parameters(build("resnet20")) - num_parameters(build("resnet20", shortcut="padding"))
    assert added == 16 * 32 + 32 * 64 + 2 * (32 + 64)


def test_without_shortcuts_there_are_as_many_parameters_as_with_padding():
    assert num_parameters(build("resnet56_noshort")) == num_parameters(build("resnet56", shortcut="padding"))


@pytest.mark.parametrize(("name", "layers"), [("resnet8", 8), ("resnet20", 20), ("resnet32_noshort", 32)])
def test_the_depth_counts_the_layers_with_weights(name, layers):
    counted = [
        each
        for path, each in build(name).named_modules()
        if isinstance(each, (nn.Conv2d, nn.Linear)) and "shortcut" not in path
    ]
    assert len(counted) == layers


def test_the_tensors_have_the_names_of_the_reference_code():
    names = set(dict(build("resnet20").named_parameters()))
    assert {
        "conv1.weight",
        "bn1.bias",
        "layer1.0.conv1.weight",
        "layer3.2.bn2.weight",
        "linear.weight",
    } <= names
    assert {"layer2.0.shortcut.0.weight", "layer3.0.shortcut.1.bias"} <= names
    assert not [name for name in names if name.startswith("layer1") and "shortcut" in name]


@pytest.mark.parametrize(
    ("name", "arguments", "size", "num_classes", "why"),
    [
        ("resnet20", {}, (3, 32, 32), 10, "the defaults are those of CIFAR-10"),
        ("resnet14", {"width": 5, "input_size": [1, 8, 8], "num_classes": 7}, (1, 8, 8), 7, "small and odd"),
        (
            "resnet8_noshort",
            {"input_size": [2, 9, 13], "width": 3},
            (2, 9, 13),
            10,
            "odd, not square, no shortcut",
        ),
        (
            "resnet8",
            {"shortcut": "padding", "input_size": [2, 9, 13], "width": 3},
            (2, 9, 13),
            10,
            "padding, odd",
        ),
        ("resnet", {"depth": 8, "width": 4}, (3, 32, 32), 10, "the depth as an argument"),
        ("linear", {"input_size": [1, 5, 7], "num_classes": 3}, (1, 5, 7), 3, "not square"),
        (
            "mlp",
            {"hidden": [11, 6], "input_size": [2, 5, 7], "num_classes": 4},
            (2, 5, 7),
            4,
            "two hidden layers",
        ),
        ("mlp", {"hidden": [], "activation": "tanh"}, (3, 32, 32), 10, "no hidden layer"),
    ],
)
def test_a_network_gives_one_row_of_outputs_per_image(name, arguments, size, num_classes, why):
    network = build(name, **arguments).eval()
    with torch.no_grad():
        assert network(torch.randn(2, *size)).shape == (2, num_classes), why


def test_a_linear_network_is_an_affine_map_of_the_pixels():
    network = build("linear", input_size=[1, 2, 3], num_classes=4)
    (weight, bias) = network.parameters()
    images = torch.randn(5, 1, 2, 3)
    torch.testing.assert_close(network(images), images.reshape(5, 6) @ weight.T + bias)


def test_a_perceptron_does_what_its_matrices_do():
    network = build("mlp", input_size=[1, 2, 3], hidden=[5], num_classes=4, activation="tanh")
    (first, shift, second, last) = network.parameters()
    images = torch.randn(7, 1, 2, 3)
    expected = torch.tanh(images.reshape(7, 6) @ first.T + shift) @ second.T + last
    torch.testing.assert_close(network(images), expected)


def test_the_padding_shortcut_keeps_every_second_pixel_and_adds_zeros():
    images = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).reshape(2, 3, 5, 4)
    result = PaddingShortcut(stride=2, new_channels=3)(images)
    assert result.shape == (2, 6, 3, 2)
    for row in range(3):
        for column in range(2):
            torch.testing.assert_close(result[:, 1:4, row, column], images[:, :, 2 * row, 2 * column])
    assert result[:, [0, 4, 5]].abs().max() == 0


@pytest.mark.parametrize(("shortcut", "expected"), [("projection", 1.0), ("none", 0.0)])
def test_a_block_whose_convolutions_are_zero_passes_its_input_only_through_a_shortcut(shortcut, expected):
    block = BasicBlock(3, 3, stride=1, shortcut=shortcut).eval()
    nn.init.zeros_(block.conv2.weight)
    images = torch.rand(2, 3, 5, 4)
    torch.testing.assert_close(block(images), expected * images)


@pytest.mark.parametrize(
    ("name", "arguments", "words", "why"),
    [
        (
            "resnt20",
            {},
            ["model.name is 'resnt20'", "linear, mlp, resnet", "did you mean 'resnet20'"],
            "a typo",
        ),
        ("vgg16", {}, ["model.name is 'vgg16'", "valid names are"], "not here"),
        ("resnet21", {}, ["model: depth is 21", "6n + 2", "torchvision/resnet18"], "no such depth"),
        ("resnet2", {}, ["depth is 2", "6n + 2"], "no blocks"),
        ("resnet20", {"depth": 56}, ["arguments", "depth", "resnet20"], "said twice"),
        (
            "resnet20_noshort",
            {"shortcut": "padding"},
            ["shortcut", "resnet20_noshort"],
            "said twice, differently",
        ),
        ("resnet", {}, ["model.arguments", "'depth'"], "no depth"),
        ("resnet20", {"widht": 3}, ["no argument 'widht'", "did you mean 'width'"], "a typo"),
        ("resnet20", {"width": 0}, ["width is 0", "at least 1"], "no filters"),
        ("resnet20", {"width": "a"}, ["width is 'a'", "whole number"], "text"),
        ("resnet20", {"width": True}, ["width is true", "whole number"], "a truth value"),
        (
            "resnet20",
            {"shortcut": "full"},
            ["shortcut is 'full'", "projection, padding or none"],
            "another shortcut",
        ),
        (
            "resnet20",
            {"input_size": [8, 8]},
            ["input_size is [8, 8]", "channels, height, width"],
            "no channels",
        ),
        ("mlp", {"hidden": 5}, ["hidden is 5", "list"], "one number"),
        ("mlp", {"hidden": [5, -1]}, ["hidden[1] is -1"], "a negative width"),
        (
            "mlp",
            {"activation": "swish"},
            ["activation is 'swish'", "relu, tanh, gelu, sigmoid"],
            "another one",
        ),
        ("linear", {"num_classes": 2.0}, ["num_classes is 2.0", "whole number"], "a float"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(name, arguments, words, why):
    with pytest.raises(LandscapeError) as caught:
        build(name, **arguments)
    message = str(caught.value)
    assert message.startswith("mine.yaml: model"), why
    assert "\n" not in message, why
    for word in words:
        assert word in message, why


def test_a_target_builds_a_network():
    configuration = ModelConfiguration(
        target="torch.nn:Linear", arguments={"in_features": 3, "out_features": 2}
    )
    assert isinstance(build_network(configuration, where="x", folders=[]), nn.Linear)


def test_a_target_that_returns_something_else_is_refused():
    configuration = ModelConfiguration(target="torch:zeros", arguments={"size": [2]})
    with pytest.raises(
        LandscapeError, match=r"mine.yaml: model.target 'torch:zeros'.*Tensor.*torch.nn.Module"
    ):
        build_network(configuration, where="mine.yaml", folders=[])
