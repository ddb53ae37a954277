import pytest


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_rank_gets_every_row_as_its_owner_has_made_it(outcome, size):
    assert outcome(size, "exchange_job.py") == [[]] * size
