"""Registration, fencing, controlled shutdown, and what each does to partitions."""

from __future__ import annotations

from typing import Any

import pytest
from harness.metadata_cluster import CLUSTER_ID, MetadataCluster, cluster_of
from klamm.proto import command_pb2 as pb
from klamm.proto import metadata_pb2
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId


def state_of(cluster: MetadataCluster, topic: str = "a", number: int = 0) -> tuple[object, list[int], list[int]]:
    """Leader, ISR and ELR."""
    partition = cluster.partition(topic, number)
    return partition.leader, list(partition.isr), list(partition.eligible_leader_replicas)


# --- registration --------------------------------------------------------------------------------------------------


def test_a_new_broker_is_fenced_and_its_epoch_is_the_offset_of_its_registration() -> None:
    cluster = cluster_of()
    response = cluster.register(1, rack="r1", port=9200)
    broker = cluster.image.brokers[BrokerId(1)]
    assert response.register_broker.broker_epoch == broker.broker_epoch == cluster.image.end_offset - 1
    assert response.register_broker.cluster_id == CLUSTER_ID
    assert broker.fenced and not broker.active
    assert str(broker.endpoints["GRPC"]) == "localhost:9200"
    assert broker.rack == "r1"


def test_each_start_grows_the_epoch() -> None:
    cluster = cluster_of()
    epochs = [cluster.register(1).register_broker.broker_epoch for _ in range(3)]
    assert epochs == sorted(set(epochs))


def test_the_same_incarnation_keeps_its_epoch_and_may_amend_its_endpoints() -> None:
    cluster = cluster_of()
    first = cluster.register(1, incarnation=5).register_broker.broker_epoch
    cluster.unfence(1)
    offset = cluster.image.end_offset
    assert cluster.register(1, incarnation=5, alive=True).register_broker.broker_epoch == first
    assert cluster.image.end_offset == offset
    assert cluster.register(1, incarnation=5, port=9999).register_broker.broker_epoch == first
    broker = cluster.image.brokers[BrokerId(1)]
    assert broker.endpoints["GRPC"].port == 9999
    assert broker.active


def test_a_live_holder_of_the_id_is_not_replaced() -> None:
    cluster = cluster_of()
    cluster.register(1, incarnation=5)
    response = cluster.register(1, incarnation=6, alive=True)
    assert response.error_code == ErrorCode.DUPLICATE_BROKER_REGISTRATION
    assert "node.id" in response.error_message
    assert not cluster.register(1, incarnation=6, alive=False).error_code


def test_another_clusters_broker_is_refused() -> None:
    cluster = cluster_of()
    assert cluster.register(1, cluster_id="B" * 22).error_code == ErrorCode.INCONSISTENT_CLUSTER_ID
    assert not cluster.register(1, cluster_id=CLUSTER_ID).error_code


@pytest.mark.parametrize(
    "fields",
    [
        {"broker_id": -1},
        {"incarnation_id": b"short"},
        {"log_dir_id": b""},
        {"endpoints": []},
        {"endpoints": [metadata_pb2.Endpoint(name="GRPC", host="", port=1)]},
        {"endpoints": [metadata_pb2.Endpoint(name="GRPC", host="h", port=0)]},
        {"endpoints": [metadata_pb2.Endpoint(name="", host="h", port=1)]},
        {"endpoints": [metadata_pb2.Endpoint(name="GRPC", host="h", port=1)] * 2},
        {"rack": "r" * 300},
    ],
)
def test_a_malformed_registration_is_refused(fields: dict[str, Any]) -> None:
    cluster = cluster_of()
    values: dict[str, Any] = {
        "broker_id": 1,
        "incarnation_id": b"i" * 16,
        "log_dir_id": b"d" * 16,
        "endpoints": [metadata_pb2.Endpoint(name="GRPC", host="h", port=1)],
        "previous_broker_epoch": -1,
    }
    applied = cluster.run(register_broker=pb.RegisterBrokerCommand(**{**values, **fields}))
    assert applied.response.error_code == ErrorCode.INVALID_REQUEST
    assert applied.response.error_message
    assert not applied.records


