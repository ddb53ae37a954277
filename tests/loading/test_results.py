import pytest
import torch

from mpi_landscape.loading.results import correct_of, losses_of, named

VALUES, RIGHT = torch.tensor([0.5, 2.0]), torch.tensor([True, False])


@pytest.mark.parametrize(
    ("result", "correct", "names", "reason"),
    [
        (VALUES, None, ["loss"], "a tensor is the loss"),
        ({"loss": VALUES}, None, ["loss"], "a mapping may tell no more"),
        ({"loss": VALUES, "correct": None}, None, ["loss", "correct"], "None stands for not told"),
        ({"correct": RIGHT, "loss": VALUES}, RIGHT, ["correct", "loss"], "whether each answer is right"),
        ({"loss": VALUES, "top5": RIGHT}, None, ["loss", "top5"], "further names"),
    ],
)
def test_losses_and_correct_answers_are_found_in_what_a_loss_function_returned(
    result, correct, names, reason
):
    assert losses_of(result) is VALUES, reason
    assert correct_of(result) is correct, reason
    assert list(named(result)) == names, reason
