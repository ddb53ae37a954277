"""Values of every wrong type for every field, made from the sections themselves."""

import dataclasses
import json
import math
import random
import types
import typing

import pytest
import yaml

from mpi_landscape.configuration import reading
from mpi_landscape.configuration.sections import connect, fields, hessian, trajectory
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.errors import LandscapeError
from tests.exhaustive import values

# Everything else that stands in the configuration; a field's section lies over it.
REST = {
    "model": {"name": "mlp"},
    "data": {"name": "digits"},
    "output": "x.h5",
    "training": {"output": "run", "epochs": 1},
}
VALUES = {
    "true": True,
    "zero": 0,
    "minus one": -1,
    "three": 3,
    "two to the 31": 2**31,
    "ten to the twelve": 10**12,
    "ten to the three hundred": 10**300,
    "a half": 0.5,
    "one and a half": 1.5,
    "minus a half": -0.5,
    "NaN": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "the largest float": 1.7e308,
    "text": "text",
    "no text": "",
    "spaces": "  ",
    "a number as text": "3",
    "text with NUL": "a\0b",
    "text with an escape": "\x1b[2Ja",
    "full-width digits": "３",
    "a look-alike": "аuto",
    "auto and more": "auto ",
    "an empty list": [],
    "a list": [1, 2],
    "a list of texts": ["a", "b"],
    "a list of lists": [[1], [2]],
    "a list of mappings": [{"a": 1}],
    "a list of nothing": [None],
    "an empty mapping": {},
    "a mapping": {"a": 1},
    "a mapping of numbers": {1: 2},
    "a mapping of nothing": {None: None},
    "deep": {"a": {"b": {"c": [{"d": 1}]}}},
}


def is_whole(value, least, most):
    return type(value) is int and least <= value <= most


def is_number(value):
    # A whole number too large for a float is none.
    return type(value) in (int, float) and abs(value) < 1.8e308


def is_text(value):
    return (
        type(value) is str and value != "" and not any(ord(sign) < 32 or ord(sign) == 127 for sign in value)
    )


def is_name(value):
    return is_text(value) and value.isascii() and value.replace("_", "a").isalnum()


def is_list(value, inner):
    return type(value) is list and all(inner(each) for each in value)


COUNT = 2**31 - 1
# What a field takes, said once more and in other words; a list of single values is a sweep, which one file may not have.
TAKES = {
    "Text": is_text,
    "Flag": lambda value: type(value) is bool,
    "Number": is_number,
    "Positive": lambda value: is_number(value) and value > 0,
    "NotNegative": lambda value: is_number(value) and value >= 0,
    "Fraction": lambda value: is_number(value) and 0 <= value < 1,
    "BelowOne": lambda value: is_number(value) and 0 < value < 1,
    "Count": lambda value: is_whole(value, 1, COUNT),
    "AxisNum": lambda value: is_whole(value, 1, 2**20),
    "Epochs": lambda value: is_whole(value, 0, 10**6),
    "Shift": lambda value: is_whole(value, 0, 512),
    "CountOrAuto": lambda value: value == "auto" or is_whole(value, 1, COUNT),
    "ThreadsOrAuto": lambda value: value == "auto" or is_whole(value, 1, 4096),
    "Quantities": lambda value: is_list(value, is_name) and len(set(value)) == len(value),
    "CountOrAll": lambda value: value == "all" or is_whole(value, 1, COUNT),
    "Seed": lambda value: is_whole(value, 0, 2**63 - 1),
    "Device": lambda value: value in ("auto", "cpu"),
    "Arguments": lambda value: type(value) is dict and all(type(key) is str for key in value),
    "Names": lambda value: is_list(value, is_text),
    "Milestones": lambda value: is_list(value, lambda each: is_whole(each, 1, COUNT)),
    "Precision": lambda value: value == "float32",
    "EngineChoice": lambda value: value in ("auto", []),
    "Optimizer": lambda value: value == "sgd",
    "Placement": lambda value: value == "auto",
    "Kind": lambda value: value == "random",
    "Normalize": lambda value: value == "filter",
    "Only": lambda value: value in ("trainable", "all"),
    "Buffers": lambda value: value == "auto" or type(value) is bool,
    "TensorKind": lambda value: value == "weight",
    "Axes": lambda value: is_axis(value) or (is_list(value, is_axis) and bool(value)),
    "BatchNorm": lambda value: value == "auto",
    "Repeats": lambda value: is_whole(value, 1, 1000),
    "Seeds": lambda value: (
        is_list(value, lambda each: is_whole(each, 0, 2**63 - 1)) and len(set(value)) == len(value) > 0
    ),
    "Places": lambda value: is_text(value) or (is_list(value, is_text) and bool(value)),
    "AxesOfPath": lambda value: value == "pca",
    "Method": lambda value: value == "line",
    "Align": lambda value: value == "none",
    "Pivots": lambda value: is_whole(value, 1, 1000),
    "Insertions": lambda value: is_whole(value, 0, 1000),
    "At": lambda value: is_text(value) or (is_list(value, is_text) and bool(value)),
    "Values": lambda value: value == "auto",
    "Operator": lambda value: value == "hessian",
    "Parameters": lambda value: value == "trainable" or (is_list(value, is_text) and bool(value)),
    "Starts": lambda value: value == "cold",
    "Engine": lambda value: value == "auto",
    "Memory": lambda value: value == "auto" or (is_number(value) and 0 <= value <= 2**20),
    "Pairs": lambda value: is_whole(value, 0, 10_000),
    "Steps": lambda value: is_whole(value, 2, 10_000),
    "MostSteps": lambda value: is_whole(value, 8, 10_000),
    "Index": lambda value: is_whole(value, -1000, 1000),
    "Points": lambda value: is_whole(value, 2, 100_000),
}


