from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment as TheirAssignment
from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription as TheirSubscription
from klamm.proto.consumer_protocol import (
    LATEST_VERSION,
    MESSAGE_BYTES_MAX,
    ConsumerProtocolAssignment,
    ConsumerProtocolError,
    ConsumerProtocolSubscription,
    decode_topic_partitions,
    encode_topic_partitions,
    group_by_topic,
)
from klamm.proto.identifiers import TopicPartition

names = st.text(alphabet=st.characters(codec="utf-8"), max_size=12)
partitions = st.lists(st.builds(TopicPartition, names, st.integers(0, 2**31 - 1)), max_size=8, unique=True)
user_data = st.none() | st.binary(max_size=20)
versions = st.integers(0, LATEST_VERSION)


@st.composite
def subscriptions(draw: st.DrawFn) -> ConsumerProtocolSubscription:
    version = draw(versions)
    return ConsumerProtocolSubscription(
        topics=tuple(sorted(draw(st.lists(names, max_size=5, unique=True)))),
        user_data=draw(user_data),
        owned_partitions=tuple(sorted(draw(partitions))) if version >= 1 else (),
        generation_id=draw(st.none() | st.integers(0, 2**31 - 1)) if version >= 2 else None,
        rack_id=draw(st.none() | names.filter(bool)) if version >= 3 else None,
        version=version,
    )


assignments = st.builds(
    lambda found, data, version: ConsumerProtocolAssignment(tuple(sorted(found)), data, version),
    partitions,
    user_data,
    versions,
)


@given(subscriptions())
def test_a_subscription_comes_back_as_it_was(subscription: ConsumerProtocolSubscription) -> None:
    assert ConsumerProtocolSubscription.decode(subscription.encode()) == subscription


@given(assignments)
def test_an_assignment_comes_back_as_it_was(assignment: ConsumerProtocolAssignment) -> None:
    assert ConsumerProtocolAssignment.decode(assignment.encode()) == assignment


@given(subscriptions())
def test_a_subscription_has_kafka_pythons_bytes(subscription: ConsumerProtocolSubscription) -> None:
    version = subscription.version
    fields = {"version": version, "topics": list(subscription.topics), "user_data": subscription.user_data}
    if version >= 1:
        grouped = group_by_topic(subscription.owned_partitions)
        part = TheirSubscription.TopicPartition
        fields["owned_partitions"] = [part(topic=topic, partitions=numbers) for topic, numbers in grouped.items()]
    if version >= 2:
        fields["generation_id"] = -1 if subscription.generation_id is None else subscription.generation_id
    if version >= 3:
        fields["rack_id"] = subscription.rack_id
    assert subscription.encode() == TheirSubscription(**fields).encode()


@given(assignments)
def test_an_assignment_has_kafka_pythons_bytes(assignment: ConsumerProtocolAssignment) -> None:
    grouped = list(group_by_topic(assignment.partitions).items())
    theirs = TheirAssignment(version=assignment.version, assigned_partitions=grouped, user_data=assignment.user_data)
    assert assignment.encode() == theirs.encode()


@given(subscriptions(), st.data())
def test_a_cut_off_subscription_is_refused(subscription: ConsumerProtocolSubscription, data: st.DataObject) -> None:
    encoded = subscription.encode()
    size = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(ConsumerProtocolError):
        ConsumerProtocolSubscription.decode(encoded[:size])


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for message in (ConsumerProtocolSubscription, ConsumerProtocolAssignment):
        for prefixed in (data, struct.pack(">h", 3) + data):
            try:
                message.decode(prefixed)
            except ConsumerProtocolError as error:
                assert "group member" in str(error)


def test_a_newer_version_is_read_as_the_newest_known_one() -> None:
    subscription = ConsumerProtocolSubscription(("a",), b"x", (TopicPartition("a", 0),), 7, "rack")
    newer = struct.pack(">h", 9) + subscription.encode()[2:] + b"a field of the future"
    assert ConsumerProtocolSubscription.decode(newer) == subscription
    assignment = ConsumerProtocolAssignment((TopicPartition("a", 0),))
    assert ConsumerProtocolAssignment.decode(struct.pack(">h", 9) + assignment.encode()[2:] + b"more") == assignment


def test_a_count_that_lies_costs_nothing() -> None:
    for lie in (2**31 - 1, -1, -(2**31)):
        with pytest.raises(ConsumerProtocolError, match="do not fit"):
            ConsumerProtocolSubscription.decode(struct.pack(">hi", 0, lie))
        with pytest.raises(ConsumerProtocolError, match="do not fit"):
            ConsumerProtocolAssignment.decode(struct.pack(">hih1si", 0, 1, 1, b"t", lie))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack(">h", -1), "version -1"),
        (struct.pack(">hih", 0, 1, -1), "topic is null"),
        (struct.pack(">hih", 0, 1, -7), "length of -7"),
        (struct.pack(">hih2s", 0, 1, 2, b"\xff\xff"), "not UTF-8"),
        (struct.pack(">hii", 0, 0, -9), "length of -9"),
        (b"\0" * (MESSAGE_BYTES_MAX + 1), "more than"),
    ],
)
def test_what_is_no_subscription_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ConsumerProtocolError, match=reason):
        ConsumerProtocolSubscription.decode(data)


def test_a_negative_partition_is_refused() -> None:
    with pytest.raises(ConsumerProtocolError, match="-2 is no partition"):
        ConsumerProtocolAssignment.decode(struct.pack(">hih1siii", 0, 1, 1, b"t", 1, -2, -1))
    with pytest.raises(ConsumerProtocolError, match="-2 is no partition"):
        ConsumerProtocolAssignment((TopicPartition("t", -2),)).encode()


@pytest.mark.parametrize(
    ("subscription", "reason"),
    [
        (ConsumerProtocolSubscription(("t" * 2**15,)), "longer than"),
        (ConsumerProtocolSubscription(("\udcff",)), "UTF-8"),
        (ConsumerProtocolSubscription((), version=4), "version 4"),
        (ConsumerProtocolSubscription((), generation_id=2**31), "whole number"),
        (ConsumerProtocolSubscription((), user_data=b"x" * MESSAGE_BYTES_MAX), "more than"),
    ],
)
def test_what_does_not_fit_is_not_written(subscription: ConsumerProtocolSubscription, reason: str) -> None:
    with pytest.raises(ConsumerProtocolError, match=reason):
        subscription.encode()


@given(partitions, st.binary(max_size=8))
def test_an_array_of_partitions_is_read_and_the_rest_handed_back(found: list[TopicPartition], rest: bytes) -> None:
    ordered = tuple(sorted(found))
    assert decode_topic_partitions(encode_topic_partitions(ordered) + rest) == (ordered, rest)
