"""A consumer group of KIP-848 without a shell: appends succeed at once, or when and as the test says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from klamm.broker.groups.consumer_group import ConsumerGroup
from klamm.broker.groups.consumer_group_codec import parse_key, parse_value
from klamm.broker.groups.consumer_group_records import TopicMetadata
from klamm.broker.groups.group import Append, Effects, GroupRecord, Reply, Ticket
from klamm.broker.groups.group_config import GroupConfig
from klamm.broker.groups.group_request import ConsumerGroupHeartbeatAnswer, ConsumerGroupHeartbeatRequest

REBALANCE_TIMEOUT_MS = 10_000


def topic_id(name: str) -> UUID:
    return UUID(bytes=name.encode().rjust(16, b"\0")[-16:])


@dataclass
class FakeTopics:
    """A `TopicsView` of partition counts by name."""

    counts: Mapping[str, int]
    version: int = 1
    generation: str = ""  # another one: the topics were deleted and made again

    def names(self) -> Iterable[str]:
        return self.counts

    def topic(self, name: str) -> TopicMetadata | None:
        if name not in self.counts:
            return None
        return TopicMetadata(topic_id(name + self.generation), name, self.counts[name])

    def name_of(self, wanted: UUID) -> str | None:
        return next((name for name in self.counts if topic_id(name + self.generation) == wanted), None)


@dataclass
class GroupUnderTest:
    """The group, the log it writes to, and the clock."""

    topics: FakeTopics
    config: GroupConfig = field(default_factory=GroupConfig)
    log: list[GroupRecord] = field(default_factory=list)
    now_ms: int = 0
    tickets: int = 0
    answers: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.group = self.new_group()

    def new_group(self) -> ConsumerGroup:
        return ConsumerGroup("g", config=self.config, topics=self.topics, wall_ms=lambda: 1_700_000_000_000)

    def reload(self, records: Iterable[GroupRecord] | None = None) -> None:
        """As another coordinator would."""
        self.group = self.new_group()
        for one in self.log if records is None else records:
            key = parse_key(one.key)
            assert key is not None
            self.group.replay(key, None if one.value is None else parse_value(key, one.value))

    def carry_out(self, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                assert effect.ticket not in self.answers, "answered twice"
                self.answers[effect.ticket] = effect.answer
            elif isinstance(effect, Append):
                self.log += effect.records
                self.group.appended(effect.token)
                self.carry_out(self.group.committed(effect.token, self.now_ms))

    def new_ticket(self) -> Ticket:
        self.tickets += 1
        return Ticket(self.tickets)

    def tick(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.carry_out(self.group.tick(now_ms))

    def ask(self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatAnswer:
        ticket = self.new_ticket()
        self.carry_out(self.group.heartbeat(request, ticket, self.now_ms))
        answer = self.answers.pop(ticket)
        assert isinstance(answer, ConsumerGroupHeartbeatAnswer)
        return answer

    def join(self, member_id: str, *names: str, **fields: Any) -> ConsumerGroupHeartbeatAnswer:
        return self.ask(join_request(member_id, *names, **fields))

    def beat(
        self, member_id: str, epoch: int, owned: Mapping[str, Iterable[int]] | None = None, **fields: Any
    ) -> ConsumerGroupHeartbeatAnswer:
        partitions = None if owned is None else {topic_id(name): tuple(owned[name]) for name in owned}
        return self.ask(heartbeat_request(member_id, epoch, owned_partitions=partitions, **fields))


def heartbeat_request(member_id: str, epoch: int, **fields: Any) -> ConsumerGroupHeartbeatRequest:
    values: dict[str, Any] = dict.fromkeys(
        (
            "group_instance_id",
            "rack_id",
            "rebalance_timeout_ms",
            "subscribed_topic_names",
            "subscribed_topic_regex",
            "server_assignor",
            "owned_partitions",
        )
    )
    values |= {"client_id": "c", "client_host": "/127.0.0.1"} | fields
    return ConsumerGroupHeartbeatRequest("g", member_id, epoch, **values)


def join_request(member_id: str, *names: str, **fields: Any) -> ConsumerGroupHeartbeatRequest:
    values: dict[str, Any] = {
        "rebalance_timeout_ms": REBALANCE_TIMEOUT_MS,
        "subscribed_topic_names": names,
        "owned_partitions": {},
    }
    return heartbeat_request(member_id, 0, **(values | fields))


def assigned(answer: ConsumerGroupHeartbeatAnswer) -> dict[str, list[int]] | None:
    """By topic name."""
    if answer.assignment is None:
        return None
    return {one.bytes.lstrip(b"\0").decode(): list(partitions) for one, partitions in sorted(answer.assignment.items())}
