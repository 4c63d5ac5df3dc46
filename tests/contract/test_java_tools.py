"""Apache Kafka's own tools, from its published jars, at our brokers and on our segment files.

A JVM takes a second or two of two cores to start, so the tools run side by side where none waits for another.
"""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from harness.kafka_clients import create_topic
from harness.kafka_tools import KafkaTools, NoKafkaToolsError, finish
from harness.metadata_everywhere import wait_until_known_everywhere
from klamm.deploy.local import LocalCluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]  # Maven may have to bring the jars first

KEYED = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=:")


@pytest.fixture(scope="module")
def tools() -> KafkaTools:
    try:
        return KafkaTools()
    except NoKafkaToolsError as error:
        pytest.skip(str(error))


def test_console_clients_and_groups(tools: KafkaTools, servers: str, name: str) -> None:
    at = ("--bootstrap-server", servers)
    create_topic(servers, name, 2)
    tools.run("kafka-console-producer", *at, "--topic", name, *KEYED, given="".join(f"k{n}:{n}\n" for n in range(20)))
    consume = (*at, "--topic", name, "--from-beginning", "--max-messages", "20", "--timeout-ms", "20000")
    consumers = [
        tools.start("kafka-console-consumer", *consume, "--group", f"{name}-{protocol}", *property_)
        for protocol, property_ in {
            "classic": (),
            "consumer": ("--command-property", "group.protocol=consumer"),
        }.items()
    ]
    for consumer in consumers:
        assert sorted(finish(consumer).split(), key=int) == [str(n) for n in range(20)]
    groups = [f"{name}-classic", f"{name}-consumer"]
    both = ("--group", groups[0], "--group", groups[1])
    described = tools.start("kafka-consumer-groups", *at, "--describe", *both)
    listed = tools.start("kafka-consumer-groups", *at, "--list", "--type")
    rows = [line.split() for line in finish(described).splitlines() if line.startswith(name)]
    assert {(row[0], row[1], row[5]) for row in rows} == {(group, name, "0") for group in groups}  # no lag
    assert sum(int(row[3]) for row in rows) == 40
    assert {tuple(line.split()) for line in finish(listed).splitlines() if line.startswith(name)} == {
        (groups[0], "Classic"),
        (groups[1], "Consumer"),
    }
    reset = tools.run(
        "kafka-consumer-groups", *at, "--reset-offsets", *both, "--all-topics", "--to-earliest", "--execute"
    )
    assert [line.split()[3] for line in reset.splitlines() if line.startswith(name)] == ["0"] * 4
    assert "successful" in tools.run("kafka-consumer-groups", *at, "--delete", *both)


def test_topics_settings_and_offsets(tools: KafkaTools, klamm_cluster: LocalCluster, name: str) -> None:
    at = ("--bootstrap-server", klamm_cluster.kafka_bootstrap_servers)
    sized = ("--partitions", "3", "--replication-factor", "3", "--config", "retention.ms=100000")
    assert "Created topic" in tools.run("kafka-topics", *at, "--create", "--topic", name, *sized)
    wait_until_known_everywhere(klamm_cluster)
    wanted = "retention.ms=7200000,cleanup.policy=[compact,delete]"
    altered = tools.start("kafka-configs", *at, "--alter", "--topic", name, "--add-config", wanted)
    verified = tools.start("kafka-verifiable-producer", *at, "--topic", f"{name}-verified", "--max-messages", "50")
    versions = tools.start("kafka-broker-api-versions", *at)
    assert "Completed updating" in finish(altered)
    wait_until_known_everywhere(klamm_cluster)
    assert json.loads(finish(verified).splitlines()[-1])["acked"] == 50
    assert finish(versions).count("(id: ") == 3
    described = tools.start("kafka-topics", *at, "--describe", "--topic", name)
    settings = tools.start("kafka-configs", *at, "--describe", "--topic", name)
    offsets = tools.start("kafka-get-offsets", *at, "--topic", f"{name}-verified")
    shown = finish(described)
    assert "PartitionCount: 3\tReplicationFactor: 3" in shown
    assert shown.count("Leader: ") == 3
    told = finish(settings)
    assert "retention.ms=7200000" in told
    assert "cleanup.policy=compact,delete" in told
    assert sum(int(line.split(":")[2]) for line in finish(offsets).splitlines()) == 50
    tools.run("kafka-topics", *at, "--delete", "--topic", name)
    wait_until_known_everywhere(klamm_cluster)
    assert name not in tools.run("kafka-topics", *at, "--list").split()


def test_dump_log_reads_our_segments(tools: KafkaTools, one_broker: LocalCluster, name: str) -> None:
    """Records, the indexes of a finished segment, producer snapshots, and what groups wrote."""
    servers = one_broker.kafka_bootstrap_servers
    create_topic(servers, name, **{"segment.bytes": "1048576"})
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "batch.num.messages": 100})
    for number in range(15_000):
        producer.produce(name, b"%0100d" % number, key=b"key %d" % number)
    producer.flush(30)
    consumer = Consumer({"bootstrap.servers": servers, "group.id": name})
    consumer.commit(offsets=[TopicPartition(name, 0, 7)], asynchronous=False)
    consumer.close()
    folder = one_broker.layout.node(1).data_folder
    segment = folder / f"{name}-0" / "00000000000000000000.log"
    offsets = [path for path in folder.glob("__consumer_offsets-*/*.log") if name.encode() in path.read_bytes()]
    indexes = ",".join(str(segment.with_suffix(suffix)) for suffix in (".index", ".timeindex"))
    dumped = tools.start("kafka-dump-log", "--files", str(segment), "--print-data-log", "--deep-iteration")
    checked = tools.start("kafka-dump-log", "--files", indexes, "--verify-index-only")
    decoded = tools.start("kafka-dump-log", "--files", str(offsets[0]), "--offsets-decoder")
    records = [line for line in finish(dumped).splitlines() if line.startswith("| offset")]
    assert len(records) > 5_000
    assert f"key: key 42 payload: {42:0100d}" in records[42]
    told, complaints = checked.communicate(timeout=60)
    assert "timeindex" in told
    assert not [line for line in complaints.splitlines() if not line.startswith("SLF4J")], "what it found amiss"
    assert f'"group":"{name}","topic":"{name}","partition":0' in finish(decoded)
