"""Everyone who waits for an answer of one coordinator shard, so that all can be told at once when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ...proto.errors import ErrorCode
from .group import Ticket

Refuse = Callable[[ErrorCode], Any]
"""The answer that belongs to a request, with nothing in it but an error."""


class Waiters:
    """Lives on one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Ticket, tuple[asyncio.Future[Any], Refuse]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, refuse: Refuse) -> tuple[Ticket, asyncio.Future[Any]]:
        """A ticket and the future of its answer; `end` must be called for it in the end."""
        self._next += 1
        ticket = Ticket(self._next)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future, refuse
        return ticket, future

    def answer(self, ticket: Ticket, answer: Any) -> None:
        """Hands the answer over, unless nobody waits for it any more."""
        waiting = self._waiting.get(ticket)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(answer)

    def end(self, ticket: Ticket) -> None:
        """Nobody waits with this ticket any more."""
        self._waiting.pop(ticket, None)

    def refuse_all(self, error: ErrorCode) -> None:
        """Tells everyone that nothing will come of it."""
        for future, refuse in self._waiting.values():
            if not future.done():
                future.set_result(refuse(error))
