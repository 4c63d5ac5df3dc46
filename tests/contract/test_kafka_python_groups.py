"""Groups of kafka-python consumers: who gets what, who takes over, static members, each assignor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from harness.kafka_clients import create_topic, poll_all_until, read
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

pytestmark = pytest.mark.integration


class Members:
    """Consumers of one group, closed at the end."""

    def __init__(self, servers: str, topic: str, exits: ExitStack) -> None:
        self._options = {"bootstrap_servers": servers, "group_id": topic, "auto_offset_reset": "earliest"}
        self._topic, self._exits = topic, exits

    def join(self, **options: object) -> KafkaConsumer:
        consumer = KafkaConsumer(self._topic, heartbeat_interval_ms=200, **{**self._options, **options})
        self._exits.callback(consumer.close)
        return consumer


@pytest.fixture
def members(servers: str, name: str) -> Iterator[Members]:
    create_topic(servers, name, 2)
    with ExitStack() as exits:
        yield Members(servers, name, exits)


def each_has_one(*consumers: KafkaConsumer) -> bool:
    owned = [consumer.assignment() for consumer in consumers]
    return all(len(some) == 1 for some in owned) and len(set().union(*owned)) == len(consumers)


def produce_to_both(servers: str, topic: str, *values: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=servers)
    for value in values:
        for partition in (0, 1):
            producer.send(topic, value, partition=partition)
    producer.flush()
    producer.close()


def test_two_consumers_share_and_one_takes_over(members: Members, servers: str, name: str) -> None:
    first = members.join()
    poll_all_until([first], lambda: len(first.assignment()) == 2)
    second = members.join()
    poll_all_until([first, second], lambda: each_has_one(first, second))
    produce_to_both(servers, name, b"1")
    assert [record.value for record in read(first, 1)] == [b"1"]
    assert [record.value for record in read(second, 1)] == [b"1"]
    second.close()
    poll_all_until([first], lambda: first.assignment() == {TopicPartition(name, 0), TopicPartition(name, 1)})
    produce_to_both(servers, name, b"2")
    assert [record.value for record in read(first, 2)] == [b"2", b"2"], "what the second had read it had committed"


def test_a_member_that_goes_silent_is_put_out(members: Members, name: str) -> None:
    """It keeps its connection and its heartbeats, and polls no more: its own client leaves after max.poll.interval."""
    silent = members.join(max_poll_interval_ms=1_000, session_timeout_ms=6_000)
    other = members.join()
    poll_all_until([silent, other], lambda: each_has_one(silent, other))
    poll_all_until([other], lambda: len(other.assignment()) == 2)


@pytest.mark.parametrize("assignor", [RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor])
def test_assignors(members: Members, assignor: type) -> None:
    both = [members.join(partition_assignment_strategy=[assignor]) for _ in range(2)]
    poll_all_until(both, lambda: each_has_one(*both))


def test_static_member_comes_back_without_a_rebalance(members: Members, name: str) -> None:
    first = members.join(group_instance_id="one")
    second = members.join(group_instance_id="two")
    poll_all_until([first, second], lambda: each_has_one(first, second))
    had = first.assignment()
    before = generation(second)
    first.close()  # a static member does not leave
    again = members.join(group_instance_id="one")
    poll_all_until([again, second], lambda: again.assignment() == had)
    assert generation(second) == before


def generation(consumer: KafkaConsumer) -> int:
    number: int = consumer._coordinator.generation_if_stable().generation_id
    return number


def test_a_third_member_of_two_partitions_waits(members: Members) -> None:
    three = [members.join() for _ in range(3)]
    poll_all_until(three, lambda: sorted(len(each.assignment()) for each in three) == [0, 1, 1])
    owner = next(each for each in three if each.assignment())
    left = [each for each in three if each is not owner]
    owner.close()
    poll_all_until(left, lambda: each_has_one(*left))


def test_members_hear_of_new_partitions(members: Members, servers: str, name: str) -> None:
    from kafka.admin import KafkaAdminClient

    consumer = members.join(metadata_max_age_ms=300)
    poll_all_until([consumer], lambda: len(consumer.assignment()) == 2)
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_partitions({name: 4})
    admin.close()
    poll_all_until([consumer], lambda: len(consumer.assignment()) == 4)
