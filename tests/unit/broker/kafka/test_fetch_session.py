"""Incremental fetch sessions as KIP-227 and Apache Kafka's FetchSession have them."""

from __future__ import annotations

from functools import partial
from random import Random
from uuid import UUID

import pytest
from klamm.broker.kafka import fetch_session
from klamm.broker.kafka.fetch_request import FetchPartition, FetchRequest
from klamm.broker.kafka.fetch_session import Answered, FetchSessions, next_epoch
from klamm.broker.partition_request import FetchOutcome
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId, LeaderEpoch, Offset

ID = UUID(int=7)


def wanted(partition: int, offset: int = 0, topic: str = "t", topic_id: UUID | None = None) -> FetchPartition:
    return FetchPartition(topic, topic_id, partition, -1, offset, -1, 1000)


def request(session_id: int, epoch: int, *partitions: FetchPartition, forgotten: tuple[int, ...] = ()) -> FetchRequest:
    return FetchRequest(
        -1, 0, 1, 1000, False, session_id, epoch, list(partitions), [("t", None, number) for number in forgotten], ""
    )


def outcome(
    high_watermark: int = 0, records: bytes = b"", error: ErrorCode = ErrorCode.NONE, start: int = 0
) -> FetchOutcome:
    if error:
        return FetchOutcome(error)
    return FetchOutcome(error, "", Offset(high_watermark), Offset(high_watermark), Offset(start), records)


class Client:
    """Asks in one session, as a consumer does."""

    def __init__(self, sessions: FetchSessions, version: int = 12) -> None:
        self.sessions = sessions
        self.version = version
        self.session_id = 0
        self.epoch = 0

    def ask(
        self,
        outcomes: dict[int, FetchOutcome],
        *partitions: FetchPartition,
        now_ms: int = 0,
        forgotten: tuple[int, ...] = (),
    ) -> list[int]:
        """The partitions that are told of."""
        context = self.sessions.context(
            request(self.session_id, self.epoch, *partitions, forgotten=forgotten), self.version, now_ms
        )
        assert not context.error
        error, self.session_id, told = context.answer(
            [(partition, outcomes[partition.partition]) for partition in context.partitions]
        )
        assert not error
        self.epoch = next_epoch(self.epoch)
        return [partition.partition for partition, _ in told]


def sessions(sessions_max: int = 10) -> FetchSessions:
    return FetchSessions(sessions_max, partial(Random(1).randrange, 2**31))


def test_a_full_request_opens_a_session_and_later_ones_tell_only_what_changed() -> None:
    client = Client(sessions())
    both = {0: outcome(5), 1: outcome(7)}
    assert client.ask(both, wanted(0), wanted(1)) == [0, 1]
    assert client.session_id > 0
    assert client.ask(both) == []
    assert client.ask({0: outcome(6), 1: outcome(7)}) == [0]  # the high watermark moved
    assert client.ask({0: outcome(6), 1: outcome(7, start=2)}) == [1]  # the log start did
    assert client.ask({0: outcome(6), 1: outcome(7, b"records", start=2)}) == [1]
    assert client.ask({0: outcome(6), 1: outcome(7, start=2)}) == []


def test_an_error_is_told_each_time_and_so_is_its_end() -> None:
    client = Client(sessions())
    failed = {0: outcome(error=ErrorCode.NOT_LEADER_OR_FOLLOWER)}
    assert client.ask(failed, wanted(0)) == [0]
    assert client.ask(failed) == [0]
    assert client.ask({0: outcome(5)}) == [0]
    assert client.ask({0: outcome(5)}) == []
    assert client.ask(failed) == [0]
    assert client.ask({0: outcome(5)}) == [0]


def test_diverging_epochs_and_preferred_replicas_are_always_told() -> None:
    client = Client(sessions())
    assert client.ask({0: outcome(5)}, wanted(0)) == [0]
    for urgent in (
        FetchOutcome(ErrorCode.NONE, "", Offset(5), Offset(5), Offset(0), diverging_epoch=(LeaderEpoch(1), Offset(2))),
        FetchOutcome(ErrorCode.NONE, "", Offset(5), Offset(5), Offset(0), preferred_read_replica=BrokerId(2)),
    ):
        assert client.ask({0: urgent}) == [0]
        assert client.ask({0: urgent}) == [0]


def test_partitions_are_added_changed_and_forgotten() -> None:
    client = Client(sessions())
    idle = {number: outcome(5) for number in range(4)}
    client.ask(idle, wanted(0), wanted(1))
    assert client.ask(idle, wanted(2), wanted(0, 3), forgotten=(1, 9)) == [2]
    context = client.sessions.context(request(client.session_id, client.epoch), 12, 0)
    assert [(each.partition, each.fetch_offset) for each in context.partitions] == [(0, 3), (2, 0)]


