"""YAML for people: numbers as they are usually written, no silent duplicates, errors with line and column."""

import re
from typing import Any

import yaml

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import one_line, reason, shortened, shown

# A configuration has some hundred values. Aliases of aliases can stand for billions in a few lines, and aliases of one
# long text for gigabytes, so a text counts as one value for every hundred characters.
_MOST_VALUES = 10_000
_CHARACTERS_OF_A_VALUE = 100
DEEPEST = 50
# Python refuses to write a number of more than 4,300 digits (14,284 bits), also into a message.
_MOST_BITS = 8192

_RESOLVED = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    # Not base 60, in which PyYAML reads -1:1:51 as the number -3711.
    "int": (r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)", "-+0123456789"),
    # PyYAML follows YAML 1.1 and takes 5e-4 for text, as it has no point.
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "merge": (r"<<", "<"),
}
_NUMBER = re.compile(f"{_RESOLVED['int'][0]}|{_RESOLVED['float'][0]}")


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for name, (pattern, starts) in _RESOLVED.items():
        for start in starts:
            entry = (f"tag:yaml.org,2002:{name}", re.compile(f"^(?:{pattern})$"))
            table.setdefault("" if start == "\0" else start, []).append(entry)
    return table


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._composed = self._depth = 0

    # While it is composed: a megabyte of brackets would otherwise take half a minute before it can be counted.
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._composed += 1
        self._depth += 1
        if self._composed > _MOST_VALUES:
            raise _error(f"has more than {_MOST_VALUES} values", self.get_mark())
        if self._depth > DEEPEST:
            raise _error(f"is nested more than {DEEPEST} deep", self.get_mark())
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    # Base 60, which only an explicit tag asks for, takes time with the square of the length.
    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        self._refuse_unless_number(node)
        value: int = super().construct_yaml_int(node)
        if value.bit_length() > _MOST_BITS:
            raise _error(f"has a whole number of more than {_MOST_BITS} bits", node.start_mark)
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        self._refuse_unless_number(node)
        return float(super().construct_yaml_float(node))

    def _refuse_unless_number(self, node: yaml.ScalarNode) -> None:
        if not isinstance(node.value, str) or not _NUMBER.fullmatch(node.value):
            raise _error(f"{shown(node.value)} is not the number that its tags say", node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                continue
            if key_node.value in keys:
                raise _error(f"the key {key_node.value!r} is given twice", key_node.start_mark)
            keys.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


# SafeLoader's table names its own methods, not those of a subclass.
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


class _Dumper(yaml.SafeDumper):
    # Those of the loader: text that it would take for a number has to be quoted.
    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def parse(text: str, *, where: str) -> Any:
    """Read one YAML document as plain values; None where it is empty.

    Raises:
        LandscapeError: The text does not parse (with line and column), repeats a key, is nested more than 50
            deep, has a whole number of more than 8,192 bits, or unfolds through its aliases to more than 10,000
            values, where a text counts as one for every hundred characters.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _num_values(node, {}, 0, where) > _MOST_VALUES:
            raise LandscapeError(
                f"{where}: has more than {_MOST_VALUES} values once its aliases are unfolded"
            )
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise LandscapeError(f"{where}: {_position(error.problem_mark)}{_problem(error)}") from error
    except yaml.reader.ReaderError as error:
        line, character = text.count("\n", 0, error.position) + 1, chr(error.character)
        why = "is no UTF-8" if 0xD800 <= ord(character) <= 0xDFFF else "is not allowed in YAML"
        raise LandscapeError(f"{where}: line {line}: {shown(character)} {why}") from error
    except RecursionError as error:
        raise LandscapeError(f"{where}: is nested too deeply") from error
    # PyYAML lets these out of explicit tags, such as !!bool maybe or !!int "".
    except (ValueError, KeyError, AttributeError, IndexError, TypeError, OverflowError) as error:
        raise LandscapeError(f"{where}: does not hold what its tags say ({reason(error)})") from error


def dump(values: Any, *, where: str) -> str:
    """Write plain values as YAML that `parse` reads back as the same values; mappings keep their order.

    Raises:
        LandscapeError: A value is no dictionary, list, text, number, truth value or None.
    """
    try:
        return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None)
    except yaml.YAMLError as error:
        raise LandscapeError(f"{where}: cannot be written as YAML ({reason(error)})") from error


def _num_values(node: yaml.Node, known: dict[int, int], depth: int, where: str) -> int:
    """Count values as if every alias were written out; 0 stands for a count that is under way."""
    size = known.get(id(node))
    if size == 0:
        raise LandscapeError(f"{where}: {_position(node.start_mark)}an alias contains itself")
    if depth > DEEPEST:
        raise LandscapeError(f"{where}: {_position(node.start_mark)}is nested more than {DEEPEST} deep")
    if size is None:
        known[id(node)] = 0
        children, own = [], 1
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        else:
            own += len(node.value) // _CHARACTERS_OF_A_VALUE
        size = known[id(node)] = own + sum(_num_values(child, known, depth + 1, where) for child in children)
    return size


def _error(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _position(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _problem(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return shortened(one_line(", ".join(parts), None)) or "does not parse"
