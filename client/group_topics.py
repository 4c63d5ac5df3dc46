"""The topics of a group's member: what it has subscribed to, and as the leader, sharing out those of all members.

The leader alone watches the topics of the whole group: when one comes, goes or grows, it lets the group rebalance.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from ..proto import broker_pb2 as pb
from ..proto.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolError,
    ConsumerProtocolSubscription,
)
from ..proto.errors import KafkaError
from .assignors import AssignableMember, Assignor
from .cluster_client import ClusterClient
from .config import ConsumerConfig

logger = logging.getLogger(__name__)

_ASSIGNMENT_VERSION = 0  # it is the same in all versions: the oldest reader shall understand it


class GroupTopics:
    """Lives on the consumer's event loop; `names` and `fits` may be read from the user's thread."""

    def __init__(self, config: ConsumerConfig, cluster: ClusterClient, group_id: str) -> None:
        self._config = config
        self._cluster = cluster
        self._group_id = group_id
        self.names: frozenset[str] | None = None  # subscribed to; None: no subscription
        self.pattern: re.Pattern[str] | None = None
        self._of_group: frozenset[str] = frozenset()  # a leader's: of all members
        self._seen: dict[str, int] = {}  # a leader's: partition counts as of the last assignment

    def subscribe(self, names: frozenset[str], pattern: re.Pattern[str] | None) -> bool:
        """Another subscription; True if it is to other topics than before."""
        self.pattern = pattern
        return self._set(names if pattern is None else self._matching())

    def unsubscribe(self) -> None:
        """No subscription any more."""
        self.names = self.pattern = None

    def follow_pattern(self) -> bool:
        """Looks which topics match now; True if they are others than before."""
        return self.pattern is not None and self._set(self._matching())

    def fits(self, topic: str) -> bool:
        """True if the subscription covers the topic."""
        return topic in (self.names or ()) or (self.pattern is not None and self.pattern.match(topic) is not None)

    def have_changed(self) -> bool:
        """To a leader: True if topics of the group or their partitions have come or gone since the last look."""
        counts = self._partition_counts()
        changed = counts != self._seen
        self._seen = counts
        return changed

    async def refresh(self) -> None:
        """Asks for metadata; without an answer, what is known has to do."""
        try:
            await self._cluster.refresh()
        except KafkaError as error:
            logger.warning("metadata_refresh_failed error=%s", error)

    async def share_out(self, told: Iterable[object], assignor: Assignor, *, skip: bool) -> dict[str, bytes]:
        """The assignment of each member, encoded; none where it is only to be noted who leads.

        :raises ConsumerProtocolError: what a member has told cannot be read. What the assignor raises comes out too.
        """
        members = [_assignable(member) for member in told if isinstance(member, pb.JoinedMember)]
        self._of_group = frozenset(topic for member in members for topic in member.subscription.topics)
        self._watch()
        await self.refresh()
        self._seen = self._partition_counts()
        if skip:
            return {}
        assigned = assignor.assign(self._seen, members)
        logger.info("group_shared_out group=%s assignor=%s members=%d", self._group_id, assignor.name, len(members))
        return {
            member_id: ConsumerProtocolAssignment(tuple(partitions), version=_ASSIGNMENT_VERSION).encode()
            for member_id, partitions in assigned.items()
        }

    def assignor(self, name: str) -> Assignor:
        """The assignor of that name. :raises ConsumerProtocolError: this consumer has none."""
        for assignor in self._config.partition_assignment_strategy:
            if assignor.name == name:
                return assignor
        raise ConsumerProtocolError(f"group {self._group_id!r} uses assignor {name!r}, which this consumer has not")

    def _set(self, names: frozenset[str]) -> bool:
        if names == self.names:
            return False
        self.names = names
        self._watch()
        return True

    def _watch(self) -> None:
        """Tells the metadata cache which topics to keep fresh."""
        self._cluster.topics = None if self.pattern is not None else {*(self.names or ()), *self._of_group}

    def _matching(self) -> frozenset[str]:
        assert self.pattern is not None
        return self._cluster.cache.matching_topics(self.pattern, internal=not self._config.exclude_internal_topics)

    def _partition_counts(self) -> dict[str, int]:
        found = {name: self._cluster.cache.topic(name) for name in self._of_group}
        return {name: len(topic.partitions) for name, topic in found.items() if topic is not None}


def _assignable(member: pb.JoinedMember) -> AssignableMember:
    subscription = ConsumerProtocolSubscription.decode(member.metadata)
    return AssignableMember(member.member_id, member.group_instance_id or None, subscription)
