"""The end of the failover demo: reads everything back and holds it against what was acked.

The judgement is demo_check.py; here is what fetches the evidence: a consumer that starts from nothing, and the segment
files of all replicas.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..client import Consumer
from ..proto.identifiers import TopicPartition
from .demo_check import (
    Breach,
    SentRecord,
    StoredRecord,
    check_consumed,
    check_keys,
    check_partition,
    check_replicas,
    end_offset,
)
from .demo_load import AckLedger
from .errors import WaitTimeoutError
from .local import LocalCluster

READ_SILENCE_MS: Final = 30_000
CONVERGE_SECONDS_MAX: Final = 60.0


@dataclass(slots=True)
class Verdict:
    """What was found."""

    records: int = 0
    replica_bytes: int = 0
    replicas: int = 0
    breaches: list[Breach] = field(default_factory=list)


def converged_high_watermarks(cluster: LocalCluster, topic: str) -> list[int]:
    """The high watermark of each partition, once all replicas are in sync and hold all that their leader holds.

    :raises WaitTimeoutError: they do not get there.
    """

    def converged() -> list[int] | None:
        description = cluster.observer.topic(topic)
        if description is None or any(len(p.isr) < len(p.replicas) for p in description.partitions):
            return None
        high_watermarks = cluster.observer.high_watermarks(description)
        for partition in description.partitions:
            for broker in partition.replicas:
                if partition.partition not in high_watermarks:
                    return None
                log = replica_log(cluster, broker, topic, partition.partition)
                if end_offset(log) != high_watermarks[partition.partition]:
                    return None
        return [high_watermarks[partition] for partition in range(len(description.partitions))]

    return cluster.wait_until(converged, timeout_s=CONVERGE_SECONDS_MAX, what="all replicas to hold the same")


def verify(
    cluster: LocalCluster,
    topic: str,
    body: list[SentRecord],
    ledger: AckLedger,
    seen: list[list[tuple[int, int]]],
    high_watermarks: list[int],
) -> Verdict:
    """Reads each partition back and compares the replicas' files."""
    verdict = Verdict()
    numbers: dict[int, list[int]] = {}
    for partition, high_watermark in enumerate(high_watermarks):
        stored = _read_back(cluster.bootstrap_servers, topic, partition, high_watermark)
        found = check_partition(partition, body, ledger.acked_in(partition), stored)
        numbers[partition] = found.numbers
        verdict.records += len(found.numbers)
        verdict.breaches += found.breaches
        verdict.breaches += check_consumed(partition, found.numbers, seen[partition])
        replicas = {
            f"broker-{broker.node_id}": replica_log(cluster, broker.node_id, topic, partition)
            for broker in cluster.layout.brokers
        }
        verdict.breaches += check_replicas(partition, high_watermark, replicas)
        verdict.replicas += len(replicas)
        verdict.replica_bytes += sum(len(log) for log in replicas.values())
    verdict.breaches += check_keys(body, numbers)
    return verdict


def replica_log(cluster: LocalCluster, broker: int, topic: str, partition: int) -> bytes:
    """All segments of a broker's replica, in a row."""
    folder: Path = cluster.layout.node(broker).data_folder / f"{topic}-{partition}"
    return b"".join(segment.read_bytes() for segment in sorted(folder.glob("*.log")))


def _read_back(bootstrap_servers: str, topic: str, partition: int, high_watermark: int) -> Iterator[StoredRecord]:
    if high_watermark == 0:
        return
    with Consumer(bootstrap_servers=bootstrap_servers, consumer_timeout_ms=READ_SILENCE_MS) as consumer:
        assigned = TopicPartition(topic, partition)
        consumer.assign([assigned])
        consumer.seek_to_beginning(assigned)
        for record in consumer:
            yield StoredRecord(record.offset, record.key, record.value)
            if record.offset >= high_watermark - 1:
                return
    raise WaitTimeoutError(f"{topic}-{partition} ends before its high watermark {high_watermark}")
