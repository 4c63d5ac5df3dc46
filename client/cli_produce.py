"""What `klamm produce` does: a line is a record."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from ..proto.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError
from .cli_output import connected_admin, parse_pairs, print_json

if TYPE_CHECKING:
    from .producer import Producer

_TOPIC_WAIT_MS = 3000
_PROGRESS_EVERY = 500


class _Outcome:
    """Counts what became of the records; called in the producer's thread."""

    def __init__(self) -> None:
        self.written = 0
        self.failed = 0
        self.first_error: KafkaError | None = None

    def on_success(self, _: Any) -> None:
        self.written += 1

    def on_failure(self, error: KafkaError) -> None:
        self.failed += 1
        self.first_error = self.first_error or error


def produce(
    bootstrap_servers: str | None,
    topic: str,
    file: Path | None,
    key_separator: str | None,
    headers: list[str],
    partition: int | None,
    compression: str,
    acks: str,
    as_json: bool,
) -> None:
    """Sends every line; exit code 1 if a record was not written."""
    from .producer import Producer

    record_headers = [(name, value.encode()) for name, value in parse_pairs(headers, "--header").items()]
    separator = None if key_separator is None else key_separator.encode().decode("unicode_escape").encode()
    outcome = _Outcome()
    with Producer(
        bootstrap_servers=bootstrap_servers,
        client_id="klamm-produce",
        acks=int(acks) if acks in ("0", "1") else acks,
        compression_type=None if compression == "none" else compression,
        linger_ms=0 if sys.stdin.isatty() and file is None else 5,
        batch_size=65536,
        max_block_ms=60_000,
    ) as producer:
        _check_topic(bootstrap_servers, producer, topic)
        source: Any = nullcontext(sys.stdin.buffer) if file is None else file.open("rb")
        with source as stream, _progress(file) as advance:
            for number, line in enumerate(_lines(stream), start=1):
                key, value = _split(line, separator, number)
                future = producer.send(topic, value=value, key=key, headers=record_headers or None, partition=partition)
                future.add_callback(outcome.on_success).add_errback(outcome.on_failure)
                advance(len(line) + 1)
        producer.flush()
    _report(outcome, topic, as_json)


def _check_topic(bootstrap_servers: str | None, producer: Producer, topic: str) -> None:
    """Says at once that there is no such topic, instead of waiting `max_block_ms` for it to appear."""
    with connected_admin(bootstrap_servers) as admin:
        try:
            admin.describe_topics([topic])
            return
        except UnknownTopicOrPartitionError:
            pass
    try:
        producer.partitions_for(topic, timeout_ms=_TOPIC_WAIT_MS)  # the cluster may create topics that are asked for
    except KafkaTimeoutError:
        raise UnknownTopicOrPartitionError(
            f"topic {topic!r} does not exist; to create it: klamm topics create {topic}"
        ) from None


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    for line in stream:
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def _split(line: bytes, separator: bytes | None, number: int) -> tuple[bytes | None, bytes]:
    if separator is None:
        return None, line
    key, found, value = line.partition(separator)
    if not found:
        raise KafkaError(f"line {number} has no key separator {separator.decode(errors='replace')!r}")
    return key, value


def _report(outcome: _Outcome, topic: str, as_json: bool) -> None:
    if as_json:
        error = None if outcome.first_error is None else str(outcome.first_error)
        print_json({"topic": topic, "written": outcome.written, "failed": outcome.failed, "error": error})
    else:
        print(f"{outcome.written} records written to {topic}.", file=sys.stderr)
        if outcome.failed:
            print(f"klamm: {outcome.failed} records failed; the first: {outcome.first_error}", file=sys.stderr)
    if outcome.failed:
        raise typer.Exit(1)


class _Progress:
    """A bar on a terminal where the size is known; nothing else anywhere."""

    def __init__(self, file: Path | None) -> None:
        self._total = file.stat().st_size if file is not None and sys.stderr.isatty() else None
        self._bar: Any = None
        self._task: Any = None
        self._lines = 0
        self._bytes = 0

    def __enter__(self) -> Any:
        if self._total is not None:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

            self._bar = Progress(
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("produce", total=self._total)
            self._bar.start()
        return self.advance

    def advance(self, size_bytes: int) -> None:
        if self._bar is not None:
            self._lines += 1
            self._bytes += size_bytes
            if self._lines % _PROGRESS_EVERY == 0:
                self._bar.update(self._task, completed=self._bytes)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._total)
            self._bar.stop()


_progress = _Progress