def test_a_copied_log_folder_is_refused() -> None:
    cluster = cluster_of(1)
    command = pb.RegisterBrokerCommand.FromString(cluster.last_command.register_broker.SerializeToString())
    command = pb.RegisterBrokerCommand(
        broker_id=2,
        incarnation_id=b"i" * 16,
        log_dir_id=cluster.image.brokers[BrokerId(1)].log_dir_id,
        endpoints=[metadata_pb2.Endpoint(name="GRPC", host="h", port=1)],
    )
    response = cluster.run(register_broker=command).response
    assert response.error_code == ErrorCode.INVALID_REQUEST
    assert "copied" in response.error_message


# --- rule 19 -------------------------------------------------------------------------------------------------------


def test_rule_19_an_unclean_start_takes_the_broker_out_of_every_isr_before_it_can_lead() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3], [2, 1, 3]])
    cluster.register(1)
    assert state_of(cluster, "a", 0) == (2, [2, 3], [])
    assert state_of(cluster, "a", 1) == (2, [2, 3], [])
    cluster.unfence(1)
    assert state_of(cluster, "a", 0) == (2, [2, 3], [])


def test_rule_19_an_unclean_start_takes_it_out_of_the_elr_while_another_holds_the_data() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    cluster.fence(3)
    cluster.fence(1)
    assert state_of(cluster) == (2, [2], [1])
    cluster.fence(2)
    assert state_of(cluster) == (None, [], [1, 2])
    cluster.register(1)
    assert state_of(cluster) == (None, [], [2])
    cluster.unfence(1)
    assert state_of(cluster) == (None, [], [2])
    cluster.register(2)  # the only one left: its page cache outlived kill -9
    assert state_of(cluster) == (None, [], [2])
    cluster.unfence(2)
    assert state_of(cluster) == (2, [2], [])


def test_rule_19_a_clean_start_stays_eligible() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    for broker in (3, 1, 2):
        cluster.fence(broker)
    cluster.register(1, previous_epoch=cluster.epoch(1))
    cluster.unfence(1)
    assert state_of(cluster) == (1, [1], [2])


def test_rule_19_after_kill_9_on_a_machine_that_went_on_it_stays_eligible_and_leaves_every_isr() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    cluster.register(1, killed_epoch=cluster.epoch(1))
    assert state_of(cluster) == (2, [2, 3], [])  # so many are in sync that it may fall behind
    cluster.register(2, killed_epoch=cluster.epoch(2))
    assert state_of(cluster) == (3, [3], [2])
    cluster.unfence(2)
    assert state_of(cluster) == (3, [3], [2])
    cluster.fence(3)  # for good
    assert state_of(cluster) == (2, [2], [3])


def test_rule_19_who_lost_power_is_not_elected_while_those_that_were_killed_hold_the_data() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    cluster.register(2, killed_epoch=cluster.epoch(2))
    cluster.register(3, killed_epoch=cluster.epoch(3))
    assert state_of(cluster) == (1, [1], [3])
    cluster.register(1)  # the last to come back, and its machine was off
    assert state_of(cluster) == (None, [], [3])
    cluster.unfence(1)
    assert state_of(cluster) == (None, [], [3])
    cluster.unfence(3)
    assert state_of(cluster) == (3, [3], [])


def test_rule_19_a_process_killed_under_another_epoch_vouches_for_nothing() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    for broker in (3, 1, 2):
        cluster.fence(broker)
    cluster.register(1, killed_epoch=cluster.epoch(1) - 1)
    assert state_of(cluster) == (None, [], [2])


def test_rule_19_a_process_killed_on_another_disk_vouches_for_nothing() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    for broker in (3, 1, 2):
        cluster.fence(broker)
    cluster.register(1, killed_epoch=cluster.epoch(1), log_dir=1)
    assert state_of(cluster) == (None, [], [2])


