"""The committed metadata records, numbered, as far back as memory allows: what followers are streamed.

The Raft log holds commands; this holds the records they led to, which are the same with the same numbers on every
controller. Only the tail is kept. Who asks for an offset before it is given a snapshot first: the records of the
image. Readers bring their own offset and read when they are ready, so a slow one costs no memory here; when the tail
has moved past it, it gets a snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from ..cluster.image import MetadataImage
from ..cluster.invariant import invariant
from ..proto.metadata_pb2 import MetadataBatch, MetadataRecord

TAIL_RECORDS_MAX: Final = 20_000
TAIL_BYTES_MAX: Final = 8 * 1024 * 1024
BATCH_BYTES_MAX: Final = 512 * 1024


class OffsetNotInLogError(Exception):
    """The tail begins after the offset asked for; a snapshot is needed."""


class MetadataLog:
    """The tail of the metadata log. Lives on one event loop."""

    def __init__(self, *, records_max: int = TAIL_RECORDS_MAX, bytes_max: int = TAIL_BYTES_MAX) -> None:
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._start_offset = 0
        self._records: list[MetadataRecord] = []  # _records[n] has offset _start_offset + n
        self._sizes: list[int] = []
        self._ends: list[bool] = []  # whether the record is the last of its command
        self._bytes = 0
        self._changed = asyncio.Event()

    @property
    def start_offset(self) -> int:
        """The first offset that is kept."""
        return self._start_offset

    @property
    def end_offset(self) -> int:
        """The offset of the next record."""
        return self._start_offset + len(self._records)

    def append(self, records: Sequence[MetadataRecord]) -> None:
        """Takes the records of one committed command in and wakes who waits for them."""
        for record in records:
            size = record.ByteSize()
            self._records.append(record)
            self._sizes.append(size)
            self._ends.append(False)
            self._bytes += size
        if records:
            self._ends[-1] = True
        self._trim()
        self.wake()

    def reset(self, end_offset: int) -> None:
        """Forgets the tail: the state came from a snapshot that ends here."""
        self._start_offset = end_offset
        self._records.clear()
        self._sizes.clear()
        self._ends.clear()
        self._bytes = 0
        self.wake()

    def read(self, offset: int, *, bytes_max: int = BATCH_BYTES_MAX) -> MetadataBatch | None:
        """The records from `offset` on, as many as fit (at least one); None if there are none yet.

        A batch that ends within a command says so: brokers take a command up as a whole, so that nobody sees half of a
        new topic.

        :raises OffsetNotInLogError: the tail begins after `offset`
        """
        if offset < self._start_offset:
            raise OffsetNotInLogError(f"offset {offset} is before the tail, which begins at {self._start_offset}")
        first = offset - self._start_offset
        if first >= len(self._records):
            return None
        last, taken = first, 0
        while last < len(self._records) and (last == first or taken + self._sizes[last] <= bytes_max):
            taken += self._sizes[last]
            last += 1
        return MetadataBatch(
            base_offset=offset,
            end_offset=self._start_offset + last,
            records=self._records[first:last],
            mid_command=not self._ends[last - 1],
        )

    async def wait_for_change(self) -> None:
        """Returns when the next records were committed, or `wake` was called."""
        await self._changed.wait()

    def wake(self) -> None:
        """Wakes who waits for a change."""
        # Set and cleared in one step: wakes those who wait now, and who comes later waits for the next change.
        self._changed.set()
        self._changed.clear()

    def _trim(self) -> None:
        if len(self._records) <= self._records_max and self._bytes <= self._bytes_max:
            return
        # Down to half, so that the cost of moving the list is paid once in many appends.
        drop, left = 0, self._bytes
        while drop < len(self._records) and (
            len(self._records) - drop > self._records_max // 2 or left > self._bytes_max // 2
        ):
            left -= self._sizes[drop]
            drop += 1
        del self._records[:drop]
        del self._sizes[:drop]
        del self._ends[:drop]
        self._start_offset += drop
        self._bytes = left


def snapshot_batches(image: MetadataImage, *, bytes_max: int = BATCH_BYTES_MAX) -> Iterator[MetadataBatch]:
    """The whole image as batches of bounded size; an empty image makes one batch without records."""
    invariant(image.end_offset >= 0, "an image ends at an offset")
    batch = MetadataBatch(is_snapshot=True, end_offset=image.end_offset)
    size = 0
    for record in image.to_records():
        record_size = record.ByteSize()
        if batch.records and size + record_size > bytes_max:
            yield batch
            batch = MetadataBatch(is_snapshot=True, end_offset=image.end_offset)
            size = 0
        batch.records.append(record)
        size += record_size
    batch.last_of_snapshot = True
    yield batch
