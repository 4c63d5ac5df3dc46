"""What the failover demo must find at the end, as pure functions: what was acked is there, and the replicas agree.

Every record that is sent has a number, and says it itself: its value is `<number> TAB <line>`. Numbers grow in the
order in which the records of one key were sent.

    lost        an acked record is not in its partition
    moved       an acked record is there, not at its acked offset
    doubled     a record is there twice
    altered     a stored record is none that was sent
    reordered   a record stands before an earlier one of its key, or a key is in two partitions
    gap         offsets are left out
    unread      the consumer that ran all the while did not see each stored record once, in order
    differing   two replicas do not hold the same bytes below the high watermark
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

BreachKind = Literal["lost", "moved", "doubled", "altered", "reordered", "gap", "unread", "differing"]

_BATCH_START: Final = struct.Struct(">qi")  # base offset, length of what follows
_LAST_OFFSET_DELTA: Final = struct.Struct(">i")
_LAST_OFFSET_DELTA_AT: Final = 23


class StoredRecord(NamedTuple):
    """A record as a consumer reads it back."""

    offset: int
    key: bytes | None
    value: bytes | None


class SentRecord(NamedTuple):
    """A record as it was sent; its number is its place in the sequence of all."""

    key: bytes
    line: bytes


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that must not be."""

    kind: BreachKind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(slots=True)
class PartitionCheck:
    """What was found in one partition: the numbers of its records by offset, and the breaches."""

    numbers: list[int] = field(default_factory=list)  # -1: none that was sent
    breaches: list[Breach] = field(default_factory=list)


def encode_value(number: int, line: bytes) -> bytes:
    """The value of the record of this number."""
    return b"%d\t%b" % (number, line)


def number_of(value: bytes | None) -> int | None:
    """The number that a value bears; None if it bears none."""
    head, tab, _ = (value or b"").partition(b"\t")
    return int(head) if tab and head.isdigit() else None


def check_partition(
    partition: int, sent: Sequence[SentRecord], acked: Mapping[int, int], stored: Iterable[StoredRecord]
) -> PartitionCheck:
    """Checks what a partition holds from offset 0 on. `acked` is the acked offset by number, of this partition alone.

    A record that was sent and never acked may be there or not: its outcome is not known.
    """
    result = PartitionCheck()
    breaches = result.breaches
    positions: dict[int, int] = {}
    newest_of_key: dict[bytes, int] = {}
    for record in stored:
        where = f"partition {partition} offset {record.offset}"
        if record.offset != len(result.numbers):
            breaches.append(Breach("gap", f"{where} where {len(result.numbers)} was due"))
            result.numbers.extend([-1] * (record.offset - len(result.numbers)))
        number = _number_as_sent(record, sent)
        result.numbers.append(-1 if number is None else number)
        if number is None:
            breaches.append(Breach("altered", f"{where}: {record.key!r} {record.value!r:.80} was never sent"))
            continue
        if number in positions:
            breaches.append(Breach("doubled", f"{where}: record {number} is at offset {positions[number]} too"))
            continue
        positions[number] = record.offset
        key = sent[number].key
        if newest_of_key.get(key, -1) > number:
            breaches.append(Breach("reordered", f"{where}: record {number} after {newest_of_key[key]} of {key!r}"))
        newest_of_key[key] = max(number, newest_of_key.get(key, -1))
    for number, offset in acked.items():
        if number not in positions:
            breaches.append(Breach("lost", f"partition {partition}: record {number}, acked at offset {offset}"))
        elif result.numbers[offset : offset + 1] != [number]:
            message = f"partition {partition}: record {number}, acked at offset {offset}, is at {positions[number]}"
            breaches.append(Breach("moved", message))
    return result


def check_keys(sent: Sequence[SentRecord], numbers_by_partition: Mapping[int, Sequence[int]]) -> list[Breach]:
    """Checks that no key is in two partitions: there would be no order among its records."""
    home: dict[bytes, int] = {}
    breaches = []
    for partition, numbers in numbers_by_partition.items():
        keys = sorted({sent[number].key for number in numbers if number >= 0})
        strays = [key for key in keys if home.setdefault(key, partition) != partition]
        breaches += [Breach("reordered", f"{key!r} is in partitions {home[key]} and {partition}") for key in strays]
    return breaches


def check_consumed(partition: int, stored_numbers: Sequence[int], consumed: Sequence[tuple[int, int]]) -> list[Breach]:
    """Checks what a consumer saw while all went on, as (offset, number): each stored record once, in order."""
    breaches = []
    for due, (offset, number) in enumerate(consumed):
        if offset != due:
            breaches.append(Breach("unread", f"partition {partition}: offset {offset} was read where {due} was due"))
            break
        if due >= len(stored_numbers) or stored_numbers[due] != number:
            there = stored_numbers[due] if due < len(stored_numbers) else "nothing"
            message = f"partition {partition} offset {offset}: record {number} was read, {there} is there now"
            breaches.append(Breach("unread", message))
            break
    if not breaches and len(consumed) < len(stored_numbers):
        missing = len(stored_numbers) - len(consumed)
        breaches.append(Breach("unread", f"partition {partition}: the last {missing} records were never read"))
    return breaches


def check_replicas(partition: int, high_watermark: int, replicas: Mapping[str, bytes]) -> list[Breach]:
    """Checks that all replicas hold the same bytes below the high watermark; each is its segments in a row."""
    names = sorted(replicas)
    parts = {name: memoryview(replicas[name])[: end_of(replicas[name], high_watermark)] for name in names}
    breaches = [
        Breach("differing", f"partition {partition}: {name} ends before the high watermark {high_watermark}")
        for name in names
        if end_offset(parts[name]) < high_watermark
    ]
    for name in names[1:]:
        if parts[name] != parts[names[0]]:
            offset = _first_difference(parts[names[0]], parts[name])
            message = f"partition {partition}: {names[0]} and {name} differ in the batch at offset {offset}"
            breaches.append(Breach("differing", message))
    return breaches


def end_of(log: bytes, high_watermark: int) -> int:
    """The length of the whole batches that lie below the high watermark."""
    end = 0
    for position, size, last_offset in _batches(log):
        if last_offset >= high_watermark:
            break
        end = position + size
    return end


def end_offset(log: bytes | memoryview) -> int:
    """The offset after the last whole batch; 0 if there is none."""
    return max((last_offset + 1 for _, _, last_offset in _batches(log)), default=0)


def _batches(log: bytes | memoryview) -> Iterable[tuple[int, int, int]]:
    """(position, size, last offset) of each whole batch."""
    position = 0
    while position + _LAST_OFFSET_DELTA_AT + _LAST_OFFSET_DELTA.size <= len(log):
        base_offset, length = _BATCH_START.unpack_from(log, position)
        size = _BATCH_START.size + length
        if length <= 0 or position + size > len(log):
            return
        (delta,) = _LAST_OFFSET_DELTA.unpack_from(log, position + _LAST_OFFSET_DELTA_AT)
        yield position, size, base_offset + delta
        position += size


def _first_difference(one: memoryview, other: memoryview) -> int:
    for position, size, last_offset in _batches(one):
        if one[position : position + size] != other[position : position + size]:
            base_offset: int = _BATCH_START.unpack_from(one, position)[0]
            return min(base_offset, last_offset)
    return end_offset(one)


def _number_as_sent(record: StoredRecord, sent: Sequence[SentRecord]) -> int | None:
    number = number_of(record.value)
    if number is None or number >= len(sent):
        return None
    key, line = sent[number]
    return number if record.key == key and record.value == encode_value(number, line) else None
