"""A compacted topic on real brokers: cleaned in the background while it is written to, a broker killed meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from harness.waiting import wait_for
from klamm.client import Admin, Consumer, NewTopic, Producer, TopicPartition
from klamm.deploy.local import LocalCluster
from klamm.proto.errors import InvalidRecordError

pytestmark = pytest.mark.integration

TOPIC = "prices"
CONFIGS = {
    "cleanup.policy": "compact",
    "segment.bytes": "20000",
    "min.cleanable.dirty.ratio": "0.01",
    "file.delete.delay.ms": "0",
}
KEYS = 50


def table(cluster: LocalCluster) -> tuple[dict[bytes | None, bytes | None], int, int]:
    """What a reader from the start makes of the topic: the last value of each key; records read; the end offset."""
    partition = TopicPartition(TOPIC, 0)
    last: dict[bytes | None, bytes | None] = {}
    count = 0
    with Consumer(bootstrap_servers=cluster.bootstrap_servers, consumer_timeout_ms=20_000) as consumer:
        consumer.assign([partition])
        end = consumer.end_offsets([partition])[partition]
        consumer.seek(partition, 0)
        for record in consumer:
            last[record.key] = record.value
            count += 1
            if record.offset >= end - 1:
                break
    return last, count, end


def log_bytes(cluster: LocalCluster, broker: int) -> int:
    folder = next(Path(cluster.data_folder).glob(f"broker-{broker}/**/{TOPIC}-0"))
    return sum(path.stat().st_size for path in folder.glob("*.log"))


def test_a_topic_is_compacted_under_load_and_after_kill_9(tmp_path: Path) -> None:
    with (
        LocalCluster(data_folder=tmp_path / "data", broker_config={"log.cleaner.backoff.ms": "100"}) as cluster,
        Admin(bootstrap_servers=cluster.bootstrap_servers) as admin,
        Producer(bootstrap_servers=cluster.bootstrap_servers, acks="all", compression_type="zstd") as producer,
    ):
        admin.create_topics([NewTopic(TOPIC, 1, 3, topic_configs=CONFIGS)])
        with pytest.raises(InvalidRecordError, match="without key"):
            producer.send(TOPIC, b"a value without a key").get(timeout=20)
        expected: dict[bytes | None, bytes | None] = {}
        victim = None
        for number in range(8_000):
            key, value = b"key-%d" % (number % KEYS), b"%d " % number * 20
            future = producer.send(TOPIC, value, key=key)
            expected[key] = value
            if number % 100 == 99:
                future.get(timeout=30)
            if number == 4_000:
                victim = cluster.wait_until(lambda: cluster.leader_of(TOPIC), what="a leader")
                cluster.kill(victim)
            if number == 6_000:
                assert victim is not None
                cluster.start_node(victim)
        producer.flush(timeout=30)
        deadline = time.monotonic() + 30
        while True:
            last, count, end = table(cluster)
            assert last == expected
            assert end == 8_000
            if count < end / 4:
                break
            assert time.monotonic() < deadline, f"{count} of {end} records are still there"
        for broker in (1, 2, 3):
            wait_for(lambda: log_bytes(cluster, broker) < 300_000, timeout_s=30)  # noqa: B023  # waited for at once
