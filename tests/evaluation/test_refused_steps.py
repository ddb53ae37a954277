"""What a step refuses by looking at one pass, and says so in a line."""

from random import Random

import pytest
import torch
from torch import nn

from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.choosing import choose_engine
from mpi_landscape.evaluation.engine.steps import STEPS
from mpi_landscape.evaluation.probe import probe_points
from mpi_landscape.loading.batches import Batch
from tests.evaluation import random_blocks as blocks
from tests.evaluation.random_blocks import CHANNELS, SIZE, Block, conv, norm
from tests.evaluation.random_heads import INPUTS, PREPARATIONS, Head, spread
from tests.evaluation.test_engines import cross_entropy, setting_of


class First(Random):
    """Always the first choice, and a small number."""

    def random(self):
        return 0.0

    def randrange(self, *_):
        return 0

    def choice(self, of):
        return of[0]


def of_images(block):
    torch.manual_seed(0)
    return nn.Sequential(block, Head(First())).eval(), torch.randn(8, CHANNELS, SIZE, SIZE)


def of_rows(how):
    torch.manual_seed(0)
    block = Block(
        lambda s, x: spread(s.first(PREPARATIONS[how](s, x))),
        first=nn.Linear(INPUTS, 8),
        mean=torch.randn(INPUTS),
        edge=torch.tensor(6.0),
        shift=nn.Parameter(torch.randn(INPUTS)),
        order=torch.randperm(INPUTS),
    )
    return nn.Sequential(block, Head(First())).eval(), torch.randn(8, INPUTS)


def tried(made, *steps):
    model, inputs = made
    batch = Batch(data=[inputs, torch.arange(8) % 3], valid=8)
    with exact_arithmetic():
        setting = setting_of(model, loss=cross_entropy)
        return choose_engine(
            setting, batch, probe_points([(-1.0, 1.0)] * 2), dtype=torch.float32, steps=steps
        )


REFUSED = {
    "a parameter decides": (
        blocks.decided_by_a_parameter,
        "folded",
        "item of the parameters is read at random_blocks.py",
    ),
    "the data decide": (blocks.decided_by_the_data, "folded", "item of the data is read at random_blocks.py"),
    "examples are routed": (blocks.routed, "folded", "of the data is read at random_blocks.py"),
    "a parameter past its attribute": (blocks.decided_by_hidden_parameters, "fused", "operation "),
    "a sum in place": (blocks.sum_in_place_of_what_is_used_again, "fused", "operation "),
    "a hook": (blocks.with_hooks, "fused", "0.0 has a hook"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_step_refuses_in_words(case):
    block, step, words = REFUSED[case]
    steps = ("channels_last", "fused") if step == "fused" else (step,)
    engine, dropped = tried(of_images(block(First())), *steps)
    assert not engine.value(STEPS[step])
    assert len(dropped) == 1
    assert words in dropped[0]


UNFOLDED = {
    "the layer's output also goes elsewhere": blocks.layer_and_norm_apart,
    "the output is changed before": blocks.changed_before_the_norm,
    "a layer twice": blocks.used_twice,
    "the weight by itself": blocks.used_by_its_weight,
    "past the hooks": blocks.called_past_its_hooks,
    "a tied weight": blocks.tied,
    "a parametrized weight": blocks.parametrized,
}


@pytest.mark.parametrize("case", UNFOLDED)
def test_a_normalization_is_left_alone_where(case):
    engine, dropped = tried(of_images(UNFOLDED[case](First())), "folded")
    assert (engine.value(STEPS["folded"]), dropped) == ((), []), (
        "nothing is proposed that a trial would have to find"
    )


def test_a_normalization_that_follows_its_layer_is_folded():
    assert tried(of_images(nn.Sequential(conv(), norm())), "folded")[0].value(STEPS["folded"]) == (
        ("0.0", "0.1"),
    )


@pytest.mark.parametrize("how", sorted(PREPARATIONS.keys() - {"shared"}))
def test_a_first_layer_is_one_whose_input_no_parameter_enters(how):
    free = {"nothing", "standardized", "permuted"}
    engine, dropped = tried(of_rows(how), "first_layer")
    assert bool(engine.value(STEPS["first_layer"])) == (how in free)
    assert all("is read at" in line for line in dropped), "no trial was needed"


def test_torch_s_group_normalization_rounds_more_in_channels_last_order_and_so_is_left_in_its_own():
    torch.manual_seed(0)
    layer, images = nn.GroupNorm(2, 8), torch.randn(4, 8, 6, 6) + 100
    with torch.no_grad():
        exact = nn.functional.group_norm(images.double(), 2)
        own, other = (
            (layer(each) - exact).abs().max()
            for each in (images, images.to(memory_format=torch.channels_last))
        )
    assert other > 50 * own, "where torch has learnt better, the step may be taken"
    made = of_images(nn.Sequential(conv(), nn.GroupNorm(2, CHANNELS)))
    engine, dropped = tried(made, "channels_last")
    assert engine.value(STEPS["channels_last"]) == ()
    assert "group normalization" in dropped[0]
