"""Makes groups: new ones, and those that the log has."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from ...cluster.clock import Clock
from .classic_group import ClassicGroup
from .consumer_group import ConsumerGroup
from .group_config import GroupConfig
from .topics_view import TopicsView


def new_member_id(name: str) -> str:
    """As Kafka names members: the client id or the instance id, and something unique."""
    return f"{name}-{uuid.uuid4()}"


@dataclass(slots=True)
class GroupFactory:
    """`topics` is replaced when the metadata change."""

    config: GroupConfig
    clock: Clock
    topics: TopicsView

    def classic(self, group_id: str) -> ClassicGroup:
        """An empty one. Without members it is a "simple" group, which only has offsets."""
        return ClassicGroup(group_id, config=self.config, new_member_id=new_member_id, wall_ms=self.clock.wall_ms)

    def classic_from_record(self, group_id: str, value: bytes) -> ClassicGroup:
        """:raises InvalidGroupRecordError: the value is none of a classic group."""
        return ClassicGroup.from_record(
            group_id,
            value,
            config=self.config,
            new_member_id=new_member_id,
            wall_ms=self.clock.wall_ms,
            now_ms=self.clock.monotonic_ms(),
        )

    def consumer(self, group_id: str) -> ConsumerGroup:
        """A group of KIP-848 without members, to be filled by heartbeats or by replaying its records."""
        return ConsumerGroup(group_id, config=self.config, topics=self.topics, wall_ms=self.clock.wall_ms)
