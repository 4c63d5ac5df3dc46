"""What a committed partition may look like, and which step may follow which."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.cluster.invariant import InvariantError
from klamm.cluster.partition import LeaderRecoveryState, PartitionImage
from klamm.proto.identifiers import BrokerId, LeaderEpoch, PartitionEpoch, TopicId


def ids(*numbers: int) -> tuple[BrokerId, ...]:
    return tuple(BrokerId(number) for number in numbers)


GOOD = PartitionImage(
    topic_id=TopicId(int=1),
    partition=0,
    replicas=ids(1, 2, 3),
    isr=ids(1, 2),
    leader=BrokerId(1),
    leader_epoch=LeaderEpoch(4),
    partition_epoch=PartitionEpoch(9),
    eligible_leader_replicas=ids(3),
)


@pytest.mark.parametrize(
    "fields",
    [
        {"replicas": ()},
        {"replicas": ids(1, 2, 2, 3)},
        {"isr": ids(1, 4)},
        {"isr": ids(1, 1)},
        {"leader": BrokerId(3)},
        {"isr": ()},
        {"eligible_leader_replicas": ids(2)},
        {"eligible_leader_replicas": ids(4)},
        {"adding_replicas": ids(4)},
        {"removing_replicas": ids(4)},
        {"leader_epoch": LeaderEpoch(-1)},
        {"leader_recovery_state": LeaderRecoveryState.RECOVERING},
    ],
)
def test_rule_7_breaches_are_found(fields: dict[str, Any]) -> None:
    GOOD.check()
    with pytest.raises(InvariantError):
        replace(GOOD, **fields).check()


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({"partition_epoch": 10}, True),
        ({"partition_epoch": 10, "leader_epoch": 5}, True),
        ({"partition_epoch": 10, "leader": 2, "leader_epoch": 5}, True),
        ({"partition_epoch": 10, "leader": None, "leader_epoch": 5}, True),
        ({}, False),
        ({"partition_epoch": 11}, False),
        ({"partition_epoch": 10, "leader_epoch": 3}, False),
        ({"partition_epoch": 10, "leader": 2}, False),
        ({"partition_epoch": 10, "leader": None}, False),
    ],
)
def test_rule_1_and_9_epochs_grow_with_what_they_count(fields: dict[str, Any], good: bool) -> None:
    after = replace(GOOD, **fields)
    if good:
        after.check_follows(GOOD)
    else:
        with pytest.raises(InvariantError):
            after.check_follows(GOOD)


SOME = st.lists(st.integers(0, 2**31 - 1).map(BrokerId), max_size=4).map(tuple)


@given(
    st.builds(
        PartitionImage,
        topic_id=st.uuids(),
        partition=st.integers(0, 9_999),
        replicas=SOME,
        isr=SOME,
        leader=st.none() | st.integers(0, 100).map(BrokerId),
        leader_epoch=st.integers(0, 2**31 - 1).map(LeaderEpoch),
        partition_epoch=st.integers(0, 2**31 - 1).map(PartitionEpoch),
        adding_replicas=SOME,
        removing_replicas=SOME,
        eligible_leader_replicas=SOME,
        leader_recovery_state=st.sampled_from(LeaderRecoveryState),
        last_known_leader=st.none() | st.integers(0, 100).map(BrokerId),
    )
)
def test_a_partition_comes_back_from_its_record(partition: PartitionImage) -> None:
    assert PartitionImage.from_record(partition.to_record().partition) == partition
    assert PartitionImage.from_record(partition.to_record().partition, partition.topic_id) == partition
    assert str(partition)
