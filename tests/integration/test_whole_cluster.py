"""A cluster of real processes as its operator sees it: all killed, a disk lost, partitions moved, topics remade."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from harness.acked_records import AckedRecords, isr_of, wait_for_isr
from harness.metadata_everywhere import wait_until_known_everywhere
from klamm.client import Admin, ConfigResource, ConfigResourceType, NewTopic, Producer, TopicPartition
from klamm.deploy.local import LocalCluster
from klamm.proto.errors import KafkaError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(brokers=3, controllers=3) as cluster:
        yield cluster


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[Admin]:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        yield admin


def make(admin: Admin, name: str, *replicas: int, **configs: str) -> None:
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    admin.create_topics([NewTopic(name, replica_assignments={0: replicas}, topic_configs=settings)])


def _wait_until_fenced(cluster: LocalCluster, admin: Admin, broker_id: int) -> None:
    cluster.wait_until(
        lambda: [each.fenced for each in admin.describe_cluster().brokers if each.broker_id == broker_id] == [True],
        what=f"broker {broker_id} to be fenced",
    )


def test_rule_3_18_19_everything_killed_at_once_loses_nothing(cluster: LocalCluster, admin: Admin) -> None:
    make(admin, "power", 1, 2, 3)
    records = AckedRecords(cluster, "power")
    records.produce(50)
    names = [node.name for node in cluster.layout.nodes]
    for name in names:
        cluster.kill(name)
    for name in names:
        cluster.start_node(name, wait=False)
    wait_for_isr(cluster, "power", [1, 2, 3])
    records.assert_all_there()
    records.produce(10)
    records.assert_all_there()


def test_rule_19_a_broker_that_lost_its_disk_fills_up_before_it_leads(cluster: LocalCluster, admin: Admin) -> None:
    make(admin, "disk", 1, 2, 3)
    records = AckedRecords(cluster, "disk")
    records.produce(30)
    cluster.wait_until(lambda: cluster.leader_of("disk") == 1)
    cluster.kill(1)
    shutil.rmtree(cluster.layout.node(1).data_folder)
    wait_for_isr(cluster, "disk", [2, 3])
    cluster.start_node(1)
    wait_for_isr(cluster, "disk", [1, 2, 3])
    # Only now, with everything copied, may it lead: the others are gone, and nothing is missing.
    admin.elect_leaders([("disk", 0)])
    cluster.wait_until(lambda: cluster.leader_of("disk") == 1)
    records.assert_all_there()


def test_rule_19_a_lost_disk_never_leads_while_another_holds_the_data(cluster: LocalCluster, admin: Admin) -> None:
    make(admin, "sole", 1, 2, min_insync_replicas="1")
    records = AckedRecords(cluster, "sole")
    wait_for_isr(cluster, "sole", [1, 2])
    cluster.kill(2)
    wait_for_isr(cluster, "sole", [1])
    records.produce(20)
    cluster.kill(1)
    cluster.wait_until(lambda: cluster.leader_of("sole") is None, what="no leader")
    shutil.rmtree(cluster.layout.node(2).data_folder)
    cluster.start_node(2)
    assert cluster.leader_of("sole") is None
    cluster.start_node(1)
    wait_for_isr(cluster, "sole", [1, 2])
    records.assert_all_there()


def test_a_partition_moves_with_all_it_holds(cluster: LocalCluster, admin: Admin) -> None:
    make(admin, "moving", 1, 2)
    records = AckedRecords(cluster, "moving")
    records.produce(40)
    admin.alter_partition_reassignments({("moving", 0): [3, 2]})
    wait_until_known_everywhere(cluster)
    cluster.wait_until(lambda: not admin.list_partition_reassignments(), what="the reassignment to end")
    wait_for_isr(cluster, "moving", [2, 3])
    description = cluster.partition("moving")
    assert description is not None
    assert list(description.replicas) == [3, 2]
    records.produce(10)
    records.assert_all_there()
    folder = cluster.layout.node(1).data_folder / "moving-0"
    cluster.wait_until(lambda: not folder.exists(), what="the old replica to go")


def test_a_reassignment_that_cannot_end_is_cancelled(cluster: LocalCluster, admin: Admin) -> None:
    make(admin, "stuck", 1, 2)
    records = AckedRecords(cluster, "stuck")
    records.produce(5)
    cluster.kill(3)
    _wait_until_fenced(cluster, admin, 3)
    admin.alter_partition_reassignments({("stuck", 0): [1, 3]})
    wait_until_known_everywhere(cluster)  # the client may go from the dead broker to one, then to the other
    assert set(admin.list_partition_reassignments()) == {TopicPartition("stuck", 0)}
    admin.alter_partition_reassignments({("stuck", 0): None})
    wait_until_known_everywhere(cluster)
    assert admin.list_partition_reassignments() == {}
    cluster.start_node(3)
    wait_for_isr(cluster, "stuck", [1, 2])
    records.assert_all_there()


def test_rule_15_a_topic_made_again_is_another_one(cluster: LocalCluster, admin: Admin) -> None:
    make(admin, "phoenix", 1, 2, 3)
    AckedRecords(cluster, "phoenix").produce(10)
    (old,) = admin.describe_topics(["phoenix"])
    cluster.kill(3)  # has the old folder when it comes back to the new topic
    admin.delete_topics(["phoenix"])
    make(admin, "phoenix", 1, 2, 3)
    cluster.start_node(3)
    (new,) = admin.describe_topics(["phoenix"])
    assert new.topic_id != old.topic_id
    records = AckedRecords(cluster, "phoenix")
    assert records.produce(3) == [0, 1, 2]
    wait_for_isr(cluster, "phoenix", [1, 2, 3])
    records.assert_all_there()


def test_settings_are_altered_and_told(cluster: LocalCluster, admin: Admin) -> None:
    make(admin, "tuned", 1, 2, 3)
    resource = ConfigResource(ConfigResourceType.TOPIC, "tuned", {"retention.ms": "60000", "max.message.bytes": "2000"})
    admin.alter_configs([resource])
    wait_until_known_everywhere(cluster)  # the leader of the partition, too
    ((_, entries),) = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "tuned")]).items()
    told = {entry.name: (entry.value, entry.source) for entry in entries}
    assert told["retention.ms"] == ("60000", "TOPIC")
    assert told["segment.bytes"] == (str(1 << 30), "DEFAULT")
    with (
        Producer(bootstrap_servers=cluster.bootstrap_servers) as producer,
        pytest.raises(KafkaError, match=r"max\.message\.bytes"),
    ):
        producer.send("tuned", b"x" * 5000).get(timeout=20)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "tuned", {"max.message.bytes": None})])
    wait_until_known_everywhere(cluster)
    with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        assert producer.send("tuned", b"x" * 5000).get(timeout=20).offset == 0


def test_an_unclean_election_happens_only_when_it_is_asked_for(cluster: LocalCluster, admin: Admin) -> None:
    make(admin, "risky", 1, 2, min_insync_replicas="1")
    records = AckedRecords(cluster, "risky")
    records.produce(5)
    wait_for_isr(cluster, "risky", [1, 2])
    cluster.kill(2)
    wait_for_isr(cluster, "risky", [1])
    records.produce(5)
    cluster.kill(1)
    cluster.start_node(2)
    cluster.wait_until(lambda: cluster.leader_of("risky") is None, what="no leader")
    refused = admin.elect_leaders([("risky", 0)])
    assert refused[TopicPartition("risky", 0)] is not None
    assert admin.elect_leaders([("risky", 0)], unclean=True) == {TopicPartition("risky", 0): None}
    cluster.wait_until(lambda: cluster.leader_of("risky") == 2)
    assert isr_of(cluster, "risky") == [2]
    assert len(records.read(last=4)) == 5
    cluster.start_node(1)
    wait_for_isr(cluster, "risky", [1, 2])


def test_a_broker_that_is_gone_for_good_is_forgotten(cluster: LocalCluster, admin: Admin) -> None:
    cluster.kill(3)
    _wait_until_fenced(cluster, admin, 3)
    admin.unregister_broker(3)
    cluster.wait_until(lambda: [broker.broker_id for broker in admin.describe_cluster().brokers] == [1, 2])
    cluster.start_node(3)
    cluster.wait_until(lambda: len(admin.describe_cluster().brokers) == 3)
