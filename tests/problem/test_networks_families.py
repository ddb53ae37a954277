"""The networks of the studies beside the plain residual ones, against their papers and other libraries."""

import itertools
import math

import pytest
import torch
import torchvision
from torch import nn

from mpi_landscape.configuration.sections.sources import ModelConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.losses import cross_entropy, mse, nll
from mpi_landscape.problem.networks.table import build_network

pytestmark = pytest.mark.exhaustive


def build(name, **arguments):
    return build_network(ModelConfiguration(name=name, arguments=arguments), where="mine.yaml", folders=[])


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def num_of_wide_resnet(depth, k, *, projections):
    """Count by hand: convolutions without bias, two per normalised channel, a linear layer."""
    n, widths = (depth - 2) // 6, (16 * k, 32 * k, 64 * k)
    first = 9 * 3 * widths[0] + 2 * widths[0]
    inside = sum((2 * n - 1) * 9 * w * w + 2 * n * 2 * w for w in widths)
    entering = sum(
        9 * a * b for a, b in ((widths[0], widths[0]), (widths[0], widths[1]), (widths[1], widths[2]))
    )
    past = sum(a * b + 2 * b for a, b in ((widths[0], widths[1]), (widths[1], widths[2])))
    return first + inside + entering + projections * past + 10 * widths[2] + 10


@pytest.mark.parametrize("k", [1, 2, 4, 8])
@pytest.mark.parametrize(("end", "projections"), [("", True), ("_noshort", False)])
def test_a_wide_resnet_has_the_number_of_parameters_of_its_formula(k, end, projections):
    with torch.device("meta"):
        network = build(f"wrn56_{k}{end}")
    assert num_parameters(network) == num_of_wide_resnet(56, k, projections=projections)


