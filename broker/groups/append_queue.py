"""The one way of a coordinator to its partition: what is to be written, in order, several writes to a batch.

A write may wait for the end of the event loop's turn (`soon`), so that the commits of many clients which arrive
together cost one append, or be made at once (`now`), with all that waits before it. Each ends in exactly one of these:

    done(error, in_log=False)                    nothing was written
    appended(end_offset), done(NONE, True)       every replica in sync has it
    appended(end_offset), done(error, True)      it is in the leader's log, and not known whether it stays (rule 16)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ...proto.errors import ErrorCode
from ...proto.identifiers import Offset
from .group import GroupRecord
from .group_log import GroupLog, batch_size_bytes

_BATCH_BYTES: Final = 256 * 1024
"""Writes are put together up to so much; a larger one goes alone."""


@dataclass(frozen=True, slots=True)
class Write:
    """Records that go into one batch, and who is told."""

    records: Sequence[GroupRecord]
    appended: Callable[[Offset], None]
    done: Callable[[ErrorCode, bool], None]


class AppendQueue:
    """Lives on one event loop."""

    def __init__(self, log: GroupLog, timeout_ms: int, guard: Callable[[Callable[[], None]], None]) -> None:
        """`guard` runs what the event loop calls here, and sees to it that a failure is not passed over."""
        self._log = log
        self._timeout_ms = timeout_ms
        self._guard = guard
        self._queue: deque[Write] = deque()
        self._scheduled = False
        self._flushing = False

    def soon(self, write: Write) -> None:
        """Within this turn of the event loop."""
        self._queue.append(write)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn_ends)

    def now(self, write: Write) -> None:
        """At once; from within a callback of another write, as soon as that returns."""
        self._queue.append(write)
        self.flush()

    def _turn_ends(self) -> None:
        self._scheduled = False
        self._guard(self.flush)

    def flush(self) -> None:
        """Makes all writes that wait."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while self._queue:
                self._append(self._take())
        finally:
            self._flushing = False

    def _take(self) -> list[Write]:
        """The writes of the next batch."""
        queue = self._queue
        limit = min(_BATCH_BYTES, self._log.max_batch_bytes)
        writes = [queue.popleft()]
        size = batch_size_bytes(writes[0].records)
        while queue and (size := size + batch_size_bytes(queue[0].records)) <= limit:
            writes.append(queue.popleft())
        return writes

    def _append(self, writes: list[Write]) -> None:
        records = [record for write in writes for record in write.records]
        result = self._log.append(records, self._timeout_ms)
        if isinstance(result, ErrorCode):
            for write in writes:
                write.done(result, False)
            return
        for write in writes:
            write.appended(result.end_offset)

        def decided() -> None:
            for write in writes:
                write.done(result.outcome.result(), True)

        if result.outcome.done():
            decided()
        else:
            result.outcome.add_done_callback(lambda _: self._guard(decided))
