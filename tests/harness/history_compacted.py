"""Replicas of a compacted topic, compared by what compaction must keep: the latest record of each key.

Every broker cleans at its own pace, so that no two logs need hold the same batches. But whatever was cleaned, each
key's latest record stays, at its offset, on each replica; a tombstone may be there yet or be gone, which is the same.
What one replica holds past the end of another may have been written while the cluster stopped, and may have gone
nowhere: a key whose latest record lies there is not compared between the two, for its older one may be cleaned away
already. Every replica was in sync when the clients had stopped, so each must reach to the high watermark of then.

And what __consumer_offsets holds for a group and partition must be what the coordinator told when it was asked last.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from harness.history import CommittedOffset, CompactedLog, KeyedRecord, Operation
from harness.history_findings import AnomalyName, Findings
from klamm.proto.errors import KafkaError
from klamm.proto.record_batch import check_batch
from klamm.proto.record_codec import decode_errors, read_batch

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
_INT64 = struct.Struct(">q")
_OFFSET_KEY_VERSIONS = (0, 1)
_DAMAGED: tuple[type[Exception], ...] = (KafkaError, *decode_errors())


class CompactedLogError(Exception):
    """The bytes are no log that a compacted topic without transactions may have; says where and why."""


# --- from bytes ---------------------------------------------------------------------------------------------------


def latest_records(segments: Iterable[tuple[int, bytes]]) -> tuple[int, tuple[KeyedRecord, ...]]:
    """The log end offset and each key's latest record, by offset. `segments`: base offset and bytes of each, in order.

    :raises CompactedLogError: a batch is damaged, offsets do not rise, a record has no key, or a batch is
        transactional or a control batch.
    """
    latest: dict[bytes, tuple[int, bytes | None]] = {}
    end = 0
    for base_offset, data in segments:
        if base_offset < end:
            raise CompactedLogError(f"the segment of {base_offset} begins before {end}, where the one before it ended")
        end = base_offset
        position = 0
        while position < len(data):
            end, position = _read_batch(base_offset, data, position, end, latest)
    records = [
        KeyedRecord(offset, key.hex(), None if value is None else value.hex())
        for key, (offset, value) in latest.items()
    ]
    return end, tuple(sorted(records))


def _read_batch(
    segment: int, data: bytes, position: int, end: int, latest: dict[bytes, tuple[int, bytes | None]]
) -> tuple[int, int]:
    """Adds a batch to `latest`; returns where the next may begin: its offset and its place in the segment."""
    where = f"segment {segment} at byte {position}"
    try:
        header = check_batch(data, position)
        batch = data[position : position + header.size_bytes]
        found = [(one.offset, one.key, one.value) for one in read_batch(batch)] if header.record_count else []
    except _DAMAGED as error:
        raise CompactedLogError(f"{where}: {error}") from error
    if header.is_control or header.is_transactional:
        raise CompactedLogError(f"{where}: a {'control' if header.is_control else 'transactional'} batch")
    if header.base_offset < end:
        raise CompactedLogError(f"{where}: offset {header.base_offset} where {end} is next")
    for offset, key, value in found:
        if not end <= offset <= header.last_offset:
            raise CompactedLogError(f"{where}: a record of offset {offset} where {end} is next")
        if key is None:
            raise CompactedLogError(f"{where}: the record of offset {offset} has no key")
        latest[bytes(key)] = (offset, None if value is None else bytes(value))
        end = offset + 1
    return header.next_offset, position + header.size_bytes


def committed_offsets(
    records: Sequence[KeyedRecord], numbers: Mapping[tuple[str, int], int]
) -> tuple[CommittedOffset, ...]:
    """What records of __consumer_offsets say; `numbers`: the history's, by topic and partition.

    :raises CompactedLogError: a record of a committed offset ends early, or names a partition that has no number.
    """
    found = []
    for record in records:
        key = bytes.fromhex(record.key)
        try:
            if record.value is None or _INT16.unpack_from(key)[0] not in _OFFSET_KEY_VERSIONS:
                continue
            group, position = _string(key, 2)
            topic, position = _string(key, position)
            spot = (topic, _INT32.unpack_from(key, position)[0])
            offset = _INT64.unpack_from(bytes.fromhex(record.value), 2)[0]
        except struct.error as error:
            raise CompactedLogError(f"the record of offset {record.offset} ends early: {error}") from error
        if spot not in numbers:
            raise CompactedLogError(f"the record of offset {record.offset} is of {topic}-{spot[1]}, which nobody reads")
        found.append(CommittedOffset(group, numbers[spot], offset))
    return tuple(sorted(found))


def _string(data: bytes, position: int) -> tuple[str, int]:
    end = position + 2 + _INT16.unpack_from(data, position)[0]
    return data[position + 2 : end].decode(), end


# --- to a verdict -------------------------------------------------------------------------------------------------


class CompactedLogs:
    """Sees all logs and the last answers of coordinators, then compares."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._logs: dict[tuple[str, int], list[tuple[int, CompactedLog]]] = {}
        self._told: dict[tuple[str, int], tuple[int, int | None]] = {}  # by group and partition: entry and offset

    def see(self, number: int, log: CompactedLog) -> None:
        """A replica."""
        self._logs.setdefault((log.topic, log.partition), []).append((number, log))

    def see_told(self, number: int, operation: Operation) -> None:
        """A `final-committed`: what a coordinator told when no client was at work any more."""
        if operation.outcome == "ok" and operation.group is not None:
            for partition, offset in operation.positions:
                self._told[operation.group, partition] = (number, offset)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """What could not be judged, in words."""
        words = [
            f"replicas of {topic}-{partition} were not compared: there is one"
            for (topic, partition), logs in sorted(self._logs.items())
            if len(logs) < 2
        ]
        committed = {
            (one.group, one.partition) for logs in self._logs.values() for _, log in logs for one in log.committed
        }
        strangers = sorted({group for group, _ in committed - set(self._told)})
        if strangers:
            words.append(f"the offsets of groups {', '.join(strangers)} were not asked for at the end")
        if self._told and not self._logs:
            words.append("no replica tells what groups had committed at the end")
        return tuple(words)

    def conclude(self) -> None:
        """Adds what is wrong."""
        for logs in self._logs.values():
            first = max(logs, key=lambda pair: pair[1].log_end_offset)
            for number, log in logs:
                if log.log_end_offset < log.high_watermark:
                    self._add(
                        (number,),
                        f"{_name(log)} ends at {log.log_end_offset}, and all before {log.high_watermark} was committed",
                    )
                if log is not first[1]:
                    self._compare(first, (number, log))
        if self._logs:
            self._compare_with_told()

    def _compare(self, first: tuple[int, CompactedLog], second: tuple[int, CompactedLog]) -> None:
        one, other = first[1], second[1]
        end = other.log_end_offset  # no log ends later than the first
        mine, its = ({record.key: record for record in log.records} for log in (one, other))
        for key in sorted(mine.keys() | its.keys()):
            here, there = mine.get(key), its.get(key)
            if here is not None and here.offset >= end:
                continue  # the other has not come to it, and what was before it may have been cleaned away
            if _kept(here) != _kept(there):
                self._add(
                    (first[0], second[0]),
                    f"key {_shown(key)}: {_name(one)} {_said(here)}, {_name(other)} {_said(there)}",
                )

    def _compare_with_told(self) -> None:
        """The partition that holds a group is the one whose log tells of it: one that no log tells of has nothing."""
        for number, log in (pair for logs in self._logs.values() for pair in logs):
            for one in log.committed:
                told = self._told.get((one.group, one.partition))
                if told is not None and told[1] != one.offset:
                    self._differs(
                        (told[0], number), one.group, one.partition, told[1], f"{_name(log)} says {one.offset}"
                    )
        for (group, partition), (number, offset) in self._told.items():
            if offset is None:
                continue
            for logs in self._logs.values():
                lacking = [pair for pair in logs if not _holds(pair[1], group, partition)]
                if len(lacking) < len(logs):  # this is the group's partition
                    for where, log in lacking:
                        self._differs((number, where), group, partition, offset, f"{_name(log)} says nothing")
            if not any(_holds(log, group, partition) for logs in self._logs.values() for _, log in logs):
                self._differs((number,), group, partition, offset, "no replica says anything")

    def _differs(self, entries: tuple[int, ...], group: str, partition: int, offset: int | None, what: str) -> None:
        told = "nothing" if offset is None else str(offset)
        description = f"group {group} had committed {told}, its coordinator told at the end; {what}"
        self._findings.add(AnomalyName.COMMITTED_DIFFERS, partition, entries, description)

    def _add(self, entries: tuple[int, ...], description: str) -> None:
        self._findings.add(AnomalyName.REPLICAS_DIFFER, None, entries, description)


def _holds(log: CompactedLog, group: str, partition: int) -> bool:
    return any(one.group == group and one.partition == partition for one in log.committed)


def _kept(record: KeyedRecord | None) -> KeyedRecord | None:
    """None where there is no record, or a tombstone."""
    return None if record is None or record.value is None else record


def _name(log: CompactedLog) -> str:
    return f"broker {log.broker}, {log.topic}-{log.partition}"


def _said(record: KeyedRecord | None) -> str:
    if record is None:
        return "has nothing"
    if record.value is None:
        return f"has a tombstone at {record.offset}"
    return f"has {_shown(record.value)} at {record.offset}"


def _shown(text: str) -> str:
    return repr(bytes.fromhex(text)[:60])[1:]