def test_partitions_with_records_go_to_the_end_so_that_all_get_their_turn() -> None:
    client = Client(sessions())
    first = {number: outcome(5) for number in range(3)}
    client.ask(first, *(wanted(number) for number in range(3)))
    client.ask({**first, 0: outcome(5, b"r")})
    context = client.sessions.context(request(client.session_id, client.epoch), 12, 0)
    assert [each.partition for each in context.partitions] == [1, 2, 0]


def test_a_session_without_partitions_is_closed() -> None:
    client = Client(sessions())
    client.ask({0: outcome(5)}, wanted(0))
    assert client.ask({}, forgotten=(0,)) == []
    assert client.session_id == 0 and len(client.sessions) == 0 and client.sessions.partition_count == 0


@pytest.mark.parametrize("epoch", [0, -1])
def test_a_full_request_closes_the_session_it_names(epoch: int) -> None:
    client = Client(sessions())
    client.ask({0: outcome(5)}, wanted(0))
    named, client.epoch = client.session_id, epoch
    assert client.ask({1: outcome(5)}, wanted(1)) == [1]
    assert client.session_id != named
    assert (client.session_id == 0) == (epoch == -1)
    assert client.sessions.partition_count == len(client.sessions) == (0 if epoch == -1 else 1)


def refused(of: FetchSessions, asked: FetchRequest, version: int = 12) -> ErrorCode:
    context = of.context(asked, version, 0)
    error, session_id, told = context.answer(())
    assert error is context.error and session_id == 0 and not told and not context.partitions
    return error


def test_what_is_no_request_of_a_session_is_refused_as_a_whole() -> None:
    client = Client(sessions())
    client.ask({0: outcome(5)}, wanted(0))
    of, known = client.sessions, client.session_id
    assert refused(of, request(known + 1, 1)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert refused(of, request(0, 1)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert refused(of, request(-5, -7)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert refused(of, request(known, 2)) is ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert refused(of, request(known, 1), 13) is ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
    assert client.ask({0: outcome(5)}) == []  # none of these harmed it


def test_the_same_request_twice_is_answered_once() -> None:
    client = Client(sessions())
    client.ask({0: outcome(5)}, wanted(0))
    parked = client.sessions.context(request(client.session_id, 1), 12, 0)
    assert client.sessions.context(request(client.session_id, 2), 12, 0).error is ErrorCode.NONE
    answered: list[Answered] = [(wanted(0), outcome(5))]
    assert parked.answer(answered)[0] is ErrorCode.INVALID_FETCH_SESSION_EPOCH


def test_topics_by_id_and_by_name_are_different_partitions() -> None:
    client = Client(sessions(), version=13)
    idle = {0: outcome(5)}
    assert client.ask(idle, wanted(0, topic="", topic_id=ID), wanted(0, topic="", topic_id=UUID(int=8))) == [0, 0]
    assert client.ask(idle) == []


def test_epochs_wrap_to_one() -> None:
    assert [next_epoch(0), next_epoch(1), next_epoch(2**31 - 1)] == [1, 2, 1]


def test_a_full_cache_gives_room_to_larger_sessions_and_takes_stale_ones() -> None:
    cache = sessions(2)

    def open_with(size: int, now_ms: int) -> int:
        client = Client(cache)
        idle = {number: outcome(5) for number in range(size)}
        client.ask(idle, *(wanted(number) for number in range(size)), now_ms=now_ms)
        return client.session_id

    first, second = open_with(3, 0), open_with(5, 0)
    assert first and second
    assert open_with(9, 1_000) == 0  # nobody is old enough to go
    for session_id in (first, second):  # used now and then: old, and not stale
        assert not cache.context(request(session_id, 1), 12, 100_000).error
    assert open_with(2, 150_000) == 0  # smaller than either
    third = open_with(4, 150_000)
    assert third and len(cache) == 2 and cache.partition_count == 9
    assert refused(cache, request(first, 2)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert open_with(1, 300_000)  # the other one has become stale
    assert refused(cache, request(second, 2)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_there_may_be_no_sessions_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for cache in (sessions(0), sessions(1)):
        client = Client(cache)
        monkeypatch.setattr(fetch_session, "CACHED_PARTITIONS_MAX", 0)
        assert client.ask({0: outcome(5)}, wanted(0)) == [0]
        assert client.session_id == 0


def test_a_partition_named_twice_counts_once() -> None:
    client = Client(sessions())
    assert client.ask({0: outcome(5)}, wanted(0), wanted(0, 9)) == [0]
    assert client.sessions.partition_count == 1


def test_a_session_cannot_grow_past_what_all_of_them_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_session, "CACHED_PARTITIONS_MAX", 3)
    client = Client(sessions())
    outcomes = {number: outcome(5) for number in range(9)}
    client.ask(outcomes, wanted(0), wanted(1))
    assert client.ask(outcomes, wanted(2), wanted(1)) == [2]
    grown = client.sessions.context(request(client.session_id, client.epoch, wanted(3)), client.version, 0)
    assert grown.error is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert (len(client.sessions), client.sessions.partition_count) == (0, 0)
