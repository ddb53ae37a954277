"""Directions that are made anew, block by block: the numbers that the vectors have."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.blocks import add_squares, blocks, per_filter
from mpi_landscape.geometry.directions import difference, orthogonalize, random_direction
from mpi_landscape.geometry.kept import KeptPlane, look, multiple
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.normalization import normalize
from mpi_landscape.geometry.recipe import Recipe

SHAPES = {
    "nothing": (),
    "a row": (7,),
    "fits": (2, 3),
    "rows": (5, 4),
    "a row is larger": (3, 11),
    "experts": (2, 3, 5),
    "one in front": (1, 13, 2),
    "empty": (0, 4),
}


def network():
    torch.manual_seed(2)
    return nn.Sequential(nn.Embedding(600, 700), nn.Linear(700, 3), nn.LayerNorm(3)).bfloat16()


def fitted(recipe, layout, center):
    return recipe.with_scales(
        {
            each.name: recipe.fitted(each, center[each.name])
            for each in layout.entries
            if each.name in recipe.moving
        }
    )


def whole(recipe, layout, center):
    """The direction as a vector."""
    vector = torch.zeros(layout.size)
    for entry in layout.entries:
        for block, numbers in recipe.made(entry, center[entry.name]) if entry.name in recipe.moving else ():
            vector[entry.offset + block.start : entry.offset + block.stop] = torch.from_numpy(numbers)
    return vector


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_number_is_in_one_block_and_no_block_is_too_large(shape):
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    found = []
    for block in blocks(shape, most=4):
        assert numbers[block.index].shape == block.shape
        assert numbers[block.index].ravel().tolist() == list(range(block.start, block.stop))
        assert block.stop - block.start <= 4
        found += range(block.start, block.stop)
    assert found == list(range(numbers.size))


@pytest.mark.parametrize("axes", [(), (0,), (1,), (0, 1), (2,)])
def test_a_filter_that_reaches_over_blocks_has_all_of_its_squares(axes):
    tensor = np.random.default_rng(1).standard_normal((3, 4, 5)).astype(np.float32)
    found = per_filter(tensor.shape, axes)
    for block in blocks(tensor.shape, most=7):
        add_squares(found, block, tensor.ravel()[block.start : block.stop], axes)
    over = tuple(axis for axis in range(3) if axis not in axes)
    np.testing.assert_allclose(found, (tensor.astype(float) ** 2).sum(axis=over, keepdims=True), rtol=1e-14)


@pytest.mark.parametrize("how", ["filter", "layer", "weight", "none"])
def test_the_numbers_are_those_of_the_vectors(how):
    model = network()
    layout, center = layout_of(model), dict(model.named_parameters())
    recipe = Recipe(moving=frozenset(center), seed=3, how=how)
    found = whole(fitted(recipe, layout, center), layout, center)
    flat = layout.flatten(center, where="test")
    wanted = normalize(random_direction(layout, seed=3), flat, layout, how=how)
    # A norm is added up in another order, which moves a number in a million by its last bit.
    torch.testing.assert_close(found, wanted, rtol=1.2e-7, atol=0)
    assert float((found != wanted).double().mean()) < 1e-4


def test_a_difference_leads_to_the_end_and_leaves_what_does_not_move():
    model, other = network(), network()
    with torch.no_grad():
        for each in other.parameters():
            each.add_(0.25)
    layout, center, end = layout_of(model), dict(model.named_parameters()), dict(other.named_parameters())
    recipe = Recipe(moving=frozenset(center) - {"1.bias"}, end=end)
    found = whole(recipe, layout, center)
    wanted = difference(layout.flatten(center, where="test"), layout.flatten(end, where="test"))
    [bias] = [entry for entry in layout.entries if entry.name == "1.bias"]
    wanted[bias.offset : bias.stop] = 0
    assert torch.equal(found, wanted)


def test_what_is_orthogonalized_is_orthogonal_before_it_is_normalized():
    model = network()
    layout, center = layout_of(model), dict(model.named_parameters())
    alpha = fitted(Recipe(moving=frozenset(center), seed=1, how="filter"), layout, center)
    beta = Recipe(moving=frozenset(center), seed=2)
    beta = replace(beta, against=alpha, factor=multiple(beta, alpha, layout, center))
    found = whole(beta, layout, center)
    torch.testing.assert_close(
        found,
        orthogonalize(random_direction(layout, seed=2), whole(alpha, layout, center)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_direction_that_is_parallel_to_the_other_is_refused():
    model = network()
    layout, center = layout_of(model), dict(model.named_parameters())
    alpha = Recipe(moving=frozenset(center), seed=1)
    with pytest.raises(LandscapeError, match="the two directions are parallel"):
        multiple(alpha, alpha, layout, center)


def test_a_point_is_rounded_once_to_the_type_of_each_tensor():
    model = network()
    model[2].float()
    layout, center = layout_of(model), {name: each.detach() for name, each in model.named_parameters()}
    directions = {
        "alpha": fitted(Recipe(moving=frozenset(center), seed=1, how="filter"), layout, center),
        "beta": fitted(Recipe(moving=frozenset(center), seed=2, how="filter"), layout, center),
    }
    looks = tuple(look(entry, center[entry.name], list(directions.values())) for entry in layout.entries)
    plane = KeptPlane(layout=layout, center=center, directions=directions, looks=looks)
    alpha, beta = (layout.views(whole(each, layout, center)) for each in directions.values())
    for entry in layout.entries:
        at = center[entry.name]
        wanted = (at.float() + 0.3 * alpha[entry.name] - 1.7 * beta[entry.name]).to(at.dtype)
        found = torch.cat([value for _, value in plane.values(entry, (0.3, -1.7))])
        assert found.dtype == at.dtype
        assert torch.equal(found, wanted.reshape(-1))
    assert plane.types == "bfloat16 (3 tensors), float32 (2 tensors)"


def test_a_direction_that_is_not_finite_is_refused():
    model = network()
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nan
    layout, center = layout_of(model), dict(model.named_parameters())
    recipe = fitted(Recipe(moving=frozenset(["1.weight"]), seed=1, how="filter"), layout, center)
    entry = next(each for each in layout.entries if each.name == "1.weight")
    with pytest.raises(LandscapeError, match=r"tensor 1\.weight is not finite"):
        look(entry, center["1.weight"], [recipe])
