"""What `klamm consume` does: prints records in a format of the user's choice."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import typer

from ..proto.errors import KafkaError, UnknownTopicOrPartitionError
from ..proto.identifiers import TopicPartition
from .structs import ConsumerRecord

if TYPE_CHECKING:
    from .consumer import Consumer

Part = Callable[[ConsumerRecord], bytes]

_POLL_MS: Final = 500
_POLL_RECORDS_MAX: Final = 5000
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}


@dataclass(frozen=True)
class Start:
    """Where to begin: an offset (negative: so many before the end), a time, or a name."""

    offset: int | None = None
    timestamp_ms: int | None = None
    name: str = "latest"


def parse_start(offset: str | None, timestamp: str | None) -> Start:
    """The options as a Start. :raises typer.BadParameter: they are none."""
    if timestamp is not None:
        return Start(timestamp_ms=parse_time(timestamp))
    if offset in (None, "latest", "end"):
        return Start()
    if offset in ("earliest", "beginning"):
        return Start(name="earliest")
    try:
        return Start(offset=int(str(offset)))
    except ValueError:
        raise typer.BadParameter(f"{offset!r} is not earliest, latest or a number", param_hint="--offset") from None


def parse_time(text: str, option: str = "--timestamp") -> int:
    """A time in ms since 1970. :raises typer.BadParameter: it is none."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither ms since 1970 nor a time such as 2026-01-31T12:00:00", param_hint=option
        ) from None
    return int(moment.timestamp() * 1000)


def parse_format(text: str | None) -> list[Part]:
    """A format as functions that each give a piece of the line. :raises typer.BadParameter: an unknown %x."""
    text = "%s\\n" if text is None else text
    parts: list[Part] = []
    literal = ""
    position = 0
    while position < len(text):
        letter = text[position]
        following = text[position + 1] if position + 1 < len(text) else ""
        position += 2
        if letter == "\\" and following in _ESCAPES:
            literal += _ESCAPES[following]
        elif letter == "%" and following == "%":
            literal += "%"
        elif letter == "%":
            field = _FIELDS.get(following)
            if field is None:
                raise typer.BadParameter(f"%{following} is not known; see --help", param_hint="--format")
            parts += [_constant(literal), field] if literal else [field]
            literal = ""
        else:
            literal += letter
            position -= 1
    return [*parts, _constant(literal)] if literal else parts


def _constant(text: str) -> Part:
    encoded = text.encode()
    return lambda record: encoded


def _time(record: ConsumerRecord) -> bytes:
    return datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(timespec="milliseconds").encode()


def _headers(record: ConsumerRecord) -> bytes:
    return b",".join(name.encode() + b"=" + (value or b"") for name, value in record.headers)


_FIELDS: Final[dict[str, Part]] = {
    "t": lambda record: record.topic.encode(),
    "p": lambda record: b"%d" % record.partition,
    "o": lambda record: b"%d" % record.offset,
    "k": lambda record: record.key or b"",
    "s": lambda record: record.value or b"",
    "v": lambda record: record.value or b"",
    "T": lambda record: b"%d" % record.timestamp,
    "D": _time,
    "h": _headers,
    "K": lambda record: b"%d" % record.serialized_key_size,
    "S": lambda record: b"%d" % record.serialized_value_size,
    "e": lambda record: b"%d" % (-1 if record.leader_epoch is None else record.leader_epoch),
}


def as_json(record: ConsumerRecord) -> bytes:
    """One record as a line of JSON; bytes that are not UTF-8 go into `key_base64` and `value_base64`."""
    document: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "leader_epoch": record.leader_epoch,
        "timestamp": record.timestamp,
        "timestamp_type": "LogAppendTime" if record.timestamp_type else "CreateTime",
        "headers": [
            [name, None if value is None else value.decode(errors="replace")] for name, value in record.headers
        ],
    }
    for name, content in (("key", record.key), ("value", record.value)):
        try:
            document[name] = None if content is None else content.decode()
        except UnicodeDecodeError:
            document[f"{name}_base64"] = base64.b64encode(content).decode()
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def consume(
    bootstrap_servers: str | None,
    topic: str,
    partitions: list[int] | None,
    start: Start,
    max_messages: int | None,
    exit_at_end: bool,
    layout: list[Part] | None,
    group: str | None = None,
) -> None:
    """Prints records; `layout` None prints JSON. Ctrl-C is how it is ended, and no failure.

    In a group `start` counts only where the group has committed nothing. What was printed is committed, and no more.
    """
    from .consumer import Consumer

    if max_messages == 0:
        return
    with Consumer(
        bootstrap_servers=bootstrap_servers,
        client_id="klamm-consume",
        group_id=group,
        auto_offset_reset="earliest" if start.name == "earliest" else "latest",
        default_api_timeout_ms=15_000,
    ) as consumer:
        if group is None:
            assigned = _assign(consumer, topic, partitions, start)
        else:
            assigned = _known(consumer, topic, None)
            consumer.subscribe([topic])
        ends = consumer.end_offsets(assigned) if exit_at_end else None
        try:
            _print_all(consumer, max_messages, ends, layout)
        except KeyboardInterrupt:
            pass
        finally:
            sys.stdout.buffer.flush()


