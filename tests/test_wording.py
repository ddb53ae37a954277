"""Words that messages share."""

import pytest

from mpi_landscape.wording import either, one_line, reason, shown, volume


@pytest.mark.parametrize(
    ("names", "text"),
    [(["a"], "a"), (["a", "b"], "a or b"), (["auto", "resident", "streamed"], "auto, resident or streamed")],
)
def test_names_to_choose_from_end_in_or(names, text):
    assert either(names) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1120, "1.12 kB"), (9.07e13, "9.07e+04 GB"), (8e9, "8 GB"), (5e6, "5 MB")],
)
def test_what_a_disk_has_is_said_in_powers_of_a_thousand(count, text):
    assert volume(count) == text


def test_an_exception_is_one_line_however_long_it_is():
    error = ValueError("a\n b" + "c" * 400)
    assert one_line(error) == "a b" + "c" * 297
    assert one_line(error, 3) == "a b"
    assert one_line(error, None) == "a b" + "c" * 400
    assert reason(error) == "ValueError: a b" + "c" * 284 + "…"
    assert reason(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "null"), (True, "true"), ("a\nb", r"'a\nb'"), ("x" * 90, "'" + "x" * 78 + "…")]
)
def test_a_value_is_shown_as_its_file_says_it(value, text):
    assert shown(value) == text