def test_rule_19_a_wiped_disk_is_never_elected() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1]])
    cluster.create_topic("b", assignments=[[1, 2]])
    cluster.register(1, previous_epoch=cluster.epoch(1), log_dir=1)
    cluster.unfence(1)
    assert state_of(cluster, "a") == (None, [], [])
    assert state_of(cluster, "b") == (2, [2], [])
    assert cluster.elect("a", unclean=True) is ErrorCode.NONE
    assert cluster.partition("a").recovering


def test_rule_19_a_wiped_disk_is_no_last_known_leader() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[2, 1]])
    cluster.fence(1)
    cluster.fence(2)
    assert cluster.partition("a").last_known_leader == 2
    cluster.register(2, log_dir=1)
    assert cluster.partition("a").last_known_leader is None


def test_a_lone_replica_leads_again_after_kill_9() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1]])
    epoch = cluster.partition("a").leader_epoch
    cluster.register(1)  # sooner than its session ended
    assert state_of(cluster) == (None, [], [1])
    cluster.unfence(1)
    assert state_of(cluster) == (1, [1], [])
    assert cluster.partition("a").leader_epoch == epoch + 2


# --- fencing -------------------------------------------------------------------------------------------------------


def test_rule_7_fencing_takes_a_broker_out_of_every_isr() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3], [2, 3, 1], [3, 1, 2]])
    applied = cluster.fence(1)
    assert [state_of(cluster, "a", number) for number in range(3)] == [
        (2, [2, 3], []),
        (2, [2, 3], []),
        (3, [3, 2], []),
    ]
    assert [cluster.partition("a", number).leader_epoch for number in range(3)] == [1, 0, 0]
    assert [cluster.partition("a", number).partition_epoch for number in range(3)] == [1, 1, 1]
    assert len(applied.records) == 4
    assert applied.records[-1].HasField("broker_registration_change")


def test_the_last_one_in_the_isr_stays_eligible_and_leads_when_it_is_back() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2]])
    cluster.fence(2)
    assert state_of(cluster) == (1, [1], [])  # min.insync.replicas is 1: broker 2 may fall behind
    cluster.fence(1)
    partition = cluster.partition("a")
    assert state_of(cluster) == (None, [], [1])
    assert (partition.leader_epoch, partition.last_known_leader) == (1, 1)
    cluster.unfence(2)
    assert state_of(cluster) == (None, [], [1])
    cluster.unfence(1)
    partition = cluster.partition("a")
    assert state_of(cluster) == (1, [1], [])
    assert (partition.leader_epoch, partition.last_known_leader) == (2, None)


def test_fencing_two_at_once_changes_each_partition_once() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    applied = cluster.fence(1, 2, 1)
    assert state_of(cluster) == (3, [3], [1, 2])
    assert cluster.partition("a").partition_epoch == 1
    assert len(applied.records) == 3


def test_fencing_under_an_old_epoch_or_twice_does_nothing() -> None:
    cluster = cluster_of(1)
    epoch = cluster.epoch(1)
    cluster.register(1)
    cluster.unfence(1)
    command = pb.FenceBrokersCommand(
        brokers=[pb.FencedBroker(broker_id=1, broker_epoch=epoch), pb.FencedBroker(broker_id=9, broker_epoch=1)]
    )
    assert cluster.run(fence_brokers=command).records == ()
    assert cluster.image.brokers[BrokerId(1)].active
    assert len(cluster.fence(1).records) == 1
    assert cluster.fence(1).records == ()


def test_an_unclean_topic_elects_whoever_is_there() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2]], unclean_leader_election_enable="true")
    cluster.alter_isr("a", 0, [1])
    cluster.fence(1)
    partition = cluster.partition("a")
    assert state_of(cluster) == (2, [2], [])
    assert partition.recovering


# --- unfencing -----------------------------------------------------------------------------------------------------


