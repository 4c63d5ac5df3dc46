"""What `klamm dump-log` does: shows a segment file batch by batch, and checks it."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import typer

from ..proto.errors import KafkaError
from ..proto.record_batch import COMPRESSION_NAMES, HEADER_SIZE, RecordBatchHeader, check_batch, parse_header


def dump(file: Path, show_records: bool, as_json: bool) -> None:
    """Prints every batch; ends with exit code 1 where one is damaged, for nothing behind it can be trusted."""
    batches = records = position = 0
    problem: str | None = None
    expected: int | None = None
    with file.open("rb") as stream:
        size = file.stat().st_size
        data: Any = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        while position < size and problem is None:
            problem, header = _check(data, position, expected)
            if header is None:
                break
            _print_batch(header, position, problem, as_json)
            if problem is None and show_records:
                problem = _print_records(data[position : position + header.size_bytes], header, as_json)
            if problem is None:
                batches += 1
                records += header.record_count
                expected = header.next_offset
                position += header.size_bytes
    if as_json:
        print(json.dumps({"file": str(file), "batches": batches, "records": records, "bytes": size, "error": problem}))
    elif problem is None:
        print(f"{batches} batches, {records} records, {size} bytes: all sound")
    else:
        print(f"damaged at byte {position} of {size}: {problem}")
    if problem is not None:
        raise typer.Exit(1)


def _check(data: Any, position: int, expected: int | None) -> tuple[str | None, RecordBatchHeader | None]:
    try:
        header = parse_header(data, position)
    except KafkaError as error:
        return str(error), None
    try:
        check_batch(data, position)
    except KafkaError as error:
        return str(error), header
    if expected is not None and header.base_offset < expected:
        return f"base offset {header.base_offset} after a batch that ends at {expected}", header
    return None, header


def _print_batch(header: RecordBatchHeader, position: int, problem: str | None, as_json: bool) -> None:
    compression = COMPRESSION_NAMES[header.compression] if header.compression < len(COMPRESSION_NAMES) else "unknown"
    if as_json:
        fields = header._asdict() | {"position": position, "size_bytes": header.size_bytes, "compression": compression}
        print(json.dumps({"batch": fields | {"crc_is_right": problem is None}}))
        return
    producer = (
        f"producer {header.producer_id} epoch {header.producer_epoch} sequence {header.base_sequence}"
        f"..{header.last_sequence}"
        if header.producer_id >= 0
        else "no producer id"
    )
    kinds = "".join([", transactional" if header.is_transactional else "", ", control" if header.is_control else ""])
    print(
        f"offsets {header.base_offset}..{header.last_offset}  records {header.record_count}  "
        f"leader epoch {header.partition_leader_epoch}  max timestamp {header.max_timestamp}  {producer}  "
        f"{compression}{kinds}  at byte {position}, {max(header.size_bytes, HEADER_SIZE)} bytes  "
        f"crc {header.crc:#010x} {'right' if problem is None else 'WRONG'}"
    )


def _print_records(data: bytes, header: RecordBatchHeader, as_json: bool) -> str | None:
    from ..proto.record_codec import decode_errors, read_batch
    from .cli_consume import as_json as record_as_json
    from .structs import ConsumerRecord

    try:
        for record in read_batch(data):
            shown = ConsumerRecord(
                topic="",
                partition=-1,
                leader_epoch=header.partition_leader_epoch,
                offset=record.offset,
                timestamp=record.timestamp,
                timestamp_type=record.timestamp_type,
                key=record.key,
                value=record.value,
                headers=record.headers,
                checksum=None,
                serialized_key_size=-1 if record.key is None else len(record.key),
                serialized_value_size=-1 if record.value is None else len(record.value),
                serialized_header_size=-1,
            )
            if as_json:
                document = json.loads(record_as_json(shown))
                del document["topic"], document["partition"]
                print(json.dumps({"record": document}))
            else:
                print(
                    f"  offset {record.offset}  timestamp {record.timestamp}  key {record.key!r}  "
                    f"value {record.value!r}  headers {record.headers!r}"
                )
    except decode_errors() as error:
        return f"records of the batch at offset {header.base_offset}: {error}"
    return None
