"""What is looked at when the nodes have stopped: the replicas on the disks, and what the nodes logged."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from harness.history import CompactedLog, LogEntry, ReplicaLog
from harness.history_compacted import CompactedLogError, committed_offsets, latest_records
from klamm.proto.errors import KafkaError
from klamm.proto.record_batch import batches, check_batch

_COMPLAINT: Final = re.compile(
    r"Traceback \(most recent call last\)|\bCRITICAL\b|invariant|Fatal Python error|Exception ignored"
)
"""What no node may ever log, whatever was done to it."""
_COMPLAINTS_SHOWN_MAX: Final = 20
_LINES_AFTER: Final = 25


class DamagedReplicaError(Exception):
    """A batch on a stopped broker's disk fails its checks."""


def read_replica(folder: Path, broker: int, topic: str, partition: int, number: int) -> ReplicaLog:
    """The batches of one replica, from its segment files; `number` is the history's for the partition.

    :raises DamagedReplicaError: a batch is damaged, or the log goes back in its offsets.
    """
    entries: list[LogEntry] = []
    for segment in sorted((folder / f"{topic}-{partition}").glob("*.log")):
        data = segment.read_bytes()
        position = 0
        while position < len(data):
            try:
                header = check_batch(data, position)
            except KafkaError as error:
                raise DamagedReplicaError(f"broker-{broker} {segment} at byte {position}: {error}") from error
            if entries and header.base_offset <= entries[-1].last_offset:
                raise DamagedReplicaError(
                    f"broker-{broker} {segment} at byte {position}: offset {header.base_offset} again"
                )
            batch = data[position : position + header.size_bytes]
            digest = hashlib.sha256(batch).hexdigest()[:16]
            entries.append(LogEntry(header.base_offset, header.last_offset, header.partition_leader_epoch, digest))
            position += header.size_bytes
    return ReplicaLog(broker, topic, number, tuple(entries))


def read_replicas(
    folders: Mapping[int, Path],
    partitions: Sequence[tuple[str, int]],
    replicas: Mapping[tuple[str, int], Sequence[int]],
) -> Iterator[ReplicaLog]:
    """Every replica of these partitions. `folders`: where each broker's partitions lie.

    :raises DamagedReplicaError: as `read_replica`.
    """
    for number, (topic, partition) in enumerate(partitions):
        for broker in replicas[topic, partition]:
            yield read_replica(folders[broker], broker, topic, partition, number)


def read_compacted(folder: Path) -> list[tuple[int, bytes]]:
    """Base offset and bytes of each segment of a log that is compacted.

    A stop may come between the steps of a swap; then a restart puts the new segment in the place of all that begin in
    it, and so does this.

    :raises DamagedReplicaError: such a segment holds nothing.
    """
    segments = {int(path.name[: -len(".log")]): path.read_bytes() for path in folder.glob("*.log")}
    for path in folder.glob("*.log.swap"):
        new, data = int(path.name[: -len(".log.swap")]), path.read_bytes()
        headers = [header for _, header in batches(data)]
        if not headers:
            raise DamagedReplicaError(f"{path} holds no batch")
        for old in [base for base in segments if new <= base < headers[-1].next_offset]:
            del segments[old]
        segments[new] = data
    return sorted(segments.items())


def read_compacted_logs(
    folders: Mapping[int, Path],
    topic: str,
    replicas: Mapping[int, Sequence[int]],
    high_watermarks: Mapping[int, int],
    numbers: Mapping[tuple[str, int], int],
) -> Iterator[CompactedLog]:
    """Every replica of __consumer_offsets, by its own partitions. `numbers`: the history's, of all other partitions.

    :raises DamagedReplicaError: one is not as such a log must be.
    """
    for partition, brokers in sorted(replicas.items()):
        for broker in brokers:
            folder = folders[broker] / f"{topic}-{partition}"
            try:
                end, records = latest_records(read_compacted(folder))
                committed = committed_offsets(records, numbers)
            except CompactedLogError as error:
                raise DamagedReplicaError(f"broker-{broker} {folder}: {error}") from error
            yield CompactedLog(broker, topic, partition, high_watermarks[partition], end, records, committed)


def complaints_in_logs(logs: Mapping[str, Path]) -> list[str]:
    """What nodes logged that none may log: the node, the place in its log, the words. `logs` by node."""
    found = []
    for node, path in logs.items():
        if not path.exists():
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for index, line in enumerate(lines):
            if _COMPLAINT.search(line):
                words = "\n    ".join(lines[max(0, index - 1) : index + _LINES_AFTER])
                found.append(f"{node} logged, in line {index + 1} of {path}:\n    {words}")
    return found[:_COMPLAINTS_SHOWN_MAX]
