"""The two views of a group's offsets, and what expires."""

from __future__ import annotations

from random import Random

from klamm.broker.groups.committed_offsets import Change, CommittedOffsets, ExpiryRule
from klamm.broker.groups.records import OffsetKey, OffsetValue
from klamm.proto.identifiers import Offset, TopicPartition


def put(number: int, partition: int = 0, group: str = "g", topic: str = "t", at_ms: int = 0) -> Change:
    return OffsetKey(group, topic, partition), OffsetValue(Offset(number), None, "", at_ms)


def gone(partition: int = 0, group: str = "g") -> Change:
    return OffsetKey(group, "t", partition), None


def values(offsets: dict[TopicPartition, OffsetValue]) -> dict[int, int]:
    return {topic_partition.partition: value.offset for topic_partition, value in offsets.items()}


def test_rule_21_a_change_is_committed_when_the_high_watermark_reaches_its_end() -> None:
    offsets = CommittedOffsets()
    offsets.appended(Offset(1), [put(5)])
    offsets.appended(Offset(2), [put(6), put(1, 1)])
    offsets.appended(Offset(3), [gone()])
    assert (values(offsets.committed("g")), values(offsets.latest("g"))) == ({}, {1: 1})
    assert offsets.pending_end_offset("g") == 3
    offsets.commit_through(Offset(1))
    assert (values(offsets.committed("g")), values(offsets.latest("g"))) == ({0: 5}, {1: 1})
    offsets.commit_through(Offset(2))
    assert (values(offsets.committed("g")), offsets.pending_end_offset("g")) == ({0: 6, 1: 1}, 3)
    offsets.commit_through(Offset(9))
    assert (values(offsets.committed("g")), offsets.pending_end_offset("g")) == ({1: 1}, None)


def test_an_older_change_that_is_committed_leaves_a_newer_one_pending() -> None:
    offsets = CommittedOffsets()
    offsets.appended(Offset(1), [put(5)])
    offsets.appended(Offset(2), [put(6)])
    offsets.commit_through(Offset(1))
    assert values(offsets.latest("g")) == {0: 6}
    assert offsets.pending_end_offset("g") == 2


def test_nothing_is_left_of_a_group_whose_offsets_are_gone() -> None:
    offsets = CommittedOffsets()
    offsets.load(*put(5))
    offsets.appended(Offset(1), [gone()])
    assert not offsets.has_any("g")
    offsets.commit_through(Offset(1))
    assert (offsets.group_ids(), len(offsets)) == ([], 0)
    offsets.load(*gone())
    assert offsets.group_ids() == []


def test_both_views_agree_with_a_plain_replay() -> None:
    for seed in range(50):
        random = Random(seed)
        offsets = CommittedOffsets()
        log: list[Change] = []
        high_watermark = 0
        for number in range(200):
            if random.random() < 0.6:
                key = OffsetKey(f"g{random.randrange(2)}", "t", random.randrange(3))
                change = (key, None if random.random() < 0.3 else OffsetValue(Offset(number), None, "", 0))
                log.append(change)
                offsets.appended(Offset(len(log)), [change])
            else:
                high_watermark = random.randint(high_watermark, len(log))
                offsets.commit_through(Offset(high_watermark))
            for group in ("g0", "g1"):
                assert values(offsets.committed(group)) == replayed(log[:high_watermark], group)
                assert values(offsets.latest(group)) == replayed(log, group)
                assert offsets.has_any(group) == bool(replayed(log, group))


def replayed(log: list[Change], group: str) -> dict[int, int]:
    state: dict[int, int] = {}
    for key, value in log:
        if key.group == group:
            state.pop(key.partition, None)
            if value is not None:
                state[key.partition] = value.offset
    return state


def test_each_offset_expires_after_its_own_commit_unless_the_group_became_empty_later() -> None:
    offsets = CommittedOffsets()
    offsets.load(*put(1, 0, at_ms=0))
    offsets.load(*put(1, 1, at_ms=500))
    rule = ExpiryRule(retention_ms=1_000, since_ms=None, is_subscribed_to=lambda topic: False)
    assert offsets.expired("g", rule, 999) == ([], False)
    assert offsets.expired("g", rule, 1_000) == ([gone(0)], False)
    assert offsets.expired("g", rule, 1_500) == ([gone(0), gone(1)], True)
    since_empty = ExpiryRule(retention_ms=1_000, since_ms=2_000, is_subscribed_to=lambda topic: False)
    assert offsets.expired("g", since_empty, 2_999) == ([], False)
    assert offsets.expired("g", since_empty, 3_000) == ([gone(0), gone(1)], True)


def test_offsets_of_topics_that_are_read_do_not_expire() -> None:
    offsets = CommittedOffsets()
    offsets.load(*put(1))
    rule = ExpiryRule(retention_ms=1, since_ms=None, is_subscribed_to=lambda topic: topic == "t")
    assert offsets.expired("g", rule, 10**12) == ([], False)


def test_offsets_of_topics_in_all_groups() -> None:
    offsets = CommittedOffsets()
    offsets.load(*put(1, group="a"))
    offsets.load(*put(1, group="b"))
    offsets.load(*put(1, topic="other"))
    assert list(offsets.of_topics({"t"})) == [gone(group="a"), gone(group="b")]
    assert offsets.topics() == {"t", "other"}
