"""Regular expressions over topic names, in the syntax of RE2, matched in linear time. Pure.

A consumer of KIP-848 names topics by an expression that the coordinator evaluates. Kafka uses RE2/J for it, which has
no back-references and no look-around, and never backtracks; Python's `re` has all three, and one expression of a
client (`(a*)*b`) would stop the whole broker. So the expression becomes a set of automaton states that is stepped
through a name character by character, each step remembered; what it costs is bounded by a budget of its own.

Topic names are made of 65 characters (letters, digits, `.`, `_`, `-`): a character class is the set of those it holds.
The whole name must match, as in Kafka. Not supported, though RE2 has them: `\\C`, and Unicode classes (`\\p{...}`)
but those in `_UNICODE_CLASSES`.

What the parser makes: `topic_regex_parser.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .topic_automaton import Assertion, InvalidTopicRegexError, Program
from .topic_regex_parser import WORD_CHARACTERS, parse

__all__ = ["InvalidTopicRegexError", "TopicRegex"]

_STEPS_MAX: Final = 300_000
"""Visits of automaton states in one call; about half a second. An honest expression takes a few per name."""
_REMEMBERED_MAX: Final = 4_096

_State = tuple[frozenset[int], str]
_START: Final = "start"
_WORD: Final = "word"
_OTHER: Final = "other"
_END: Final = "end"


class TopicRegex:
    """One expression.

    :raises InvalidTopicRegexError: it is not an expression of RE2, or too large.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._program: Program = parse(pattern)
        self._moves: dict[tuple[_State, str], _State] = {}
        self._steps = 0

    def matching(self, names: Iterable[str]) -> frozenset[str]:
        """Those of the names that match as a whole.

        :raises InvalidTopicRegexError: it costs too much to find out.
        """
        self._steps = 0
        return frozenset(name for name in names if self._matches(name))

    def _matches(self, name: str) -> bool:
        state: _State = (frozenset((self._program.start,)), _START)
        for character in name:
            state = self._move(state, character)
            if not state[0]:
                return False
        return self._program.accept in self._closure(state, _END)

    def _move(self, state: _State, character: str) -> _State:
        remembered = self._moves.get((state, character))
        if remembered is not None:
            return remembered
        kind = _kind(character)
        nodes = self._program.nodes
        after = frozenset(
            nodes[index].out for index in self._closure(state, kind) if character in nodes[index].characters
        )
        if len(self._moves) >= _REMEMBERED_MAX:
            self._moves.clear()
        self._moves[state, character] = (after, kind)
        return after, kind

    def _closure(self, state: _State, following: str) -> set[int]:
        """All states that are reached without a character, between one of the kind of `state` and `following`."""
        reached: set[int] = set()
        waiting = list(state[0])
        while waiting:
            index = waiting.pop()
            if index in reached:
                continue
            reached.add(index)
            node = self._program.nodes[index]
            if node.assertion is None or _holds(node.assertion, state[1], following):
                waiting.extend(node.free_moves)
        self._steps += len(reached)
        if self._steps > _STEPS_MAX:
            raise InvalidTopicRegexError("it takes too long to match")
        return reached


def _kind(character: str) -> str:
    return _WORD if character in WORD_CHARACTERS else _OTHER


def _holds(assertion: Assertion, before: str, after: str) -> bool:
    if assertion is Assertion.START:
        return before == _START
    if assertion is Assertion.END:
        return after == _END
    at_boundary = (before == _WORD) != (after == _WORD)
    return at_boundary if assertion is Assertion.WORD_BOUNDARY else not at_boundary
