"""Expressions over topic names: RE2's syntax, in linear time."""

from __future__ import annotations

import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.broker.groups.topic_regex import InvalidTopicRegexError, TopicRegex

NAMES = ("foo", "foo-1", "foo_2", "Foo.bar", "bar", "a.b", "aXb", "__consumer_offsets", "x" * 249)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("foo", {"foo"}),
        ("^foo.*$", {"foo", "foo-1", "foo_2"}),
        ("fo", set()),
        ("^bar|^foo", {"foo", "bar"}),
        ("(?i)foo.*", {"foo", "foo-1", "foo_2", "Foo.bar"}),
        ("(?i:F)oo", {"foo"}),
        ("((?i)F)oo|BAR", {"foo"}),
        (r"a\.b", {"a.b"}),
        (r"\Qa.b\E", {"a.b"}),
        (r"\x61.\x{62}", {"a.b", "aXb"}),
        (r".*\d", {"foo-1", "foo_2"}),
        (r".*\b1", {"foo-1"}),
        (r".*\B2", {"foo_2"}),
        (r"[[:alpha:]]+", {"foo", "bar", "aXb", "x" * 249}),
        (r"[^[:lower:]]oo\.\w+", {"Foo.bar"}),
        (r"\p{Lu}.*", {"Foo.bar"}),
        (r"\PL{2}\w*", {"__consumer_offsets"}),
        (r"(?P<n>f)(?<m>o){2}", {"foo"}),
        (r"f{1}o{2,}", {"foo"}),
        (r"a{,1}", set()),
        (r"x{200,249}", {"x" * 249}),
        (r"[]a].[b-]", {"a.b", "aXb"}),
        ("", set()),
        ("()|foo", {"foo"}),
    ],
)
def test_what_matches(pattern: str, matches: set[str]) -> None:
    assert TopicRegex(pattern).matching(NAMES) == matches


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", ")", "a)", "*", "a**", "a{2}{3}", "[", "[z-a]", "[[:x:]]", "\\"),
        *("(?=a)", "(?!a)", "(?<=a)", "(?<!a)", r"(a)\1", "(?P<1>a)", "(?P=n)", "(?z)"),
        *("a{1001}", "a{3,2}", r"\C", r"\p{Nowhere}", r"\x{110000}", r"\xg0"),
        *("(" * 101, "a" * 10_001, "(a{1000}){1000}", "(((){1000}){1000}){1000}"),
    ],
)
def test_what_is_no_expression(pattern: str) -> None:
    with pytest.raises(InvalidTopicRegexError):
        TopicRegex(pattern)


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|a)*b", "(a|aa)+b", "(.*a){12}b", "(a+)+$b"])
def test_what_stops_a_backtracking_engine_costs_nothing(pattern: str) -> None:
    assert TopicRegex(pattern).matching(["a" * 249 for _ in range(100)]) == frozenset()


def test_what_costs_too_much_is_refused() -> None:
    names = ["".join(random.Random(seed).choices(string.ascii_letters, k=249)) for seed in range(100)]
    with pytest.raises(InvalidTopicRegexError, match="too long"):
        TopicRegex(".{0,1000}.{0,1000}.{0,1000}!").matching(names)


def _random_pattern(dice: random.Random, depth: int) -> str:
    atoms = ["a", "b", "A", "1", ".", "[ab]", "[^a]", r"\.", r"\w", r"\d", r"\W", "_", "[a-b1]", r"\b", r"\B", "^", "$"]
    kind = dice.randrange(6) if depth else 0
    if kind == 0:
        return dice.choice(atoms)
    inner = _random_pattern(dice, depth - 1)
    if kind == 1:
        return inner + _random_pattern(dice, depth - 1)
    if kind == 2:
        return f"({inner}|{_random_pattern(dice, depth - 1)})"
    if kind == 3:
        return f"(?:{inner})" + dice.choice(["*", "+", "?", "{2}", "{1,2}", "{0,}", "*?"])
    return f"({inner})" if kind == 4 else inner + dice.choice(atoms)


def test_it_agrees_with_python_where_both_know_the_syntax() -> None:
    dice = random.Random(848)
    names = ["".join(dice.choices("ab1_.-A", k=dice.randrange(1, 6))) for _ in range(200)]
    for _ in range(400):
        pattern = _random_pattern(dice, 4)
        expected = frozenset(name for name in names if re.fullmatch(pattern, name))
        assert TopicRegex(pattern).matching(names) == expected, pattern


@given(st.text(alphabet="ab()[]{}*+?|\\^$.-,:PQEdwpLx123<>i ", max_size=30))
def test_hostile_patterns_raise_nothing_else(pattern: str) -> None:
    try:
        TopicRegex(pattern).matching(NAMES)
    except InvalidTopicRegexError:
        pass
