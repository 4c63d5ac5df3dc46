"""What an oracle says when a rule of DESIGN.md section 6 is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final


class Breach(AssertionError):
    """A rule was broken; 0 stands for what no rule foresees."""

    def __init__(self, rule: int, text: str) -> None:
        super().__init__(f"rule {rule}: {text}")
        self.rule: Final = rule
        self.text: Final = text


Report = Callable[[int, str], None]
"""Takes a breach, by rule and sentence. It does not raise: the code under test may be on the stack."""


class Findings:
    """The breaches of a run, in the order in which they came up."""

    def __init__(self) -> None:
        self.breaches: list[Breach] = []

    def report(self, rule: int, text: str) -> None:
        """Notes one."""
        self.breaches.append(Breach(rule, text))

    def raise_first(self) -> None:
        """:raises Breach: the first one, if there is any."""
        if self.breaches:
            raise self.breaches[0]