def _known(consumer: Consumer, topic: str, wanted: list[int] | None) -> list[TopicPartition]:
    """The partitions wanted, or all. :raises KafkaError: there is no such topic or partition."""
    known = consumer.partitions_for_topic(topic)
    if known is None:
        raise UnknownTopicOrPartitionError(f"topic {topic!r} does not exist")
    missing = sorted(set(wanted or ()) - known)
    if missing:
        raise KafkaError(f"topic {topic!r} has partitions 0 to {max(known)}; {missing[0]} is not one of them")
    return [TopicPartition(topic, partition) for partition in sorted(set(wanted) if wanted else known)]


def _assign(consumer: Consumer, topic: str, wanted: list[int] | None, start: Start) -> list[TopicPartition]:
    assigned = _known(consumer, topic, wanted)
    consumer.assign(assigned)
    if start.timestamp_ms is not None:
        found = consumer.offsets_for_times(dict.fromkeys(assigned, start.timestamp_ms))
        for partition in assigned:
            at = found.get(partition)
            if at is None:
                consumer.seek_to_end(partition)
            else:
                consumer.seek(partition, at.offset)
    elif start.offset is not None and start.offset < 0:
        first, last = consumer.beginning_offsets(assigned), consumer.end_offsets(assigned)
        for partition in assigned:
            consumer.seek(partition, max(first[partition], last[partition] + start.offset))
    elif start.offset is not None:
        for partition in assigned:
            consumer.seek(partition, start.offset)
    return assigned


def _print_all(
    consumer: Consumer, max_messages: int | None, ends: dict[TopicPartition, int] | None, layout: list[Part] | None
) -> None:
    remaining = max_messages
    while not _is_at_end(consumer, ends):
        polled = consumer.poll(
            timeout_ms=_POLL_MS if ends is None else 50,
            max_records=_POLL_RECORDS_MAX if remaining is None else min(remaining, _POLL_RECORDS_MAX),
        )
        printed = _print_polled(consumer, polled, ends, layout)
        if remaining is not None:
            remaining -= printed
        if remaining == 0:
            return


def _print_polled(
    consumer: Consumer,
    polled: dict[TopicPartition, list[ConsumerRecord]],
    ends: dict[TopicPartition, int] | None,
    layout: list[Part] | None,
) -> int:
    """Prints records and counts them. What is not printed, is not read: the position goes back to it."""
    output = sys.stdout.buffer
    printed = 0
    unprinted = {partition: records[0].offset for partition, records in polled.items()}
    try:
        for partition, records in polled.items():
            end = None if ends is None else ends.get(partition)
            for record in records:
                if end is not None and record.offset >= end:
                    break  # written after the command began
                if layout is None:
                    output.write(as_json(record))
                else:
                    for part in layout:
                        output.write(part(record))
                printed += 1
                unprinted[partition] = record.offset + 1
            else:
                del unprinted[partition]
        if polled:
            output.flush()
    finally:
        for partition, offset in unprinted.items():
            if partition in consumer.assignment():
                consumer.seek(partition, offset)
    return printed


def _is_at_end(consumer: Consumer, ends: dict[TopicPartition, int] | None) -> bool:
    if ends is None:
        return False
    if consumer.group_metadata().group_id is None:
        return all(consumer.position(partition) >= end for partition, end in ends.items())
    assigned = consumer.assignment()  # in a group: of what it was given
    return bool(assigned) and all(consumer.position(partition) >= ends.get(partition, 0) for partition in assigned)