def test_unfencing_is_refused_for_the_unknown_the_stale_and_the_leaving() -> None:
    cluster = cluster_of(1)

    def unfence(broker_id: int, epoch: int) -> int:
        command = pb.UnfenceBrokerCommand(broker_id=broker_id, broker_epoch=epoch)
        return cluster.run(unfence_broker=command).response.error_code

    assert unfence(2, 1) == ErrorCode.BROKER_ID_NOT_REGISTERED
    assert unfence(1, 999) == ErrorCode.STALE_BROKER_EPOCH
    assert unfence(1, cluster.epoch(1)) == ErrorCode.NONE
    cluster.shut_down(1)
    assert unfence(1, cluster.epoch(1)) == ErrorCode.INVALID_REQUEST


# --- controlled shutdown -------------------------------------------------------------------------------------------


def test_rule_26_controlled_shutdown_moves_leaderships_and_leaves_the_isr() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3], [2, 1, 3]])
    response = cluster.shut_down(1)
    assert response.controlled_shutdown.remaining_leaderships == 0
    assert state_of(cluster, "a", 0) == (2, [2, 3], [])
    assert state_of(cluster, "a", 1) == (2, [2, 3], [])
    broker = cluster.image.brokers[BrokerId(1)]
    assert broker.in_controlled_shutdown and not broker.fenced and not broker.active
    offset = cluster.image.end_offset
    assert cluster.shut_down(1).controlled_shutdown.remaining_leaderships == 0
    assert cluster.image.end_offset == offset


def test_rule_26_who_leads_alone_leads_on_and_is_told_of_it() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2]])
    cluster.create_topic("b", assignments=[[1]])
    cluster.alter_isr("a", 0, [1])
    assert cluster.shut_down(1).controlled_shutdown.remaining_leaderships == 2
    assert state_of(cluster, "a") == (1, [1], [])
    assert cluster.elect("a") is ErrorCode.ELECTION_NOT_NEEDED


def test_rule_26_a_replica_that_catches_up_takes_over_from_a_leader_that_is_leaving() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    cluster.fence(2, 3)
    assert state_of(cluster) == (1, [1], [2, 3])
    cluster.shut_down(1)
    assert state_of(cluster) == (1, [1], [2, 3])
    cluster.register(2)
    cluster.unfence(2)
    assert cluster.alter_isr("a", 0, [1, 2]).error_code == ErrorCode.NEW_LEADER_ELECTED
    assert state_of(cluster) == (2, [2], [1, 3])
    assert cluster.shut_down(1).controlled_shutdown.remaining_leaderships == 0


def test_rule_26_an_eligible_replica_takes_over() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    cluster.fence(2, 3)
    cluster.unfence(3)  # it was only slow: what was committed it has
    assert state_of(cluster) == (1, [1], [2, 3])
    assert cluster.shut_down(1).controlled_shutdown.remaining_leaderships == 0
    assert state_of(cluster) == (3, [3], [1, 2])


def test_controlled_shutdown_needs_the_current_epoch_and_is_trivial_when_fenced() -> None:
    cluster = cluster_of(1)
    command = pb.ControlledShutdownCommand(broker_id=1, broker_epoch=999)
    assert cluster.run(controlled_shutdown=command).response.error_code == ErrorCode.STALE_BROKER_EPOCH
    cluster.fence(1)
    assert cluster.shut_down(1).controlled_shutdown.remaining_leaderships == 0
    assert not cluster.image.brokers[BrokerId(1)].in_controlled_shutdown


# --- unregistering -------------------------------------------------------------------------------------------------


def test_only_a_fenced_broker_can_be_forgotten() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2]])
    command = pb.UnregisterBrokerCommand(broker_id=1)
    assert cluster.run(unregister_broker=command).response.error_code == ErrorCode.INVALID_REQUEST
    cluster.fence(2)
    cluster.fence(1)
    assert state_of(cluster) == (None, [], [1])
    assert not cluster.run(unregister_broker=command).response.error_code
    assert BrokerId(1) not in cluster.image.brokers
    assert state_of(cluster) == (None, [], [])
    assert cluster.run(unregister_broker=command).response.error_code == ErrorCode.BROKER_ID_NOT_REGISTERED
