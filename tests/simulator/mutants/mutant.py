"""A known way to get the protocol wrong, as a change of the code that runs, never of the repository.

Most are rewrites: some words in the source of one function become others, and the function made of them takes its place
for the time of a run. Words that are not there exactly once are an error, so a mutant whose ground was built over says
so at once instead of changing nothing.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, Final, Protocol
from unittest.mock import patch

Rule = int
"""By its number in DESIGN.md, section 6; 0 is for what no rule foresees, as that all is well again after the faults."""
LIVENESS: Final = 0
Swap = tuple[str, str]
"""Words of a source, and those that take their place."""


class Change(Protocol):
    """One thing that is another one while a mutant is planted."""

    @property
    def owner(self) -> Any:
        """The module or class."""

    @property
    def name(self) -> str:
        """Of what is changed there."""

    def made(self) -> Any:
        """What takes its place."""


@dataclass(frozen=True)
class Rewrite:
    """A function or method with other words in it."""

    owner: Any
    name: str
    swaps: tuple[Swap, ...]

    def made(self) -> Any:
        """The function made of the changed source; it sees the globals of the original.

        :raises ValueError: the words are not there, or more than once; or another module has a name of its own for it.
        """
        function = _function_of(inspect.getattr_static(self.owner, self.name))
        if isinstance(self.owner, ModuleType):
            _check_who_else_has(function, self.owner)
        source = textwrap.dedent(inspect.getsource(function))
        for before, after in self.swaps:
            if source.count(before) != 1:
                raise ValueError(f"{self}: {before!r} is there {source.count(before)} times, and not once")
            source = source.replace(before, after)
        if "super()" in source:
            raise ValueError(f"{self}: a function that calls super() cannot be made anew outside of its class")
        return _compiled(source, function, self.owner, self.name)

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"


@dataclass(frozen=True)
class Replace:
    """A value, or a whole function, in place of another."""

    owner: Any
    name: str
    value: Any

    def made(self) -> Any:
        return self.value

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"


@dataclass(frozen=True)
class Mutant:
    """See the module. `planted` is the time in which it is there."""

    name: str
    does: str  # one sentence
    breaks: str  # the KIP or the words of the rule
    rules: tuple[Rule, ...]  # one of these should find it
    changes: tuple[Change, ...]
    prefer: tuple[str, ...] = ()  # profiles of faults (`schedule.py`) without which it is not met often; none: all

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The code is wrong inside, and as it was afterwards."""
        with ExitStack() as patches:
            for change in self.changes:
                patches.enter_context(patch.object(change.owner, change.name, change.made()))
            yield


def rewrite(owner: Any, name: str, *swaps: Swap) -> Rewrite:
    """`name` of a class or module, with each first text of a pair become the second."""
    return Rewrite(owner, name, swaps)


def _function_of(found: Any) -> FunctionType:
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, (staticmethod, classmethod)):
        found = found.__func__
    if not isinstance(found, FunctionType):
        raise ValueError(f"{found!r} is no function")
    return found


def _check_who_else_has(function: FunctionType, owner: ModuleType) -> None:
    """Who imported the function by its name goes on with the one that it has: a mutant has to name that module. The
    one that defines it may keep its own where others do the calling."""
    for name, module in list(sys.modules.items()):
        if module in (None, owner) or not name.startswith("klamm.") or name == function.__module__:
            continue
        if vars(module).get(function.__name__) is function:
            raise ValueError(f"{name} has imported {function.__name__}, and would not see the mutant's")


def _compiled(source: str, function: FunctionType, owner: Any, name: str) -> Any:
    """With its decorators, and in a class of the same name, which counts for names with two underscores."""
    in_class = not isinstance(owner, ModuleType)
    if in_class:
        source = f"class {owner.__name__}:\n" + textwrap.indent(source, "    ")
    # The compiler takes over from this very file that annotations are not looked at.
    code = compile(ast.parse(source), f"<mutant of {function.__qualname__}>", "exec")
    names: dict[str, Any] = {}
    exec(code, function.__globals__, names)
    return vars(names[owner.__name__])[name] if in_class else names[function.__name__]
