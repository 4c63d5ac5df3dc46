"""All that a consumer with a `group_id` has beyond one without: membership, committed offsets, auto-commit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable

from ..proto.errors import KafkaError
from ..proto.identifiers import TopicPartition
from .assignment import Assignment
from .cluster_client import ClusterClient
from .config import ConsumerConfig
from .group_coordinator import GroupCoordinatorClient
from .group_member import GroupMember
from .group_offsets import CommitCallback, GroupOffsets
from .rebalance import Rebalance, Steps
from .structs import OffsetAndMetadata


class ConsumerGroup:
    """Made on the event loop. What is not a coroutine may be called from the user's thread."""

    def __init__(
        self, config: ConsumerConfig, cluster: ClusterClient, assignment: Assignment, on_data: Callable[[], None]
    ) -> None:
        assert config.group_id is not None
        self._config = config
        self._clock = cluster.clock
        self._loop = asyncio.get_running_loop()
        self.coordinator = GroupCoordinatorClient(cluster, config.group_id)
        self.member = GroupMember(config, cluster, self.coordinator, lambda: list(assignment.positions), on_data)
        self.offsets = GroupOffsets(
            config,
            cluster,
            self.coordinator,
            assignment,
            membership=self.member.metadata_for_commit,
            on_refused=self.member.commit_refused,
            on_found=on_data,
        )
        self.rebalance = Rebalance(config, self.member, self.offsets, assignment, self.look)
        self._next_auto_commit_ms = self._clock.monotonic_ms() + config.auto_commit_interval_ms

    # --- membership -----------------------------------------------------------------------------------------------

    def subscribe(self, topics: Iterable[str], pattern: re.Pattern[str] | None) -> None:
        """Joins, or lets the group rebalance for a new subscription."""
        self._loop.call_soon_threadsafe(self.member.subscribe, frozenset(topics), pattern)

    def look(self) -> None:
        """Lets partitions that are new find their committed offsets."""
        self._loop.call_soon_threadsafe(self.offsets.look)

    def poll_begins(self) -> None:
        """The user is inside poll(): alive, however long it waits there."""
        self.member.polling = True

    def poll_ends(self) -> None:
        """The user has its records, and `max_poll_interval_ms` for them."""
        self.member.last_poll_ms = self._clock.monotonic_ms()
        self.member.polling = False

    @property
    def has_work(self) -> bool:
        """True if `poll_steps` has something to do."""
        return self.member.needs_user or bool(self.offsets.completed)

    def poll_steps(self) -> Steps:
        """What poll() does before it gives out records."""
        yield from self.rebalance.completed_commits()
        if self.member.needs_user:
            yield from self.rebalance.poll()

    def close_steps(self, reason: str, *, autocommit: bool, timeout_ms: float | None = None) -> Steps:
        """What close() and unsubscribe() do before the consumer reads no more."""
        try:
            yield from self.rebalance.leave(reason, autocommit=autocommit, timeout_ms=timeout_ms)
        finally:
            yield from self.rebalance.completed_commits()

    async def close(self) -> None:
        """Ends what is under way."""
        await self.member.close()
        await self.offsets.close()
        await self.coordinator.close()

    # --- commits --------------------------------------------------------------------------------------------------

    def due_auto_commit(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """What poll() gave out before and should commit now, as `auto_commit_interval_ms` is over; else nothing."""
        if not self._config.enable_auto_commit:
            return {}
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._next_auto_commit_ms:
            return {}
        self._next_auto_commit_ms = now_ms + self._config.auto_commit_interval_ms
        return self.offsets.consumed()

    def auto_commit_due_in_s(self) -> float | None:
        """How long poll() may sleep for the sake of auto-commit."""
        if not self._config.enable_auto_commit:
            return None
        return max(0.0, (self._next_auto_commit_ms - self._clock.monotonic_ms()) / 1000)

    def commit_callback(self, callback: CommitCallback | None) -> CommitCallback | None:
        """The callback given, or the configured one."""
        return callback or self._config.default_offset_commit_callback

    async def committed(self, partition: TopicPartition, timeout_ms: float) -> OffsetAndMetadata | None:
        """What is committed for a partition. :raises KafkaError: no coordinator told it in time."""
        return (await self.offsets.fetch([partition], timeout_ms)).get(partition)


def offsets_given(offsets: object) -> dict[TopicPartition, OffsetAndMetadata]:
    """The offsets of a commit, checked; a number stands for an offset without metadata.

    :raises KafkaError: they are not offsets by partition.
    """
    if not isinstance(offsets, dict):
        raise KafkaError(f"commit: {offsets!r} is not a dict of OffsetAndMetadata by TopicPartition")
    checked = {}
    for partition, entry in offsets.items():
        given = OffsetAndMetadata(entry) if isinstance(entry, int) else entry
        if not isinstance(given, tuple) or not 1 <= len(given) <= len(OffsetAndMetadata._fields):
            raise KafkaError(f"commit: {entry!r} is not an OffsetAndMetadata")
        offset, metadata, leader_epoch = OffsetAndMetadata(*given)
        if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset < 2**63:
            raise KafkaError(f"commit: offset {offset!r} of {partition} is not a whole number from 0 on")
        if not isinstance(metadata or "", str):
            raise KafkaError(f"commit: metadata {metadata!r} of {partition} is not a string")
        epoch = None if leader_epoch is None or leader_epoch < 0 else leader_epoch  # kafka-python's -1: not known
        checked[_partition(partition)] = OffsetAndMetadata(offset, metadata or "", epoch)
    return checked


def _partition(given: object) -> TopicPartition:
    if isinstance(given, tuple) and len(given) == 2:
        topic, number = given
        if isinstance(topic, str) and isinstance(number, int) and 0 <= number < 2**31:
            return TopicPartition(topic, number)
    raise KafkaError(f"commit: {given!r} is not a TopicPartition")
