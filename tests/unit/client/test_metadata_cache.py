from __future__ import annotations

import uuid

from klamm.client.metadata_cache import BrokerAddress, Leader, MetadataCache
from klamm.proto.broker_pb2 import (
    BrokerDescription,
    LeaderHint,
    MetadataResponse,
    PartitionDescription,
    TopicDescription,
)
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import TopicPartition

ORDERS = TopicPartition("orders", 0)
TOPIC_ID = uuid.uuid4().bytes


def answer(
    offset: int,
    leader: int = 1,
    epoch: int = 0,
    *,
    error: int = 0,
    cluster: str = "c",
    port: int = 9192,
    topic_id: bytes = TOPIC_ID,
) -> MetadataResponse:
    partitions = [] if error else [PartitionDescription(partition=0, leader_id=leader, leader_epoch=epoch)]
    return MetadataResponse(
        cluster_id=cluster,
        controller_id=-1,
        brokers=[BrokerDescription(broker_id=1, host="h", port=port)],
        topics=[TopicDescription(name="orders", topic_id=topic_id, error_code=error, partitions=partitions)],
        metadata_end_offset=offset,
    )


def test_leaders_and_addresses() -> None:
    cache = MetadataCache()
    assert cache.update(answer(5, leader=1, epoch=3), asked=["orders"])
    assert cache.leader_of(ORDERS) == Leader(1, 3)
    assert cache.address_of(1) == BrokerAddress("h", 9192)
    assert cache.leader_of(TopicPartition("orders", 9)) is None
    assert cache.available_partitions("orders") == [0]


def test_an_older_answer_is_not_taken() -> None:
    cache = MetadataCache()
    cache.update(answer(9, leader=2, epoch=4), asked=["orders"])
    assert not cache.update(answer(5, leader=1, epoch=3, port=1), asked=["orders"])
    cache.update(answer(4, error=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), asked=["orders"])
    assert cache.leader_of(ORDERS) == Leader(2, 4)
    assert cache.address_of(1) == BrokerAddress("h", 9192)


def test_kip_951_a_hint_counts_only_with_a_newer_epoch() -> None:
    cache = MetadataCache()
    cache.update(answer(5, leader=1, epoch=3), asked=["orders"])
    assert not cache.note_leader(ORDERS, LeaderHint(leader_id=2, leader_epoch=3, host="n", port=7))
    assert not cache.note_leader(ORDERS, LeaderHint(leader_id=-1, leader_epoch=9))
    assert cache.note_leader(ORDERS, LeaderHint(leader_id=2, leader_epoch=4, host="n", port=7))
    assert (cache.leader_of(ORDERS), cache.address_of(2)) == (Leader(2, 4), BrokerAddress("n", 7))


def test_metadata_behind_a_hint_does_not_undo_it() -> None:
    cache = MetadataCache()
    cache.update(answer(5, leader=1, epoch=3), asked=["orders"])
    cache.note_leader(ORDERS, LeaderHint(leader_id=2, leader_epoch=4, host="n", port=7))
    cache.update(answer(6, leader=1, epoch=3), asked=["orders"])
    assert cache.leader_of(ORDERS) == Leader(2, 4)
    cache.update(answer(7, leader=3, epoch=5), asked=["orders"])
    assert cache.leader_of(ORDERS) == Leader(3, 5)


def test_a_topic_made_again_begins_again() -> None:
    cache = MetadataCache()
    cache.update(answer(5, leader=1, epoch=8), asked=["orders"])
    cache.update(answer(9, leader=1, epoch=0, topic_id=uuid.uuid4().bytes), asked=["orders"])
    assert cache.leader_of(ORDERS) == Leader(1, 0)


def test_a_deleted_topic_is_forgotten_and_its_error_kept() -> None:
    cache = MetadataCache()
    cache.update(answer(5), asked=["orders"])
    cache.update(answer(6, error=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), asked=["orders"])
    assert cache.topic("orders") is None
    assert cache.topic_errors == {"orders": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}


def test_another_cluster_at_the_same_address_wipes_all() -> None:
    cache = MetadataCache()
    cache.update(answer(500, leader=1, epoch=80), asked=["orders"])
    cache.update(answer(2, leader=1, epoch=0, cluster="other"), asked=["orders"])
    assert cache.leader_of(ORDERS) == Leader(1, 0)


def test_no_leader() -> None:
    cache = MetadataCache()
    cache.update(answer(5, leader=-1, epoch=2), asked=None)
    assert cache.leader_of(ORDERS) is None
    assert cache.available_partitions("orders") == []
