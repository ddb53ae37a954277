"""The models of torchvision and timm by name: theirs to the last bit, their weights from disk only unless asked."""

import re
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from mpi_landscape.configuration.sections.sources import ModelConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.checkpoints import read_state
from mpi_landscape.problem.networks.table import build_network


def build(name, **arguments):
    return build_network(ModelConfiguration(name=name, arguments=arguments), where="mine.yaml", folders=[])


def refusal(name, **arguments):
    with pytest.raises(LandscapeError) as caught:
        build(name, **arguments)
    message = str(caught.value)
    assert message.startswith("mine.yaml: model: ")
    assert "\n" not in message
    return message


def same_state(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch.hub, and no way out."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def published(cache):
    """What stands for squeezenet's published weights, which are in the cache; and its file."""
    network = torchvision.models.squeezenet1_1(weights=None)
    file = cache / Path(torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url).name
    torch.save(network.state_dict(), file)
    return network, file


@pytest.mark.parametrize(
    ("name", "arguments", "size"),
    [
        ("mobilenet_v2", {}, (3, 64, 32)),
        ("mobilenet_v2", {"num_classes": 7, "width_mult": 0.5}, (3, 32, 32)),
        ("resnet18", {"num_classes": 10}, (3, 32, 32)),
        ("vit_b_16", {"image_size": 32, "num_classes": 3}, (3, 32, 32)),
    ],
)
def test_a_network_of_torchvision_is_torchvisions_own(name, arguments, size):
    torch.manual_seed(3)
    theirs = torchvision.models.get_model(name, weights=None, **arguments).eval()
    torch.manual_seed(3)
    ours = build(f"torchvision/{name}", **arguments).eval()
    assert same_state(ours, theirs)
    images = torch.randn(2, *size)
    with torch.no_grad():
        outputs = ours(images)
        assert torch.equal(outputs, theirs(images))
    assert outputs.shape == (2, arguments.get("num_classes", 1000))


@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121", "resnet50", "vgg16", "alexnet"])
def test_a_network_of_torchvision_has_the_published_number_of_parameters(name):
    weights = torchvision.models.get_model_weights(name).DEFAULT
    with torch.device("meta"):
        network = build(f"torchvision/{name}")
    assert sum(parameter.numel() for parameter in network.parameters()) == weights.meta["num_params"]


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_published_weights_are_taken_from_the_cache(published, weights):
    network, _ = published
    assert same_state(build("torchvision/squeezenet1_1", weights=weights), network)


def test_published_weights_that_are_not_cached_are_fetched_only_when_asked(cache):
    message = refusal("torchvision/squeezenet1_1", weights="DEFAULT")
    assert "download: true" in message
    assert str(cache) in message
    assert "https://download.pytorch.org" in message
    assert list(cache.iterdir()) == []


def test_offline_a_download_is_refused_with_the_place_for_the_file(cache):
    message = refusal("torchvision/squeezenet1_1", weights="DEFAULT", download=True)
    assert "cannot be fetched" in message
    assert str(cache) in message
    assert list(cache.iterdir()) == []


def test_a_cached_file_that_would_run_code_is_refused(published):
    _, file = published
    torch.save({"weight": Path}, file)
    assert "could run code" in refusal("torchvision/squeezenet1_1", weights="DEFAULT")


class FromElsewhere:
    """Pickles to a call of a function of a package."""

    def __reduce__(self):
        return torchvision.io.read_file, ("x",)


@pytest.mark.parametrize("beside", [Path("x"), FromElsewhere()], ids=lambda each: type(each).__name__)
def test_what_this_program_would_leave_unread_is_refused_in_a_file_that_torchvision_reads(published, beside):
    network, file = published
    torch.save({"state_dict": network.state_dict(), "beside": beside}, file)
    assert len(read_state(file)) == len(network.state_dict())
    assert "could run code" in refusal("torchvision/squeezenet1_1", weights="DEFAULT")


def test_published_weights_keep_their_number_of_classes(published):
    message = refusal("torchvision/squeezenet1_1", weights="DEFAULT", num_classes=10)
    assert re.search(r"num_classes.*1000.*10", message)


def test_weights_of_a_file_are_loaded(tmp_path, cache):
    network = torchvision.models.squeezenet1_1(weights=None, num_classes=4)
    torch.save(network.state_dict(), tmp_path / "own.pth")
    file = str(tmp_path / "own.pth")
    assert same_state(build("torchvision/squeezenet1_1", weights=file, num_classes=4), network)
    assert "does not fit the network" in refusal("torchvision/squeezenet1_1", weights=file)
    assert "no such checkpoint" in refusal("torchvision/squeezenet1_1", weights=f"{tmp_path}/absent.pth")


def test_weights_by_an_unknown_name_are_refused():
    message = refusal("torchvision/squeezenet1_1", weights="DEFALT")
    assert "valid are IMAGENET1K_V1, DEFAULT" in message
    assert "did you mean 'DEFAULT'" in message


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("torchvision/mobilnet_v2", {}, ["torchvision/mobilnet_v2", "did you mean 'mobilenet_v2'"]),
        ("torchvision/", {}, ["no such classification model"]),
        ("torchvision/fcn_resnet50", {}, ["no such classification model"]),
        ("torchvision/mobilenet_v2", {"widht_mult": 2}, ["unexpected keyword argument 'widht_mult'"]),
        ("torchvision/mobilenet_v2", {"num_classes": 0}, ["num_classes is 0", "at least 1"]),
        ("torchvision/mobilenet_v2", {"weights": 3}, ["weights is 3", "DEFAULT"]),
        ("torchvision/mobilenet_v2", {"download": "yes"}, ["download is 'yes'", "true or false"]),
    ],
)
def test_a_network_of_torchvision_that_cannot_be_built_is_refused(name, arguments, words):
    message = refusal(name, **arguments)
    for word in words:
        assert word in message


def test_a_network_of_timm_is_timms_own():
    timm = pytest.importorskip("timm", reason="no timm: pip install timm")
    torch.manual_seed(3)
    theirs = timm.create_model("resnet18", num_classes=5, in_chans=1).eval()
    torch.manual_seed(3)
    ours = build("timm/resnet18", num_classes=5, in_chans=1).eval()
    assert same_state(ours, theirs)
    images = torch.randn(2, 1, 32, 48)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def test_a_network_of_timm_that_cannot_be_built_is_refused():
    pytest.importorskip("timm", reason="no timm: pip install timm")
    assert "did you mean 'resnet18'" in refusal("timm/resnt18")
    assert "unexpected keyword argument 'widht'" in refusal("timm/resnet18", widht=3)


def test_without_timm_its_networks_are_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    message = refusal("timm/resnet18")
    assert "'timm/resnet18' needs timm" in message
    assert "pip install timm" in message
