"""Replicas and leaders are spread evenly, over racks, and alike on every controller."""

from __future__ import annotations

from collections import Counter

from harness.metadata_cluster import MetadataCluster, cluster_of
from hypothesis import given, settings
from hypothesis import strategies as st
from klamm.controller.placement import ReplicaPlacer
from klamm.controller.seeded_random import SeededRandom


def spread(counts: Counter[int], brokers: int) -> int:
    values = [counts.get(broker, 0) for broker in range(1, brokers + 1)]
    return max(values) - min(values)


@settings(max_examples=60, deadline=None)
@given(
    brokers=st.integers(1, 9),
    partitions=st.integers(1, 60),
    replication_factor=st.integers(1, 5),
    seed=st.integers(0, 2**64 - 1),
)
def test_leaders_and_replicas_are_spread_evenly(
    brokers: int, partitions: int, replication_factor: int, seed: int
) -> None:
    replication_factor = min(replication_factor, brokers)
    image = cluster_of(*range(1, brokers + 1)).image
    placed = ReplicaPlacer(image, seed).place(partitions, replication_factor)
    assert all(len(set(replicas)) == replication_factor for replicas in placed)
    assert spread(Counter(replicas[0] for replicas in placed), brokers) <= 1
    assert spread(Counter(replica for replicas in placed for replica in replicas), brokers) <= 2
    assert placed == ReplicaPlacer(image, seed).place(partitions, replication_factor)


@settings(max_examples=40, deadline=None)
@given(
    racks=st.lists(st.sampled_from("abc"), min_size=2, max_size=8),
    partitions=st.integers(1, 30),
    replication_factor=st.integers(1, 4),
    seed=st.integers(0, 2**64 - 1),
)
def test_each_partition_is_in_as_many_racks_as_there_are(
    racks: list[str], partitions: int, replication_factor: int, seed: int
) -> None:
    replication_factor = min(replication_factor, len(racks))
    by_broker = dict(enumerate(racks, 1))
    image = cluster_of(*by_broker, racks=by_broker).image
    for replicas in ReplicaPlacer(image, seed).place(partitions, replication_factor):
        assert len({by_broker[replica] for replica in replicas}) == min(replication_factor, len(set(racks)))


def test_fenced_and_leaving_brokers_get_nothing() -> None:
    cluster = cluster_of(1, 2, 3, 4)
    cluster.fence(2)
    cluster.shut_down(3)
    placer = ReplicaPlacer(cluster.image, 1)
    assert placer.broker_count == 2
    assert {replica for replicas in placer.place(8, 2) for replica in replicas} == {1, 4}


def test_topics_of_one_partition_spread_over_all_brokers() -> None:
    cluster: MetadataCluster = cluster_of(1, 2, 3, 4)
    for number in range(40):
        cluster.create_topic(f"topic-{number}", 1, 1)
    leaders = Counter(topic.partitions[0].leader for topic in cluster.image.topics.values())
    assert sorted(leaders.values()) == [10, 10, 10, 10]


def test_a_topic_is_spread_also_where_one_broker_is_new_and_empty() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("old", 30, 1)
    cluster.start_brokers(4)
    cluster.create_topic("new", 8, 1)
    leaders = Counter(partition.leader for partition in cluster.image.topics["new"].partitions)
    assert sorted(leaders.values()) == [2, 2, 2, 2]


def test_the_numbers_of_a_seed_never_change() -> None:
    random = SeededRandom(1234567)  # the reference values of SplitMix64
    assert [random.next_number() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    items = list(range(10))
    SeededRandom(7).shuffle(items)
    assert sorted(items) == list(range(10)) != items
