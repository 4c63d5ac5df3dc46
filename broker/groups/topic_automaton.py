"""Automaton states of an expression over topic names, by Thompson's construction. Pure.

Each part of an expression becomes states with one way in and one way out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

_NODES_MAX: Final = 20_000


class InvalidTopicRegexError(ValueError):
    """Says what is wrong with the expression."""


class Assertion(Enum):
    START = auto()
    END = auto()
    WORD_BOUNDARY = auto()
    NO_WORD_BOUNDARY = auto()


@dataclass(slots=True)
class Node:
    """One automaton state: it takes one of `characters` to `out`, and goes to `free_moves` without any.

    `assertion` must hold for the free moves.
    """

    characters: frozenset[str] = frozenset()
    out: int = -1
    assertion: Assertion | None = None
    free_moves: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Program:
    nodes: list[Node]
    start: int
    accept: int


Build = Callable[[list[Node], int], int]
"""Adds states that lead to a state, and says which one is the way in. Called again for each repetition."""


def add(nodes: list[Node], node: Node) -> int:
    if len(nodes) >= _NODES_MAX:
        raise InvalidTopicRegexError("it is too large once its repetitions are written out")
    nodes.append(node)
    return len(nodes) - 1


def nothing(nodes: list[Node], out: int) -> int:
    return out


def one_of(characters: frozenset[str]) -> Build:
    return lambda nodes, out: add(nodes, Node(characters=characters, out=out))


def asserting(assertion: Assertion) -> Build:
    return lambda nodes, out: add(nodes, Node(assertion=assertion, free_moves=[out]))


def sequence(parts: Sequence[Build]) -> Build:
    def build(nodes: list[Node], out: int) -> int:
        for part in reversed(parts):
            out = part(nodes, out)
        return out

    return build


def either(choices: list[Build]) -> Build:
    if len(choices) == 1:
        return choices[0]
    return lambda nodes, out: add(nodes, Node(free_moves=[choice(nodes, out) for choice in choices]))


def optional(part: Build) -> Build:
    return lambda nodes, out: add(nodes, Node(free_moves=[part(nodes, out), out]))


def any_number(part: Build) -> Build:
    def build(nodes: list[Node], out: int) -> int:
        loop = add(nodes, Node(free_moves=[out]))
        nodes[loop].free_moves.append(part(nodes, loop))
        return loop

    return build


def repeated(part: Build, least: int, most: int | None) -> Build:
    def once(nodes: list[Node], out: int) -> int:
        # A state of its own, so that also (((){1000}){1000}){1000}, which has none, comes up against the limit.
        return add(nodes, Node(free_moves=[part(nodes, out)]))

    if most is None:
        return sequence([*[once] * least, any_number(part)])

    def up_to(nodes: list[Node], out: int) -> int:
        entry = out
        for _ in range(most - least):
            entry = add(nodes, Node(free_moves=[part(nodes, entry), out]))
        return entry

    return sequence([*[once] * least, up_to])
