"""What was acked and where, and whether it is still there: the one question that every test of bad luck ends with."""

from __future__ import annotations

import time
from collections.abc import Sequence

from klamm.client import Consumer, Producer, TopicPartition
from klamm.deploy.local import LocalCluster

READ_SECONDS = 30.0


class AckedRecords:
    """Produces to one partition at acks=all and remembers each record's offset."""

    def __init__(self, cluster: LocalCluster, topic: str, partition: int = 0) -> None:
        self._cluster = cluster
        self.topic_partition = TopicPartition(topic, partition)
        self.values: dict[int, bytes] = {}

    def produce(self, count: int, *, size: int = 100, timeout_s: float = 30.0) -> list[int]:
        """So many records, one batch each; returns their offsets once all are acked."""
        topic, partition = self.topic_partition
        with Producer(bootstrap_servers=self._cluster.bootstrap_servers, acks="all", batch_size=0) as producer:
            values = [b"%d %s " % (len(self.values) + n, topic.encode()) for n in range(count)]
            values = [value.ljust(size, b".") for value in values]
            futures = [producer.send(topic, value, partition=partition) for value in values]
            offsets = [future.get(timeout=timeout_s).offset for future in futures]
        self.values.update(zip(offsets, values, strict=True))
        return offsets

    def read(self, last: int | None = None) -> dict[int, bytes]:
        """Every record up to the last acked one, by offset."""
        last = max(self.values) if last is None else last
        found: dict[int, bytes] = {}
        deadline = time.monotonic() + READ_SECONDS
        with Consumer(bootstrap_servers=self._cluster.bootstrap_servers) as consumer:
            consumer.assign([self.topic_partition])
            consumer.seek_to_beginning()
            while last not in found:
                assert time.monotonic() < deadline, f"{self.topic_partition}: read {len(found)} of {last + 1} in time"
                for records in consumer.poll(timeout_ms=200).values():
                    for record in records:
                        assert record.offset not in found, f"offset {record.offset} came twice"
                        found[record.offset] = record.value
        return found

    def assert_all_there(self) -> None:
        """Each acked record is at its offset, once."""
        found = self.read()
        assert [*found] == sorted(found)
        wrong = [offset for offset, value in self.values.items() if found.get(offset) != value]
        assert not wrong, f"{self.topic_partition}: acked, and not there: {wrong[:10]} of {len(self.values)}"


def isr_of(cluster: LocalCluster, topic: str, partition: int = 0) -> Sequence[int]:
    """Who is in sync; nobody while nothing is known."""
    description = cluster.partition(topic, partition)
    return () if description is None else sorted(description.isr)


def wait_for_isr(cluster: LocalCluster, topic: str, isr: Sequence[int], partition: int = 0) -> None:
    """Waits until exactly these are in sync and one of them leads."""
    cluster.wait_until(
        lambda: isr_of(cluster, topic, partition) == sorted(isr) and cluster.leader_of(topic, partition) in isr,
        what=f"ISR {sorted(isr)} of {topic}-{partition}",
    )
