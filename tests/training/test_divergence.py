import itertools
import math

import pytest
import torch

from mpi_landscape.training.divergence import DivergedError, LossWatch


def test_on_a_cpu_a_loss_that_is_not_finite_is_told_at_once():
    watch = LossWatch(torch.device("cpu"))
    watch.note(torch.tensor(1.0), step=1, epoch=2)
    with pytest.raises(DivergedError, match=r"^the loss is nan at step 2 of epoch 2$"):
        watch.note(torch.tensor(math.nan), step=2, epoch=2)


@pytest.mark.parametrize("bad", [1, 5, 15, 16, 17, 40])
def test_on_a_gpu_the_first_loss_that_is_not_finite_is_told_soon(bad):
    # The device only says how often to read; the losses may lie anywhere.
    watch = LossWatch(torch.device("cuda"))
    steps = iter(range(1, bad + 16))

    def note(last):
        for step in itertools.islice(steps, last):
            watch.note(torch.tensor(math.inf if step >= bad else 0.5), step=step, epoch=3)

    note(bad - 1)
    with pytest.raises(DivergedError, match=f"^the loss is inf at step {bad} of epoch 3$"):
        note(16)


def test_what_was_not_read_yet_can_be_read_and_is_then_forgotten():
    watch = LossWatch(torch.device("cuda"))
    watch.note(torch.tensor(math.inf), step=1, epoch=1)
    with pytest.raises(DivergedError, match="step 1 of epoch 1"):
        watch.read()
    watch.read()
