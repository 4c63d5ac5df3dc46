"""Requests that wait: produces for the high watermark, fetches for bytes, and the deadlines of both.

One object for each request and one future inside it; no task, no timer for each. Whoever owns the partition reports
what happened to it, and each report touches only requests that it may complete. A request that waits for several
partitions is entered with each of them and leaves lazily: an entry of a finished request is skipped when its turn
comes. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

from ..proto.errors import ErrorCode
from ..proto.identifiers import Offset

_BUCKET_MS: Final = 10
"""Deadlines are kept to this many milliseconds, rounded up: a request may wait longer by so much, never shorter."""


class Waiting:
    """Something with a deadline. `bucket` belongs to the `Deadlines` it is in."""

    __slots__ = ("bucket", "done")

    def __init__(self) -> None:
        self.bucket = -1
        self.done = False


W = TypeVar("W", bound=Waiting)


class Deadlines(Generic[W]):
    """Who is to be given up on when. Adding, discarding and expiring one take constant time, but for new buckets."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[W, None]] = {}
        self._order: list[int] = []  # heap of bucket numbers; may name emptied ones

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())

    def add(self, waiting: W, deadline_ms: int) -> None:
        """Enters `waiting`, which is in no other."""
        number = -(-deadline_ms // _BUCKET_MS)
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = {}
            heappush(self._order, number)
        bucket[waiting] = None
        waiting.bucket = number

    def discard(self, waiting: W) -> None:
        """Takes `waiting` out; it need not be in."""
        bucket = self._buckets.get(waiting.bucket)
        if bucket is not None:
            bucket.pop(waiting, None)
        waiting.bucket = -1

    def expired(self, now_ms: int) -> list[W]:
        """Takes out and returns all whose deadline has come."""
        out: list[W] = []
        while self._order and self._order[0] * _BUCKET_MS <= now_ms:
            out.extend(self._buckets.pop(heappop(self._order)))
        for waiting in out:
            waiting.bucket = -1
        return out

    def next_ms(self) -> int | None:
        """When to call `expired` next; None if nobody waits."""
        while self._order and not self._buckets[self._order[0]]:
            del self._buckets[heappop(self._order)]
        return self._order[0] * _BUCKET_MS if self._order else None


class WaitingProduce(Waiting):
    """A produce request under acks=all: done once each of its partitions has been decided."""

    __slots__ = ("_complete", "errors", "undecided")

    def __init__(self, size: int, complete: Callable[[WaitingProduce], None]) -> None:
        """`errors[n]` will be what became of the request's nth partition; None while it is not decided."""
        super().__init__()
        self.errors: list[ErrorCode | None] = [None] * size
        self.undecided = size
        self._complete = complete

    def decide(self, index: int, error: ErrorCode) -> None:
        """One partition is decided; the last one completes the request."""
        if self.done or self.errors[index] is not None:
            return
        self.errors[index] = error
        self.undecided -= 1
        if self.undecided == 0:
            self.done = True
            self._complete(self)

    def time_out(self) -> None:
        """Time is up: what was appended stays, whether it will be committed is not known (rule 16)."""
        for index, error in enumerate(self.errors):
            if error is None:
                self.decide(index, ErrorCode.REQUEST_TIMED_OUT)


class ProduceQueue:
    """Produces that wait for one partition's high watermark, the nearest first."""

    __slots__ = ("_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[Offset, int, WaitingProduce, int]] = []
        self._number = 0  # makes entries of the same offset comparable

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, required_offset: Offset, produce: WaitingProduce, index: int) -> None:
        """`produce` waits for the high watermark to reach `required_offset`, one past its last record.

        Offsets mostly come in rising order, which a heap takes in constant time; that of a duplicate may be lower.
        """
        self._number += 1
        heappush(self._heap, (required_offset, self._number, produce, index))

    def high_watermark_advanced(self, high_watermark: Offset, error: ErrorCode = ErrorCode.NONE) -> None:
        """Decides all whose offset is reached."""
        heap = self._heap
        while heap and heap[0][0] <= high_watermark:
            _, _, produce, index = heappop(heap)
            produce.decide(index, error)

    def decide_all(self, error: ErrorCode) -> None:
        """Decides all: leadership is gone, or the ISR is too small to go on."""
        heap, self._heap = self._heap, []
        for _, _, produce, index in heap:
            produce.decide(index, error)


class WaitingFetch(Waiting):
    """A consumer's fetch that found less than its min_bytes. Done at the first event that may change that."""

    __slots__ = ("_complete", "_counted", "missing_bytes")

    def __init__(self, missing_bytes: int, complete: Callable[[WaitingFetch], None]) -> None:
        super().__init__()
        self.missing_bytes = missing_bytes
        self._complete = complete
        self._counted: dict[FetchQueue, int] = {}

    def wait_on(self, queue: FetchQueue) -> None:
        """Bytes committed in this partition from now on count."""
        self._counted[queue] = queue.committed_bytes
        queue.fetches[self] = None

    def committed(self, queue: FetchQueue) -> None:
        """More was committed in one of its partitions."""
        before = self._counted[queue]
        self._counted[queue] = queue.committed_bytes
        self.missing_bytes -= queue.committed_bytes - before
        if self.missing_bytes <= 0:
            self.finish()

    def finish(self) -> None:
        """Read again now: enough is there, or something else is to be told, or time is up."""
        if self.done:
            return
        self.done = True
        for queue in self._counted:
            queue.fetches.pop(self, None)
        self._counted.clear()
        self._complete(self)


class FetchQueue:
    """Fetches that wait on one partition."""

    __slots__ = ("committed_bytes", "fetches")

    def __init__(self) -> None:
        self.committed_bytes = 0  # ever, in this leadership: only differences count
        self.fetches: dict[WaitingFetch, None] = {}

    def committed(self, size_bytes: int) -> None:
        """The high watermark moved over so many bytes."""
        self.committed_bytes += size_bytes
        if self.fetches:
            for fetch in tuple(self.fetches):
                fetch.committed(self)

    def finish_all(self) -> None:
        """Leadership changed or the partition is gone: all must look again."""
        for fetch in tuple(self.fetches):
            fetch.finish()
