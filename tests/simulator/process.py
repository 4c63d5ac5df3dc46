"""One incarnation of a node's process: whatever runs in its context ends with it, at once and without a last word.

A process is known by a context variable. Tasks, timers and callbacks inherit it from whoever made them, so that the
loop knows whose each one is: what belongs to a process that was killed never runs again, not even its `finally`.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from simulator.network import End

current_process: Final[contextvars.ContextVar[Process | None]] = contextvars.ContextVar("process", default=None)


class Process:
    """Runs until `alive` is False; while `paused` (SIGSTOP) what is due waits in `held`."""

    def __init__(self, name: str, host: str) -> None:
        """`host` is its address in the simulated network."""
        self.name: Final = name
        self.host: Final = host
        self.alive = True
        self.paused = False
        self.has_run = True  # since the oracles looked at it
        self.wall_offset_ms = 0  # its clock on the wall, against the simulation's
        self.held: list[Any] = []
        self.ends: dict[End, None] = {}  # its open connections
        self.ports: set[int] = set()
        self.next_port = 40_000
        self.context: Final = contextvars.copy_context()
        self.context.run(current_process.set, self)

    def run(self, call: Callable[..., Any], *args: Any) -> Any:
        """Calls it as this process would."""
        self.has_run = True
        return contextvars.Context.run(self.context.copy(), call, *args)

    def __repr__(self) -> str:
        return self.name
