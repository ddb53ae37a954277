"""Right or refused: every problem of the table has its right values, or one line that says why it has none."""

from pathlib import Path

import h5py
import pytest

import mpi_landscape
from tests.relatives.judging import judge
from tests.relatives.page import PAGE
from tests.relatives.table import all_cases, named

# One of each kind.
DAILY = {
    "hook_fills_dict", "nonlocal_variable", "captured_forward", "numpy_view", "merging_in_training", "cached_for_ever",
    "plane_statistics", "integer_table", "zero_at_solution", "slow_state", "gpt2", "large_times", "complex_parameters",
    "scripted", "raises_in_the_middle", "in_place_sum", "other_closure", "default_device", "replaced_input",
}  # fmt: skip


def marks(case):
    found = [] if case.name in DAILY else [pytest.mark.exhaustive]
    return [*found, pytest.mark.mpi] if case.ranks > 1 else found


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.kind}-{case.name}", marks=marks(case)) for case in all_cases()]
)
@pytest.mark.filterwarnings("ignore")
def test_a_problem_is_right_or_refused(case, tmp_path, request):
    launcher = request.getfixturevalue("mpiexec") if case.ranks > 1 else None
    outcome = judge(case, tmp_path, launcher)
    assert outcome.good, f"{outcome.found}: {outcome.words} (largest error {outcome.error})"


def test_a_wrong_value_is_seen(tmp_path, monkeypatch):
    honest = mpi_landscape.landscape

    def slightly_off(*arguments, output, **options):
        honest(*arguments, output=output, **options)
        with h5py.File(output, "r+") as file:
            file["train_loss"][-1, -1] *= 1 + 1e-4

    monkeypatch.setattr(mpi_landscape, "landscape", slightly_off)
    outcome = judge(named("global_counter"), tmp_path)
    assert (outcome.good, outcome.found) == (False, "WRONG")
    assert outcome.error == pytest.approx(1e-4, rel=0.01)


def test_a_needless_refusal_and_a_raw_error_are_seen(tmp_path, monkeypatch):
    for error in (mpi_landscape.LandscapeError("no"), ValueError("no")):

        def refusing(*arguments, error=error, **options):
            raise error

        monkeypatch.setattr(mpi_landscape, "landscape", refusing)
        assert not judge(named("global_counter"), tmp_path).good


def test_names_are_unique_and_kinds_have_eight_cases_or_more():
    cases = all_cases()
    assert len({case.name for case in cases}) == len(cases)
    kinds = [case.kind for case in cases]
    assert all(kinds.count(kind) >= 8 for kind in set(kinds))
    assert {case.name for case in cases} >= DAILY


def test_the_page_has_every_case():
    text = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    missing = [
        case.name for case in all_cases() if f"| {case.what.replace('|', chr(92) + '|')} |" not in text
    ]
    assert not missing, f"python -m tests.relatives --write; missing: {missing}"
