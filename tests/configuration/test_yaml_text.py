import math

import pytest

from mpi_landscape.configuration.yaml_text import dump, parse
from mpi_landscape.errors import LandscapeError

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{', '.join(['*' + chr(97 + level)] * 10)}]\n"
    for level in range(8)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)}\n  <<: [{', '.join(['*' + chr(97 + level)] * 10)}]\n"
    for level in range(8)
)


@pytest.mark.parametrize(
    ("text", "value", "why"),
    [
        ("5e-4", 5e-4, "no point before the exponent, as everybody writes it"),
        ("1E3", 1000.0, "capital exponent"),
        ("-2.5e+3", -2500.0, "signs"),
        (".5", 0.5, "no leading digit"),
        ("3.", 3.0, "no digit after the point"),
        ("1_000", 1000, "separated thousands"),
        ("-7", -7, "a negative integer"),
        ("0x10", 16, "hexadecimal"),
        ("-.inf", -math.inf, "infinity"),
        ("-1:1:51", "-1:1:51", "an axis, not a number in base 60"),
        ("2024-01-31", "2024-01-31", "the name of a run, not a date"),
        ("e5", "e5", "a name, not a number"),
        ("cuda:0", "cuda:0", "a device"),
        ("no", False, "a truth value of YAML 1.1"),
        ("~", None, "null"),
        ("", None, "nothing at all"),
        ("# only a comment", None, "nothing but a comment"),
        ("[1, {a: [b]}]", [1, {"a": ["b"]}], "nested"),
        ("{a: &x {b: 1}, c: {<<: *x, b: 2}}", {"a": {"b": 1}, "c": {"b": 2}}, "merging is no repetition"),
    ],
)
def test_a_scalar_is_read_as_it_is_meant(text, value, why):
    read = parse(text, where="x.yaml")
    assert read == value, why
    assert type(read) is type(value), why


@pytest.mark.parametrize(
    ("text", "words", "why"),
    [
        ("a: [1\nb: 2", ["line 2", "column 2"], "an open bracket"),
        ("a: {b: 1, b: 2}", ["line 1", "column 11", "'b'", "twice"], "a repeated key"),
        ("a: 1\na: 2", ["line 2", "column 1", "'a'", "twice"], "a repeated key at the top"),
        ("a: 1\n\tb: 2", ["line 2"], "a tabulator"),
        ("a: *b", ["line 1", "'b'"], "an alias of nothing"),
        ("a: &a [*a]", ["line 1", "contains itself"], "a ring"),
        (BOMB, ["10000", "aliases"], "a billion values"),
        (MERGE_BOMB, ["10000", "aliases"], "the same through merging"),
        ("[" * 60 + "]" * 60, ["nested"], "nested beyond sense"),
        ("[" * 100_000, ["nested"], "nested beyond the interpreter's stack"),
        ("a: !!python/object/apply:os.system [x]", ["python/object"], "code"),
        ("a: !!bool maybe", ["tags"], "a tag that does not fit"),
        ("a: !!int ''", ["tags"], "an empty number"),
        ("a: 1" + "0" * 5000, ["limit"], "a number that Python refuses to read"),
        ("a: \x01", ["line 1", "not allowed"], "a control character"),
        ("a: 1\n---\nb: 2", ["line 2", "single document"], "two documents"),
        ("? [a]\n: 1", ["line 1", "unhashable"], "a list as a key"),
    ],
)
def test_what_is_not_sound_yaml_is_refused_on_one_line(text, words, why):
    with pytest.raises(LandscapeError) as caught:
        parse(text, where="x.yaml")
    message = str(caught.value)
    assert message.startswith("x.yaml: "), why
    assert "\n" not in message, why
    assert len(message) < 500, why
    for word in words:
        assert word in message, why


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("5e-4", "text that the reader would take for a float"),
        ("1E3", "likewise"),
        ("0x10", "likewise an integer"),
        ("null", "likewise null"),
        ("off", "likewise false"),
        ("-1:1:51", "text with colons"),
        ("line\nbreak: #", "text with everything"),
        ("δη", "Greek"),
        (5e-05, "a float that Python writes with an exponent"),
        (1e300, "a large float"),
        (0.1 + 0.2, "a float of 17 digits"),
        (-math.inf, "infinity"),
        ({"a": [], "b": {}, "c": [[1, 2], [3.0]]}, "empty and nested"),
    ],
)
def test_what_is_written_is_read_back_the_same(value, why):
    read = parse(dump({"key": value}, where="x"), where="x")["key"]
    assert read == value, why
    assert type(read) is type(value), why


def test_what_yaml_cannot_hold_is_refused_when_written():
    with pytest.raises(LandscapeError, match="cannot be written as YAML"):
        dump({"a": object()}, where="x")