def test_a_wide_resnet_is_a_residual_network_with_more_filters():
    wide, plain = build("wrn14_3_noshort"), build("resnet14_noshort", width=48)
    plain.load_state_dict(wide.state_dict())
    images = torch.randn(2, 3, 9, 13)
    torch.testing.assert_close(wide.eval()(images), plain.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize("depth", [121, 169, 201])
def test_a_densenet_differs_from_torchvisions_in_its_first_layer_and_its_classes(depth):
    with torch.device("meta"):
        ours = num_parameters(build(f"densenet{depth}"))
        theirs = num_parameters(torchvision.models.get_model(f"densenet{depth}", weights=None))
        inputs = build(f"densenet{depth}").linear.in_features
    # 7×7 and its normalisation there, 3×3 here; 1000 classes there, 10 here.
    assert ours == theirs - (3 * 49 * 64 + 2 * 64) + 3 * 9 * 64 - (1000 - 10) * (inputs + 1)


def test_densenet_121_has_as_many_parameters_on_imagenet_as_published():
    # torchvision's table gives 7,978,856; what the 10 classes and the smaller first layer save is counted by hand.
    saved = (1000 - 10) * (1024 + 1) + 3 * (49 - 9) * 64 + 2 * 64
    assert num_parameters(build("densenet121")) + saved == 7978856


def densenet_of_torchvision(ours, growth, blocks):
    """torchvision's DenseNet with our first layer and weights; it appends new channels where ours prepends."""
    theirs = torchvision.models.DenseNet(growth, blocks, 2 * growth, num_classes=5).double()
    theirs.features.conv0 = ours.conv1
    for name in ("norm0", "relu0", "pool0"):
        setattr(theirs.features, name, nn.Identity())

    def reordered(channels, layers):
        """Where their channels are among ours, when so many layers have added theirs."""
        added = [range((layers - 1 - layer) * growth, (layers - layer) * growth) for layer in range(layers)]
        return [*range(layers * growth, channels), *itertools.chain(*added)]

    def copy(source, target, order):
        state = source.state_dict()
        if isinstance(source, nn.BatchNorm2d):
            state = {name: value[order] if value.ndim else value for name, value in state.items()}
        else:
            state["weight"] = state["weight"][:, order]
        target.load_state_dict(state)

    channels = 2 * growth
    for number, layers in enumerate(blocks, 1):
        for index, layer in enumerate(getattr(ours, f"dense{number}")):
            peer = getattr(theirs.features, f"denseblock{number}")[f"denselayer{index + 1}"]
            order = reordered(channels, index)
            copy(layer.bn1, peer.norm1, order)
            copy(layer.conv1, peer.conv1, order)
            peer.norm2.load_state_dict(layer.bn2.state_dict())
            peer.conv2.load_state_dict(layer.conv2.state_dict())
            channels += growth
        order = reordered(channels, layers)
        if number < len(blocks):
            between = getattr(ours, f"trans{number}")
            copy(between.bn, getattr(theirs.features, f"transition{number}").norm, order)
            copy(between.conv, getattr(theirs.features, f"transition{number}").conv, order)
            channels //= 2
    copy(ours.bn, theirs.features.norm5, order)
    copy(ours.linear, theirs.classifier, order)
    return theirs


def test_a_densenet_computes_what_torchvisions_computes_after_the_first_layer():
    ours = build("densenet121", growth=4, num_classes=5).double().eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    theirs = densenet_of_torchvision(ours, 4, (6, 12, 24, 16)).eval()
    images = torch.randn(2, 3, 17, 24, dtype=torch.float64)
    torch.testing.assert_close(ours(images), theirs(images))


def test_vgg_9_has_seven_convolutions_and_two_linear_layers_as_its_paper_says():
    # Li et al. (2018), arXiv:1712.09913, appendix; kernels and biases, and two per normalised channel.
    filters = [3, 64, 64, 128, 128, 256, 256, 256]
    convolutions = sum(9 * a * b + 3 * b for a, b in itertools.pairwise(filters))
    linear = 256 * 4 * 4 * 256 + 256 + 2 * 256 + 256 * 10 + 10
    network = build("vgg9")
    assert num_parameters(network) == convolutions + linear
    assert [type(each).__name__ for each in network.modules()].count("Conv2d") == 7


def test_vgg_9_starts_like_vgg_16_of_torchvision():
    theirs = torchvision.models.vgg16_bn(weights=None, num_classes=10)
    ours = build("vgg9")
    first = {name: value.shape for name, value in theirs.features.state_dict().items()}
    for name, value in ours.features.state_dict().items():
        assert value.shape == first[name]
    ours.features.load_state_dict(
        {name: theirs.features.state_dict()[name] for name in ours.features.state_dict()}
    )
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        ours.eval().features(images), theirs.eval().features[: len(ours.features)](images)
    )


def test_the_tensors_of_vgg_and_densenet_have_the_names_of_the_reference_code():
    vgg = set(build("vgg9", width=2).state_dict())
    assert {
        "features.0.weight",
        "features.21.running_var",
        "fc.0.weight",
        "fc.1.bias",
        "classifier.bias",
    } <= vgg
    densenet = set(build("densenet121", growth=2).state_dict())
    assert {"conv1.weight", "dense1.0.bn1.weight", "dense4.15.conv2.weight", "trans3.conv.weight"} <= densenet
    assert {"trans1.bn.running_mean", "bn.bias", "linear.weight"} <= densenet


def test_alexnet_has_the_convolutions_of_torchvisions_and_nothing_but_relu_and_pooling():
    theirs = [
        each for each in torchvision.models.alexnet(weights=None).modules() if isinstance(each, nn.Conv2d)
    ]
    network = build("alexnet")
    ours = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    assert [each.weight.shape for each in ours] == [each.weight.shape for each in theirs]
    assert [each.stride for each in ours] == [each.stride for each in theirs]
    assert (
        num_parameters(network)
        == sum(each.weight.numel() + len(each.bias) for each in theirs) + 256 * 10 + 10
    )
    kinds = {type(each) for each in network.children()}
    assert kinds == {nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear}


