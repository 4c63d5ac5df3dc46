"""Methods of the code under test, wrapped for one run: the oracles hear of what happens, and change nothing.

To be put on after whatever else the run replaces (mutants), so that what is heard of is what really runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class Hooks:
    """Put on by `after` and `around`, taken off by `close`, the last one first."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any, bool]] = []

    def around(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
        """`wrapper(original, *arguments)` is called in the method's place."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            return wrapper(original, *arguments, **named)

        self._put(owner, name, wrapped)

    def after(self, owner: Any, name: str, tell: Callable[..., None]) -> None:
        """`tell(result, *arguments)` is called once the method has returned."""

        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            tell(result, *arguments, **named)
            return result

        self._put(owner, name, wrapped)

    def _put(self, owner: Any, name: str, wrapped: Callable[..., Any]) -> None:
        self._undo.append((owner, name, vars(owner).get(name), name in vars(owner)))
        setattr(owner, name, wrapped)

    def close(self) -> None:
        """Everything is as it was."""
        while self._undo:
            owner, name, original, was_its_own = self._undo.pop()
            if was_its_own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)
