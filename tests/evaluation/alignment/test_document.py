"""docs/alignment.md says what the rules are."""

from pathlib import Path

from mpi_landscape.evaluation.alignment.rules import NAMES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "alignment.md"


def table():
    """A row for each rule: its name, the operations, the first sentence of its text."""
    return [
        f"| {rule.__name__.replace('_', ' ')} | {' '.join(f'`{name}`' for name in names.split())} | "
        f"{rule.__doc__.splitlines()[0].rstrip('.').replace('`', '')} |"
        for rule, names in NAMES.items()
    ]


def test_the_page_lists_every_rule_with_its_operations():
    lines = PAGE.read_text().splitlines()
    assert [line for line in table() if line not in lines] == []
    start = lines.index("| rule | holds for | what it does with the order of units |") + 2
    assert lines[start : start + len(NAMES)] == table()
    assert not lines[start + len(NAMES)].startswith("|")