def test_a_small_convolutional_network_has_the_same_parameters_with_and_without_shortcuts():
    expected = 9 * 3 * 64 + 64 + 3 * (9 * 64 * 64 + 64) + 64 * 10 + 10
    assert num_parameters(build("cnn")) == num_parameters(build("cnn_noshort")) == expected
    build("cnn").load_state_dict(build("cnn_noshort").state_dict())


@pytest.mark.parametrize(("name", "share"), [("cnn", 1.0), ("cnn_noshort", 0.0)])
def test_only_a_shortcut_leads_past_convolutions_of_zeros(name, share):
    network = build(name, width=3, blocks=1, num_classes=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[range(3), range(3), 1, 1] = 1
        network[-1].weight.copy_(torch.eye(3))
    images = torch.rand(2, 3, 4, 6)
    expected = nn.functional.max_pool2d(images, 2).mean((2, 3))
    torch.testing.assert_close(network(images), share * expected)


def test_two_hidden_layers_of_384_units_make_the_network_of_about_450_000_parameters_on_mnist():
    network = build("mlp", hidden=[384, 384], input_size=[1, 28, 28])
    assert num_parameters(network) == (784 + 1) * 384 + (384 + 1) * 384 + (384 + 1) * 10
    assert abs(num_parameters(network) - 450_000) < 0.01 * 450_000


def test_the_negative_log_likelihood_of_log_probabilities_is_the_cross_entropy_of_logits():
    plain = build("mlp", hidden=[5], input_size=[1, 3, 2], num_classes=4)
    ended = build("mlp", hidden=[5], input_size=[1, 3, 2], num_classes=4, log_probabilities=True)
    ended.load_state_dict(plain.state_dict())
    images, labels = torch.randn(7, 1, 3, 2), torch.arange(7) % 4
    torch.testing.assert_close(nll(ended(images), labels), cross_entropy(plain(images), labels))
    torch.testing.assert_close(ended(images).exp().sum(dim=1), torch.ones(7))


@pytest.mark.parametrize("factors", [1, 2, 3])
def test_the_squared_error_of_a_product_is_the_known_surface(factors):
    network = build(f"product{factors}")
    direction, other = torch.linspace(-1.5, 0.7, factors), torch.linspace(0.4, -2, factors)
    inputs, targets = torch.randn(5, 3, 2), torch.zeros(5, 1)
    for alpha in (-1.0, 0.25, 2.0):
        for beta in (-0.5, 3.0):
            point = 1 + alpha * direction + beta * other
            with torch.no_grad():
                network.factors.copy_(point)
                losses = mse(network(inputs), targets)
            torch.testing.assert_close(losses, torch.full((5,), math.prod(point.tolist()) ** 2))


def test_the_curvature_of_the_over_parametrised_toy_is_known_at_its_start():
    network = build("product2", initial=[3, -0.5])

    def loss(factors):
        outputs = torch.func.functional_call(network, {"factors": factors}, torch.ones(1, 1))
        return mse(outputs, torch.zeros(1, 1)).mean()

    curvature = torch.autograd.functional.hessian(loss, network.factors.detach())
    # (w1 w2)²: 2 w2², 4 w1 w2, 2 w1².
    torch.testing.assert_close(curvature, torch.tensor([[0.5, -6.0], [-6.0, 18.0]]))


@pytest.mark.parametrize(
    ("name", "arguments", "size", "num_classes", "why"),
    [
        ("wrn8_2", {}, (3, 32, 32), 10, "CIFAR-10"),
        ("wrn8_1_noshort", {"input_size": [2, 9, 13]}, (2, 9, 13), 10, "odd, not square"),
        ("densenet121", {"growth": 4}, (3, 32, 32), 10, "CIFAR-10"),
        (
            "densenet",
            {"depth": 121, "growth": 3, "input_size": [1, 8, 8], "num_classes": 4},
            (1, 8, 8),
            4,
            "least",
        ),
        ("vgg9", {"num_classes": 100}, (3, 32, 32), 100, "CIFAR-100"),
        ("vgg9", {"width": 3, "input_size": [1, 28, 28]}, (1, 28, 28), 10, "MNIST: 28, 14, 7, 4"),
        ("vgg9", {"width": 3, "input_size": [2, 9, 13]}, (2, 9, 13), 10, "odd, not square"),
        ("alexnet", {}, (3, 32, 32), 10, "CIFAR-10"),
        ("alexnet", {"input_size": [1, 28, 28], "num_classes": 3}, (1, 28, 28), 3, "MNIST: 7, 4, 2, 1"),
        ("alexnet", {"input_size": [2, 33, 70]}, (2, 33, 70), 10, "larger, not square"),
        ("cnn", {}, (3, 32, 32), 10, "CIFAR-10"),
        (
            "cnn_noshort",
            {"width": 5, "input_size": [1, 8, 9], "num_classes": 3},
            (1, 8, 9),
            3,
            "digits and odd",
        ),
        ("product2", {}, (3, 32, 32), 1, "whatever the input"),
        ("product", {"factors": 3, "initial": [1, 2, 3]}, (7,), 1, "the number as an argument"),
    ],
)
def test_a_network_gives_one_row_of_outputs_per_image(name, arguments, size, num_classes, why):
    network = build(name, **arguments).eval()
    with torch.no_grad():
        assert network(torch.randn(2, *size)).shape == (2, num_classes), why


@pytest.mark.parametrize("name", ["densenet121", "vgg9", "alexnet", "cnn", "wrn8_2"])
def test_a_network_leaves_its_images_as_they_are(name):
    images = torch.randn(2, 3, 32, 32)
    kept = images.clone()
    with torch.no_grad():
        build(name).eval()(images)
    torch.testing.assert_close(images, kept, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "arguments", "words", "why"),
    [
        ("wrn56_2_noshrt", {}, ["did you mean 'wrn56_2_noshort'"], "a typo"),
        ("wrn57_2", {}, ["depth is 57", "6n + 2"], "no such depth"),
        ("wrn56_0", {}, ["width is 0"], "no filters"),
        (
            "wrn56_2",
            {"width": 16},
            ["width is said by the name wrn56_2", "use the name resnet"],
            "said twice",
        ),
        ("densnet121", {}, ["did you mean 'densenet121'"], "a typo"),
        ("densenet120", {}, ["depth is 120", "121, 169, 201, 264"], "no such depth"),
        ("densenet121", {"input_size": [3, 7, 32]}, ["input_size is [3, 7, 32]", "8×8"], "too low"),
        ("densenet121", {"growth": 0}, ["growth is 0"], "no growth"),
        ("densenet121", {"num_classes": 0}, ["num_classes is 0"], "no classes"),
        ("vgg9", {"input_size": [32, 32]}, ["channels, height, width"], "no channels"),
        ("vgg9", {"num_classes": -1}, ["num_classes is -1"], "negative"),
        ("vgg16", {}, ["valid names are", "vgg9", "torchvision/<model>"], "of torchvision"),
        ("alexnet", {"num_classes": "ten"}, ["num_classes is 'ten'"], "text"),
        ("alexnet", {"input_size": [3, 0, 32]}, ["input_size[1] is 0"], "no pixels"),
        ("cnn", {"shortcut": "projection"}, ["identity or none"], "of another network"),
        ("cnn_noshort", {"shortcut": "identity"}, ["shortcut is said by the name"], "said twice"),
        ("cnn", {"blocks": 0}, ["blocks is 0"], "no blocks"),
        ("product0", {}, ["factors is 0"], "no factors"),
        ("product2", {"initial": [1]}, ["initial is [1]", "list of 2"], "too few"),
        ("product2", {"initial": [1, True]}, ["finite numbers"], "a truth value"),
        ("product2", {"initial": [1, float("nan")]}, ["finite numbers"], "not a number"),
        ("product2", {"initial": 3}, ["initial is 3", "list of 2"], "not a list"),
        ("product", {"factors": 100000}, ["at most 1000"], "too many"),
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
