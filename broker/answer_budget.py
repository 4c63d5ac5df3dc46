"""How many bytes of answers one connection may leave unread.

gRPC takes an answer off a call's hands whether or not the client reads: a client that asks for megabytes a hundred
times and never reads would fill the broker. So a connection whose answers are not yet away waits before the next one
is read from the log. Others are not concerned: each connection has a budget of its own.
"""

from __future__ import annotations

import asyncio


class AnswerBudget:
    """Lives on one event loop. Between `admit` and `hold` there must be no await: then the bound is kept."""

    def __init__(self, bytes_max: int) -> None:
        """A connection may hold `bytes_max` and one answer more."""
        self._bytes_max = bytes_max
        self._held: dict[str, int] = {}
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}

    async def admit(self, peer: str) -> None:
        """Returns once the connection has left less than its budget unread."""
        while self._held.get(peer, 0) >= self._bytes_max:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._waiting.setdefault(peer, {})
            waiting[future] = None
            try:
                await future
            finally:
                waiting.pop(future, None)

    def hold(self, peer: str, size_bytes: int) -> None:
        """An answer of this size goes out to the connection."""
        self._held[peer] = self._held.get(peer, 0) + size_bytes

    def release(self, peer: str, size_bytes: int) -> None:
        """It is away, or the connection is gone. Everyone who waits looks again, the longest first."""
        left = self._held[peer] - size_bytes
        if left:
            self._held[peer] = left
        else:
            del self._held[peer]
        for future in self._waiting.pop(peer, {}):
            if not future.done():
                future.set_result(None)
