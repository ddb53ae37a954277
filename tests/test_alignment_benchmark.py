"""The benchmark of alignment: the barrier of the line between two seeds of a wide perceptron is at most half of what it was."""

import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def alignment(monkeypatch):
    """The program, as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "alignment", raising=False)
    import alignment

    assert Path(alignment.__file__).parent == BENCHMARKS
    yield alignment
    sys.modules.pop("alignment", None)


def test_the_line_of_a_case_has_the_losses_of_its_ends_and_of_the_middle(alignment):
    case = alignment.CASES["perceptron 64 x 2, digits"]
    data = case.data()
    torch.manual_seed(0)
    start, end = case.make().state_dict(), case.make().state_dict()
    found = alignment.line(case, data, start, end)
    network = case.make()
    for number, share in ((0, 0.0), (12, 0.5), (24, 1.0)):
        network.load_state_dict({name: (1 - share) * start[name] + share * end[name] for name in start})
        for split in ("train", "test"):
            wanted = torch.nn.functional.cross_entropy(
                network(getattr(data, split)[0]), getattr(data, split)[1]
            )
            assert found[split][number] == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", ["perceptron 512, digits", "perceptron 512 x 2, digits", "perceptron 512 x 2, MNIST-1D"]
)
def test_the_barrier_between_two_seeds_of_a_wide_perceptron_is_at_most_half_after_alignment(alignment, name):
    found = alignment.barriers_of(alignment.CASES[name])
    assert found.alignment.distance_after < found.alignment.distance_before
    for split in ("train", "test"):
        assert found.before[split] > 0.1
        assert found.after[split] <= found.before[split] / 2
