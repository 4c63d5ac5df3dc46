"""`klamm groups` and the SDK's admin client, of groups whose members are other people's clients."""

from __future__ import annotations

from typing import Any

import pytest
from harness.confluent_consumers import PolledConsumer
from harness.waiting import wait_for
from klamm.client import Admin, NewTopic, NonEmptyGroupError, OffsetAndMetadata, Producer, TopicPartition
from klamm.deploy.local import LocalCluster
from unit.client.test_cli import klamm

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_of_librdkafka_is_described_with_its_lag_and_reset_once_it_is_empty(
    klamm_cluster: LocalCluster, name: str, protocol: str
) -> None:
    settings: dict[str, Any] = {"session_timeout_ms": 6_000} if protocol == "classic" else {}
    with Admin(bootstrap_servers=klamm_cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(name, 2)])
        with Producer(bootstrap_servers=klamm_cluster.bootstrap_servers) as producer:
            for number in range(20):
                producer.send(name, b"%d" % number, partition=number % 2)
        reader = PolledConsumer(
            klamm_cluster.kafka_bootstrap_servers, name, [name], group_protocol=protocol, client_id="app", **settings
        )
        with reader:
            wait_for(lambda: len(reader.values) == 20, timeout_s=30)
            group = admin.describe_consumer_groups([name])[name]
            assert (group.state, group.type) == ("Stable", protocol)
            [member] = group.members
            assert (member.client_id, member.topics) == ("app", (name,))
            assert member.assignment == (TopicPartition(name, 0), TopicPartition(name, 1))
            with pytest.raises(NonEmptyGroupError):
                admin.alter_consumer_group_offsets(name, {TopicPartition(name, 0): 0})
            assert (name, protocol) in [(listed.group_id, listed.type) for listed in admin.list_consumer_groups()]
        wait_for(lambda: admin.describe_consumer_groups([name])[name].state == "Empty", timeout_s=30)
        committed = admin.list_consumer_group_offsets(name)
        assert {partition: entry.offset for partition, entry in committed.items()} == {
            TopicPartition(name, 0): 10,
            TopicPartition(name, 1): 10,
        }
        servers = ("--bootstrap-servers", klamm_cluster.bootstrap_servers)
        shown = klamm("groups", "describe", name, *servers)
        assert shown.exit_code == 0 and f"group {name}   Empty   0 members" in shown.stdout
        reset = klamm("groups", "reset-offsets", name, "--all-topics", "--shift-by", "-4", "--execute", *servers)
        assert reset.exit_code == 0, reset.output
        assert admin.list_consumer_group_offsets(name)[TopicPartition(name, 1)] == OffsetAndMetadata(6)
        with PolledConsumer(klamm_cluster.kafka_bootstrap_servers, name, [name], group_protocol=protocol) as again:
            wait_for(lambda: len(again.values) == 8, timeout_s=30)
        wait_for(lambda: admin.describe_consumer_groups([name])[name].state == "Empty", timeout_s=30)
        assert klamm("groups", "delete", name, *servers).exit_code == 0
        assert name not in [listed.group_id for listed in admin.list_consumer_groups()]