def leaves(section, path=()):
    """Every field of every section, and of every kind of it: its place, and the name of its type."""
    hints = typing.get_type_hints(section, include_extras=True)
    for each in dataclasses.fields(section):
        place = (*path, each.name)
        for option in options_of(hints[each.name]):
            if typing.get_origin(option) is tuple and dataclasses.is_dataclass(typing.get_args(option)[0]):
                yield from leaves(typing.get_args(option)[0], (*place, 0))
            elif dataclasses.is_dataclass(option):
                yield place, "section"
                yield from leaves(option, place)
            elif option is not type(None):
                yield place, name_of(option, place)


def options_of(hint):
    """What a union can be, also one whose parts are sections with something to check around them."""
    inner = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    if dataclasses.is_dataclass(inner):
        return [inner]
    union = typing.get_origin(inner) in (types.UnionType, typing.Union)
    if union and (inner is hint or any(map(dataclasses.is_dataclass, typing.get_args(inner)))):
        return [option for each in typing.get_args(inner) for option in options_of(each)]
    return [hint]


def name_of(option, place):
    if option in (int, float):  # an axis checks its numbers itself
        return "AxisNum" if option is int else "Number"
    if typing.get_origin(option) is typing.Literal:
        return {"kind": "Kind"}[place[-1]]
    return next(
        name
        for name in TAKES
        for module in (fields, connect, trajectory, hessian)
        if option in (getattr(module, name, None), getattr(module, f"_{name}", None))
    )


def is_axis(value):
    return is_whole(value, -32, 31)


LEAVES = list(dict.fromkeys(leaves(Configuration)))


def nested(place, value):
    for step in reversed(place):
        value = [value] if step == 0 else {step: value}
    return value


def whole(place, value):
    """A configuration in which one field has a value, and all that must be there is there."""
    made = {section: dict(values) if isinstance(values, dict) else values for section, values in REST.items()}
    top = place[0]
    if len(place) == 1:
        return {**made, top: value}
    inner = nested(place[1:], value)
    needed = dict(made.get(top) or {})
    if place[1] in ("target",):
        needed.pop("name", None)
    if place[:2] == ("training", "schedule") and len(place) > 2 and place[2] != "milestones":
        inner["schedule"]["milestones"] = []
    if place[:2] == ("directions", "rules") and len(place) > 2:
        inner["rules"] = [{"tensors": "a", "kind": "weight", **rule} for rule in inner["rules"]]
    if top == "connect":
        needed = {"start": "a.pt", "end": "b.pt"}
    if place[:2] == ("connect", "cycles") and len(place) > 2:
        inner["cycles"] = [{"steps": 1, "learning_rate": 0.1, **cycle} for cycle in inner["cycles"]]
    return {**made, top: {**needed, **inner}}


def is_taken(kind, value):
    if kind == "section":
        return type(value) is dict and not value
    return TAKES[kind](value)


def test_every_field_of_the_configuration_is_there():
    assert len(LEAVES) > 70
    assert ("training", "phases", 0, "schedule", "milestones") in [place for place, _ in LEAVES]
    assert {kind for _, kind in LEAVES} == {*TAKES, "section"}


@pytest.mark.parametrize(("place", "kind"), LEAVES, ids=[".".join(map(str, place)) for place, _ in LEAVES])
def test_a_value_of_a_wrong_type_is_refused_in_one_line_that_names_the_field(tmp_path, place, kind):
    file = tmp_path / "wrong.yaml"
    tried = 0
    for name, value in VALUES.items():
        # These say something else by the words that the documentation gives them: a section by its name, an axis.
        if is_taken(kind, value) or (kind == "section" and value in ("", "  ")) or value == {}:
            continue
        if place in (("model",), ("data",), ("loss",)) and isinstance(value, str):
            continue
        file.write_text(yaml.safe_dump(whole(place, value), allow_unicode=True), encoding="utf-8")
        with pytest.raises(LandscapeError) as caught:
            reading.load(file)
        message = str(caught.value)
        assert message.isprintable(), name
        assert len(message) < 2000, name
        assert place[-1] in message or str(place[-2]) in message, (name, message)
        tried += 1
    assert tried >= 10


@pytest.mark.parametrize("seed", values(range(30), 0, 1))
def test_a_wrong_value_is_refused_by_the_programs_too(study, refused, seed):
    chance = random.Random(seed)
    place, kind = chance.choice([leaf for leaf in LEAVES if leaf[1] not in ("section", "Arguments")])
    value = chance.choice(
        [each for each in VALUES.values() if not is_taken(kind, each) and each not in ({}, [])]
    )
    (study.folder / "wrong.yaml").write_text(
        yaml.safe_dump(whole(place, value), allow_unicode=True), encoding="utf-8"
    )
    for program in ("surface", "train"):
        # A list where a single value is expected is a sweep to the training, each of whose members is wrong.
        assert place[-1] in refused(program, "wrong.yaml", "--dry-run", folder=study.folder) or isinstance(
            value, list
        ), json.dumps(value)
