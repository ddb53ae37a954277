"""`inspect --sharpness`: the bowl of the study has its maximum over the box in closed form."""

import json

import pytest
import torch

from mpi_landscape import inspect, surface
from mpi_landscape.evaluation.gradients import Gradients


def closed_form(study, epsilon):
    """The greatest mean loss of the training data: every coordinate of the bowl at the far end of its side."""
    center = torch.load(study.folder / "center.pt")
    weight, bias = center["weight"].double().reshape(-1), center["bias"].double()
    steep = torch.arange(1, 13).double() / 4
    far = (weight - 0.5).abs() + epsilon * (weight.abs() + 1), bias.abs() + epsilon * (bias.abs() + 1)
    here = (weight - 0.5).abs(), bias.abs()
    low, high = (float((steep * a**2).sum() / 2 + (b**2).sum() / 2) + 4.5 / 64 for a, b in (here, far))
    return low, high


@pytest.mark.parametrize("arguments", [(), ("--steps", "30", "--seed", "7")])
def test_the_sharpness_of_a_bowl_is_its_closed_form(study, here, computed, arguments):
    computed()
    ended = here(inspect.main, "--sharpness", "0.05", study.output, study.configuration, "--json", *arguments)
    assert ended.status == 0, ended.err
    found = json.loads(ended.out[ended.out.index("{") :])
    low, high = closed_form(study, 0.05)
    assert found["split"] == "train"
    assert found["numbers"] == 17, "biases move too: the box is around all parameters"
    assert found["loss"] == pytest.approx(low, rel=1e-5)
    assert found["greatest"] == pytest.approx(high, rel=1e-5)
    assert found["sharpness"] == pytest.approx((high - low) / (1 + low) * 100, rel=1e-4)


def test_people_are_told_that_it_is_a_lower_bound_and_by_how_many_steps(study, here, computed):
    computed("--line", "--set", "compute.save_vectors=false")
    ended = here(inspect.main, "--sharpness", "1e-3", study.output, study.configuration)
    assert "sharpness    at least" in ended.out
    assert "steps of projected gradient ascent from seed 1" in ended.out
    assert "a lower bound by nature" in ended.out


def test_the_network_is_left_where_it_was_and_threads_leave_no_trace(study, here, computed):
    computed()
    study.edit("batch_size: 4,", "batch_size: 4, threads: 3,")
    first = here(inspect.main, "--sharpness", "0.05", study.output, study.configuration, "--json").out
    study.edit("threads: 3", "threads: 1")
    second = here(inspect.main, "--sharpness", "0.05", study.output, study.configuration, "--json").out
    assert first[first.index("{") :] == second[second.index("{") :]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sharpness", "0"), "expected a number above 0"),
        (("--sharpness", "much"), "expected a number above 0"),
        (("--sharpness", "1e-3", "--steps", "0"), "expected at least 1 step"),
        (("--sharpness", "1e-3", "--check"), "stands by itself"),
        (("--steps", "5"), "are those of --sharpness"),
    ],
)
def test_what_cannot_be_climbed_is_refused(study, here, computed, arguments, words):
    computed()
    ended = here(inspect.main, study.output, study.configuration, *arguments)
    assert ended.status == 2
    assert words in ended.err


def test_another_center_and_a_precision_of_few_bits_are_refused(study, here, computed):
    computed()
    ended = here(inspect.main, "--sharpness", "1e-3", study.output)
    assert "needs a surface file and its configuration" in ended.err
    torch.save({"weight": torch.zeros(3, 4), "bias": torch.zeros(5)}, study.folder / "center.pt")
    ended = here(inspect.main, "--sharpness", "1e-3", study.output, study.configuration)
    assert ended.status == 2
    assert "has another center" in ended.err
    study.edit("device: cpu", "device: cpu, precision: bfloat16")
    ended = here(inspect.main, "--sharpness", "1e-3", study.output, study.configuration)
    assert "in which small displacements are lost" in ended.err


def test_a_frozen_parameter_and_a_tied_one_count_as_they_move(study, here, computed):
    study.edit_module(
        "self.bias = nn.Parameter(torch.zeros(5))",
        "self.bias = nn.Parameter(torch.zeros(5), requires_grad=False)",
    )
    computed()
    ended = here(inspect.main, "--sharpness", "0.05", study.output, study.configuration, "--json")
    assert json.loads(ended.out[ended.out.index("{") :])["numbers"] == 12


def test_it_is_the_gradient_of_every_quantity_that_needs_one():
    # One piece of code adds gradients for the map of norms and for the climb.
    from mpi_landscape.evaluation import gradient_norm
    from mpi_landscape.surfaces import sharpness

    assert gradient_norm.Gradients is sharpness.Gradients is Gradients


def test_a_complete_surface_is_not_needed(study, here):
    here(surface.main, study.configuration, "--alpha=0:1:2", "--line")
    ended = here(inspect.main, "--sharpness", "0.05", study.output, study.configuration)
    assert ended.status == 0, ended.err
