"""What clients were told, held against whole logs once all is healed: rules 2, 3, 16 and 17.

2   replicas hold the same records
3   what was acked, or given to a consumer, is at its offset; compaction and retention apart
16  a send that was said to have failed is not there
17  a record of an idempotent producer is there once
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from simulator.ledger import Poll, Send
from simulator.oracles.breach import Report


class Record(NamedTuple):
    """One record of a log."""

    key: bytes | None
    value: bytes | None


class WholeLog(NamedTuple):
    """What is on one broker's disk for one partition, by offset."""

    broker_id: int
    start_offset: int
    end_offset: int
    records: Mapping[int, Record]


class PromiseOracle:
    """Asked at the end, once for each partition."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def replicas(self, name: str, logs: Sequence[WholeLog], *, compacted: bool) -> None:
        """All replicas of a partition that is healed."""
        first = logs[0]
        for log in logs[1:]:
            if log.end_offset != first.end_offset:
                self._report(
                    2,
                    f"{name} ends at {first.end_offset} on broker {first.broker_id} and at {log.end_offset} on broker "
                    f"{log.broker_id}",
                )
            begin = max(log.start_offset, first.start_offset)
            for offset in sorted({*first.records, *log.records}):
                one, other = first.records.get(offset), log.records.get(offset)
                if offset < begin or one == other or (compacted and (one is None or other is None)):
                    continue
                self._report(
                    2,
                    f"{name} at offset {offset} is {one} on broker {first.broker_id} and {other} on broker "
                    f"{log.broker_id}",
                )
                return

    def partition(
        self,
        name: str,
        log: WholeLog,
        sends: Sequence[Send],
        polls: Sequence[Poll],
        *,
        compacted: bool,
        maybe_deleted: Container[bytes | None] = (),
    ) -> None:
        """What the clients were told of one partition, as far as it is promised. Tombstones of the keys in
        `maybe_deleted` may have been there too: nobody was told what became of them."""
        newest: dict[bytes | None, int] = {}
        places: dict[bytes | None, list[int]] = {}
        for offset, record in log.records.items():
            newest[record.key] = max(offset, newest.get(record.key, -1))
            if record.value is not None:
                places.setdefault(record.value, []).append(offset)
        # A tombstone and what it deletes may both be gone: that is what it is for.
        for key, offset in [
            *((send.key, send.offset) for send in sends if send.value is None and send.offset is not None),
            *((poll.key, poll.offset) for poll in polls if poll.value is None),
        ]:
            newest[key] = max(offset + 1, newest.get(key, -1))
        for send in sends:
            if send.key in maybe_deleted:
                newest[send.key] = log.end_offset
        for send in sends:
            self._check_send(name, log, send, places.get(send.value, []), newest, compacted=compacted)
        for poll in polls:
            self._check_there(
                name, log, poll.offset, Record(poll.key, poll.value), newest, f"read by {poll.consumer}", compacted
            )

    def _check_send(
        self,
        name: str,
        log: WholeLog,
        send: Send,
        offsets: list[int],
        newest: Mapping[bytes | None, int],
        *,
        compacted: bool,
    ) -> None:
        if send.failed is not None and offsets:
            self._report(
                16,
                f"{send.value!r} of {send.producer} is at offset {offsets[0]} of {name}, though it failed: "
                f"{send.failed}",
            )
        if not send.strong:
            return
        if len(offsets) > 1:
            self._report(17, f"{send.value!r} of {send.producer} is in {name} at the offsets {sorted(offsets)}")
        if send.acked_s is not None and send.offset is not None:
            wanted = Record(send.key, send.value)
            self._check_there(name, log, send.offset, wanted, newest, f"acked to {send.producer}", compacted)
        elif send.acked_s is not None and send.value is not None and not (offsets or compacted or log.start_offset):
            # The client was not told where; but of a log that begins at 0 nothing was deleted.
            self._report(
                3,
                f"{send.value!r} was acked to {send.producer}, and is nowhere in {name}: the log of broker "
                f"{log.broker_id} goes to {log.end_offset}",
            )

    def _check_there(
        self,
        name: str,
        log: WholeLog,
        offset: int,
        wanted: Record,
        newest: Mapping[bytes | None, int],
        why: str,
        compacted: bool,
    ) -> None:
        if offset < log.start_offset:
            return
        found = log.records.get(offset)
        if found == wanted or (compacted and found is None and newest.get(wanted.key, -1) > offset):
            return
        what = "nothing" if found is None else f"{found.value!r}"
        self._report(
            3,
            f"{wanted.value!r} was {why} at offset {offset} of {name}, where {what} is: the log of broker "
            f"{log.broker_id} goes from {log.start_offset} to {log.end_offset}",
        )
