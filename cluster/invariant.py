"""What must never be false: a broken invariant is a bug, and no state after it can be trusted (STYLE.md section 6)."""

from __future__ import annotations


class InvariantError(AssertionError):
    """The program contradicts itself. Nobody handles it but who stops the process or drops the change whole."""


def invariant(condition: bool, message: str) -> None:
    """:raises InvariantError: if `condition` is false. Unlike `assert`, it stays under `python -O`."""
    if not condition:
        raise InvariantError(message)
