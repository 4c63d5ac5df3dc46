"""Rule 22 for groups of KIP-848: a partition has one owner at a time, whatever happens to members and coordinators."""

from __future__ import annotations

import pytest
from harness.simulated_consumers import SimulatedGroup
from klamm.broker.groups.group_request import GroupState

STEPS = 300


@pytest.mark.parametrize("seed", range(24))
def test_rule_22_no_two_members_own_a_partition_whatever_is_lost_repeated_or_crashes(seed: int) -> None:
    group = SimulatedGroup(seed)
    for _ in range(4):
        group.start_consumer()
    for _ in range(STEPS):
        group.step()
    group.settle()
    wanted = group.test.group._state.topics.values()
    everything = {(topic.topic_id, number) for topic in wanted for number in range(topic.partition_count)}
    owned = [one for consumer in group.consumers for one in consumer.owned]
    assert len(owned) == len(set(owned))
    if group.consumers:
        assert group.test.group.state is GroupState.STABLE
        assert set(owned) == everything
        assert {consumer.told == consumer.owned for consumer in group.consumers} == {True}
    else:
        assert group.test.group.state is GroupState.EMPTY
