"""Every rule of replication has a test that bears its number, and docs/rules.md speaks of tests that are there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
RULES_PAGE = TESTS.parent / "docs" / "rules.md"
RULES = [*range(1, 23), *range(24, 29)]
"""23 is about transactions."""

_TEST = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
_NUMBERS = re.compile(r"rule_(\d+(?:_(?:and_)?\d+)*)_")


@cache
def names() -> frozenset[str]:
    return frozenset(name for path in TESTS.rglob("*.py") for name in _TEST.findall(path.read_text()))


def rules_of(name: str) -> set[int]:
    """The rules whose numbers a test bears: `test_rule_9_and_11_...` bears two."""
    return {int(number) for found in _NUMBERS.findall(name) for number in re.findall(r"\d+", found)}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_a_test_of_its_number(rule: int) -> None:
    assert any(rule in rules_of(name) for name in names()), f"no test is called test_rule_{rule}_..."


@pytest.mark.parametrize("rule", RULES)
def test_the_page_of_rules_has_a_row_for_each_with_tests_of_its_number(rule: int) -> None:
    rows = [line for line in RULES_PAGE.read_text().splitlines() if line.startswith(f"| {rule} |")]
    assert len(rows) == 1
    assert any(rule in rules_of(name) for name in re.findall(r"test_\w+", rows[0]))


def test_the_page_of_rules_names_tests_that_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", RULES_PAGE.read_text()))
    assert named
    assert named <= names(), sorted(named - names())


def test_numbers_are_read_from_names() -> None:
    assert rules_of("test_rule_3_x") == {3}
    assert rules_of("test_rule_9_and_11_checks") == {9, 11}
    assert rules_of("test_rule_3_17_faults") == {3, 17}
    assert rules_of("test_rules_of_the_game") == set()
