"""From an expression in the syntax of RE2 to automaton states (`topic_regex.py`). Pure.

https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Final

from .topic_automaton import (
    Assertion,
    Build,
    InvalidTopicRegexError,
    Node,
    Program,
    asserting,
    either,
    nothing,
    one_of,
    optional,
    repeated,
    sequence,
)

TOPIC_CHARACTERS: Final = frozenset(string.ascii_letters + string.digits + "._-")
WORD_CHARACTERS: Final = frozenset(string.ascii_letters + string.digits + "_")

_PATTERN_LENGTH_MAX: Final = 10_000
_DEPTH_MAX: Final = 100
_REPEAT_MAX: Final = 1_000  # RE2's
_NONE: Final[frozenset[str]] = frozenset()

_LOWER: Final = frozenset(string.ascii_lowercase)
_UPPER: Final = frozenset(string.ascii_uppercase)
_DIGITS: Final = frozenset(string.digits)
_PUNCTUATION: Final = frozenset("._-")
_PERL_CLASSES: Final[Mapping[str, frozenset[str]]] = {"d": _DIGITS, "w": WORD_CHARACTERS, "s": _NONE}
_POSIX_CLASSES: Final[Mapping[str, frozenset[str]]] = {
    "alnum": _LOWER | _UPPER | _DIGITS,
    "alpha": _LOWER | _UPPER,
    "ascii": TOPIC_CHARACTERS,
    "blank": _NONE,
    "cntrl": _NONE,
    "digit": _DIGITS,
    "graph": TOPIC_CHARACTERS,
    "lower": _LOWER,
    "print": TOPIC_CHARACTERS,
    "punct": _PUNCTUATION,
    "space": _NONE,
    "upper": _UPPER,
    "word": WORD_CHARACTERS,
    "xdigit": frozenset(string.hexdigits),
}
_UNICODE_CLASSES: Final[Mapping[str, frozenset[str]]] = {
    "L": _LOWER | _UPPER,
    "Ll": _LOWER,
    "Lu": _UPPER,
    "Latin": _LOWER | _UPPER,
    "N": _DIGITS,
    "Nd": _DIGITS,
    "P": _PUNCTUATION,
    "Pc": frozenset("_"),
    "Pd": frozenset("-"),
    "Po": frozenset("."),
    "S": _NONE,
    "Z": _NONE,
}
_ESCAPED_CHARACTERS: Final = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_FLAGS: Final = frozenset("imsU")


def parse(pattern: str) -> Program:
    """:raises InvalidTopicRegexError:"""
    if len(pattern) > _PATTERN_LENGTH_MAX:
        raise InvalidTopicRegexError(f"it has {len(pattern)} characters; {_PATTERN_LENGTH_MAX} are the most")
    build = _Parser(pattern).parse()
    nodes = [Node()]
    return Program(nodes=nodes, start=build(nodes, 0), accept=0)


# --- syntax -----------------------------------------------------------------------------------------------------


class _Parser:
    """Recursive descent over the pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._position = 0
        self._depth = 0
        self._ignore_case = False

    def parse(self) -> Build:
        build = self._alternatives()
        if self._position < len(self._pattern):
            raise self._error("unexpected )")
        return build

    def _error(self, what: str) -> InvalidTopicRegexError:
        return InvalidTopicRegexError(f"{what} at position {self._position}")

    def _peek(self, text: str) -> bool:
        return self._pattern.startswith(text, self._position)

    def _accept(self, text: str) -> bool:
        if not self._peek(text):
            return False
        self._position += len(text)
        return True

    def _take(self) -> str:
        if self._position >= len(self._pattern):
            raise self._error("it ends too soon")
        self._position += 1
        return self._pattern[self._position - 1]

    def _take_until(self, end: str) -> str:
        stop = self._pattern.find(end, self._position)
        if stop < 0:
            raise self._error(f"missing {end}")
        text = self._pattern[self._position : stop]
        self._position = stop + len(end)
        return text

    def _alternatives(self) -> Build:
        choices = [self._concatenation()]
        while self._accept("|"):
            choices.append(self._concatenation())
        return either(choices)

    def _concatenation(self) -> Build:
        parts: list[Build] = []
        while self._position < len(self._pattern) and not self._peek("|") and not self._peek(")"):
            if self._accept("\\Q"):
                parts += [self._literal(character) for character in self._quoted()]
            else:
                parts.append(self._repetition(self._atom()))
        return sequence(parts)

    def _quoted(self) -> str:
        if "\\E" in self._pattern[self._position :]:
            return self._take_until("\\E")
        text, self._position = self._pattern[self._position :], len(self._pattern)
        return text

    def _repetition(self, part: Build) -> Build:
        bounds = self._bounds()
        if bounds is None:
            return part
        self._accept("?")  # lazy or greedy: the same names match
        if self._bounds() is not None:
            raise self._error("a repetition of a repetition")
        least, most = bounds
        if (least, most) == (0, 1):
            return optional(part)
        return repeated(part, least, most)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._accept(sign):
                return bounds
        return self._counted_bounds() if self._peek("{") else None

    def _counted_bounds(self) -> tuple[int, int | None] | None:
        """{n}, {n,} or {n,m}; any other { stands for itself."""
        end = self._pattern.find("}", self._position)
        least, comma, most = self._pattern[self._position + 1 : max(end, 0)].partition(",")
        if end < 0 or not _is_number(least) or not (most == "" or _is_number(most)):
            return None
        if len(least) > 4 or len(most) > 4 or int(least) > _REPEAT_MAX or int(most or 0) > _REPEAT_MAX:
            raise self._error(f"a repetition of more than {_REPEAT_MAX}")
        self._position = end + 1
        if not comma:
            return int(least), int(least)
        if most and int(most) < int(least):
            raise self._error("a repetition whose bounds are the wrong way round")
        return int(least), int(most) if most else None

    def _atom(self) -> Build:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return one_of(self._bracket_class())
        if character == ".":
            return one_of(TOPIC_CHARACTERS)
        if character == "^":
            return asserting(Assertion.START)
        if character == "$":
            return asserting(Assertion.END)
        if character == "\\":
            return self._escape()
        if character in "*+?":
            raise self._error(f"nothing to repeat before {character}")
        return self._literal(character)

    def _literal(self, character: str) -> Build:
        return one_of(self._folded(frozenset((character,))) & TOPIC_CHARACTERS)

    def _folded(self, characters: frozenset[str]) -> frozenset[str]:
        if not self._ignore_case:
            return characters
        return frozenset(form for character in characters for form in (character.lower(), character.upper()))

    def _group(self) -> Build:
        outer = self._ignore_case
        if self._accept("?"):
            if self._accept("P<") or (self._peek("<") and not self._peek("<=") and not self._peek("<!")):
                self._accept("<")
                if not self._take_until(">").isidentifier():
                    raise self._error("a bad name of a group")
            elif self._flags():
                return nothing  # (?i) holds to the end of the group around it
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise self._error(f"more than {_DEPTH_MAX} groups in one another")
        build = self._alternatives()
        if not self._accept(")"):
            raise self._error("missing )")
        self._depth -= 1
        self._ignore_case = outer
        return build

    def _flags(self) -> bool:
        """(?flags) gives True, (?flags: gives False and the group goes on."""
        value = True
        while True:
            character = self._take()
            if character in ":)":
                return character == ")"
            if character == "-" and value:
                value = False
            elif character not in _FLAGS:
                raise self._error(f"(?{character} is not supported")
            elif character == "i":
                self._ignore_case = value

    def _escape(self) -> Build:
        character = self._take()
        assertions = {
            "A": Assertion.START,
            "z": Assertion.END,
            "b": Assertion.WORD_BOUNDARY,
            "B": Assertion.NO_WORD_BOUNDARY,
        }
        if character in assertions:
            return asserting(assertions[character])
        self._position -= 1
        return one_of(self._escaped_class() & TOPIC_CHARACTERS)

    def _escaped_class(self) -> frozenset[str]:
        """What stands for one character after a backslash, outside of brackets and in them."""
        character = self._take()
        if character.lower() in _PERL_CLASSES:
            characters = _PERL_CLASSES[character.lower()]
            return characters if character.islower() else TOPIC_CHARACTERS - characters
        if character in "pP":
            return self._unicode_class(negated=character == "P")
        return self._folded(frozenset((self._escaped_character(character),)))

    def _escaped_character(self, character: str) -> str:
        if character in _ESCAPED_CHARACTERS:
            return _ESCAPED_CHARACTERS[character]
        if character == "x":
            return self._hexadecimal()
        if character.isascii() and character.isalnum():
            raise self._error(f"\\{character} is not supported")
        return character

    def _hexadecimal(self) -> str:
        digits = self._take_until("}") if self._accept("{") else self._take() + self._take()
        if not 1 <= len(digits) <= 6 or not all(digit in string.hexdigits for digit in digits):
            raise self._error("a bad \\x")
        number = int(digits, 16)
        if number > 0x10FFFF:
            raise self._error("a bad \\x")
        return chr(number)

    def _unicode_class(self, *, negated: bool) -> frozenset[str]:
        name = self._take_until("}") if self._accept("{") else self._take()
        if name.startswith("^"):
            name, negated = name[1:], not negated
        if name not in _UNICODE_CLASSES:
            raise self._error(f"no character class {name!r}")
        characters = self._folded(_UNICODE_CLASSES[name])
        return TOPIC_CHARACTERS - characters if negated else characters

    def _bracket_class(self) -> frozenset[str]:
        negated = self._accept("^")
        characters: frozenset[str] = _NONE
        first = True
        while first or not self._accept("]"):
            first = False
            characters |= self._bracket_item()
        return TOPIC_CHARACTERS - characters if negated else characters & TOPIC_CHARACTERS

    def _bracket_item(self) -> frozenset[str]:
        if self._accept("[:"):
            name = self._take_until(":]")
            negated = name.startswith("^")
            if name.removeprefix("^") not in _POSIX_CLASSES:
                raise self._error(f"no character class {name!r}")
            characters = self._folded(_POSIX_CLASSES[name.removeprefix("^")])
            return TOPIC_CHARACTERS - characters if negated else characters
        low = self._bracket_end()
        if len(low) != 1 or not self._peek("-") or self._peek("-]"):
            return self._folded(low)
        self._accept("-")
        high = self._bracket_end()
        if len(high) != 1 or min(high) < min(low):
            raise self._error("a bad range of characters")
        return self._folded(frozenset(one for one in _EVERY_ASCII_CHARACTER if min(low) <= one <= min(high)))

    def _bracket_end(self) -> frozenset[str]:
        """One character, or the class that an escape stands for."""
        character = self._take()
        if character != "\\":
            return frozenset((character,))
        ignore_case, self._ignore_case = self._ignore_case, False
        characters = self._escaped_class()
        self._ignore_case = ignore_case
        return characters


_EVERY_ASCII_CHARACTER: Final = tuple(map(chr, range(128)))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
