"""Committed offsets of a consumer's group: commits, in order, and the positions that they give.

Commits of one consumer go one after the other, a retry before whatever follows, so that an older offset never comes
after a newer one. Each bears the generation for which it was asked: when the group has moved on meanwhile, it fails
(rule 21), however often it was tried.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from ..proto import broker_pb2 as pb
from ..proto import command_pb2 as cmd
from ..proto.errors import (
    CommitFailedError,
    ErrorCode,
    KafkaError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    RebalanceInProgressError,
    error_for,
)
from ..proto.identifiers import NONE_ID, TopicPartition
from .assignment import Assignment
from .backoff import Backoff
from .cluster_client import ClusterClient
from .config import ConsumerConfig
from .group_coordinator import GroupCoordinatorClient
from .positions import EARLIEST, LATEST, PartitionPosition
from .structs import ConsumerGroupMetadata, OffsetAndMetadata

logger = logging.getLogger(__name__)

Offsets = Mapping[TopicPartition, OffsetAndMetadata]
CommitCallback = Callable[[dict[TopicPartition, OffsetAndMetadata], KafkaError | None], Any]

_RESETS: Final = {"earliest": EARLIEST, "latest": LATEST}
_NOT_OF_THE_GENERATION: Final = frozenset({ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION})


class CommitDuringRebalanceError(CommitFailedError, RebalanceInProgressError):
    """Offsets were not committed: the group rebalances. `poll` takes part in it; then the commit may be tried again."""

    error_code = ErrorCode.REBALANCE_IN_PROGRESS


class CompletedCommit(NamedTuple):
    """An asynchronous commit whose callback is still to be called, in the user's thread."""

    callback: CommitCallback
    offsets: dict[TopicPartition, OffsetAndMetadata]
    error: KafkaError | None


class GroupOffsets:
    """Lives on the consumer's event loop. The lock guards the positions."""

    def __init__(
        self,
        config: ConsumerConfig,
        cluster: ClusterClient,
        coordinator: GroupCoordinatorClient,
        assignment: Assignment,
        *,
        membership: Callable[[], ConsumerGroupMetadata],
        on_refused: Callable[[ConsumerGroupMetadata, ErrorCode], None],
        on_found: Callable[[], None],
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._coordinator = coordinator
        self._positions = assignment.positions
        self._lock = assignment.lock
        self._membership = membership
        self._on_refused = on_refused
        self._on_found = on_found
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._auto_commit: asyncio.Task[None] | None = None
        self.completed: deque[CompletedCommit] = deque()

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = [*self._tasks, *([self._looking] if self._looking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- commits --------------------------------------------------------------------------------------------------

    def consumed(self, partitions: Collection[TopicPartition] | None = None) -> dict[TopicPartition, OffsetAndMetadata]:
        """What was given to the user of all that is assigned, or of some: the offset after it, to be committed."""
        with self._lock:
            return {
                topic_partition: OffsetAndMetadata(position.position, "", position.position_epoch)
                for topic_partition, position in self._positions.items()
                if position.position is not None and (partitions is None or topic_partition in partitions)
            }

    def begin(
        self,
        offsets: Offsets,
        timeout_ms: float,
        callback: CommitCallback | None = None,
    ) -> asyncio.Task[None]:
        """Begins to commit, under the membership of this moment and after all commits begun before.

        Nobody has to await the task; its callback is handed to the user's thread. The task fails with

        :raises CommitFailedError: the consumer is no member of the current generation. :raises KafkaTimeoutError: no
            coordinator took it in time; whether it holds is not known. :raises KafkaError: it was refused.
        """
        # Not later: tasks take their turns in the order in which they are made.
        deadline_ms = self._cluster.clock.monotonic_ms() + timeout_ms
        membership: ConsumerGroupMetadata | CommitFailedError
        try:
            membership = self._membership()
        except CommitFailedError as error:
            membership = error
        task = asyncio.get_running_loop().create_task(self._commit(dict(offsets), membership, deadline_ms, callback))
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the callback and the log have it

    async def commit_or_warn(self, offsets: Offsets, timeout_ms: float) -> None:
        """Commits; a failure goes to the log alone."""
        try:
            await self.begin(offsets, timeout_ms)
        except KafkaError:
            pass  # the task has logged it

    async def settle(self, timeout_ms: float) -> None:
        """Waits so long for all commits that were begun."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=timeout_ms / 1000)

    def auto_commit(self, offsets: Offsets) -> None:
        """Begins to commit, unless the last such commit is still under way: the next one will tell more."""
        if self._auto_commit is None or self._auto_commit.done():
            self._auto_commit = self.begin(offsets, self._config.default_api_timeout_ms)

    async def _commit(
        self,
        offsets: dict[TopicPartition, OffsetAndMetadata],
        membership: ConsumerGroupMetadata | CommitFailedError,
        deadline_ms: float,
        callback: CommitCallback | None,
    ) -> None:
        error: KafkaError | None = None
        try:
            if offsets:
                await self._commit_in_turn(offsets, membership, deadline_ms)
        except KafkaError as failure:
            error = failure
            logger.warning("commit_failed group=%s error=%s", self._coordinator.group_id, failure)
            raise
        finally:
            if callback is not None:
                self.completed.append(CompletedCommit(callback, offsets, error))
                self._on_found()

    async def _commit_in_turn(
        self, offsets: Offsets, membership: ConsumerGroupMetadata | CommitFailedError, deadline_ms: float
    ) -> None:
        if isinstance(membership, CommitFailedError):
            raise membership
        member = membership
        request = _commit_request(member, offsets)
        try:
            async with asyncio.timeout(self._remaining_ms(deadline_ms) / 1000):
                await self._turn.acquire()
        except TimeoutError:
            raise KafkaTimeoutError("commit: the one before it is still under way") from None
        try:
            remaining_ms = self._remaining_ms(deadline_ms)
            await self._coordinator.retrying("commit", lambda: self._try_commit(member, request), remaining_ms)
        finally:
            self._turn.release()

    def _remaining_ms(self, deadline_ms: float) -> float:
        return max(0.0, deadline_ms - self._cluster.clock.monotonic_ms())

    async def _try_commit(self, member: ConsumerGroupMetadata, request: pb.OffsetCommitRequest) -> None:
        now = self._membership()
        if (now.generation_id, now.member_id) != (member.generation_id, member.member_id):
            raise CommitFailedError(f"commit: generation {member.generation_id} of group {member.group_id!r} is over")
        response: pb.OffsetCommitResponse = await self._coordinator.call("OffsetCommit", request)
        retriable: KafkaError | None = None
        for partition in response.partitions:
            code = ErrorCode.of(partition.error_code)
            if code is ErrorCode.NONE:
                continue
            where = f"commit: {partition.topic}-{partition.partition}: {code.message}"
            if code is ErrorCode.REBALANCE_IN_PROGRESS:
                self._on_refused(member, code)
                raise CommitDuringRebalanceError(where)
            if code in _NOT_OF_THE_GENERATION:
                self._on_refused(member, code)
                raise CommitFailedError(where)
            if code is ErrorCode.FENCED_INSTANCE_ID:
                self._on_refused(member, code)
            if not code.retriable:
                raise error_for(code, where)
            retriable = error_for(code, where)
        if retriable is not None:
            raise retriable

    # --- committed offsets ----------------------------------------------------------------------------------------

    async def fetch(
        self, partitions: Collection[TopicPartition], timeout_ms: float
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What is committed; nothing for a partition of which nothing is. :raises KafkaError: see `retrying`."""
        request = pb.OffsetFetchRequest(
            group_id=self._coordinator.group_id,
            partitions=[cmd.TopicPartitionReference(topic=topic, partition=number) for topic, number in partitions],
            require_stable=True,
        )
        return await self._coordinator.retrying("offsets", lambda: self._try_fetch(request), timeout_ms)

    async def _try_fetch(self, request: pb.OffsetFetchRequest) -> dict[TopicPartition, OffsetAndMetadata]:
        return fetched_offsets(await self._coordinator.call("OffsetFetch", request))

    def look(self) -> None:
        """Lets each partition that waits for its committed offset have it; from the event loop."""
        if self._looking is None or self._looking.done():
            waiting = self._waiting()
            if waiting:
                self._looking = asyncio.get_running_loop().create_task(self._look(waiting))
                self._looking.add_done_callback(self._look_done)

    def _look_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            if (failure := task.exception()) is not None:
                logger.error("committed_offsets_task_failed error=%r", failure, exc_info=failure)
            else:
                self.look()

    def _waiting(self) -> dict[TopicPartition, PartitionPosition]:
        with self._lock:
            return {name: position for name, position in self._positions.items() if position.awaits_committed}

    async def _look(self, waiting: dict[TopicPartition, PartitionPosition]) -> None:
        backoff = Backoff(self._cluster.random)
        found: dict[TopicPartition, OffsetAndMetadata] = {}
        failure: KafkaError | None = None
        while waiting:
            try:
                found = await self.fetch(waiting, self._config.request_timeout_ms)
                break
            except KafkaError as error:
                logger.warning("committed_offsets_unknown group=%s error=%s", self._coordinator.group_id, error)
                if not error.retriable:
                    failure = error
                    break
            await asyncio.sleep(backoff.next_ms() / 1000)
            waiting = self._waiting()
        with self._lock:
            for topic_partition, position in waiting.items():
                if position.awaits_committed:  # no seek was faster
                    self._begin(topic_partition, position, found.get(topic_partition), failure)
        self._on_found()

    def _begin(
        self,
        topic_partition: TopicPartition,
        position: PartitionPosition,
        committed: OffsetAndMetadata | None,
        failure: KafkaError | None,
    ) -> None:
        reset = _RESETS.get(self._config.auto_offset_reset)
        if committed is not None:
            position.seek(committed.offset)
            position.last_fetched_epoch = position.position_epoch = committed.leader_epoch
        elif failure is None and reset is not None:
            position.seek(None, reset=reset)
        else:
            position.seek(None)
            position.error = failure or NoOffsetForPartitionError(
                f"nothing is committed for {topic_partition} in group {self._coordinator.group_id!r}, "
                "and auto_offset_reset is 'none'"
            )


def fetched_offsets(response: pb.OffsetFetchResponse) -> dict[TopicPartition, OffsetAndMetadata]:
    """The offsets of an answer. :raises KafkaError: the first error in it."""
    if response.error_code:
        raise error_for(response.error_code)
    found = {}
    for entry in response.partitions:
        topic_partition = TopicPartition(entry.topic, entry.partition)
        if entry.error_code:
            raise error_for(entry.error_code, f"{topic_partition}: {ErrorCode.of(entry.error_code).message}")
        if entry.offset >= 0:
            epoch = entry.leader_epoch if entry.leader_epoch >= 0 else None
            found[topic_partition] = OffsetAndMetadata(entry.offset, entry.metadata, epoch)
    return found


def offsets_to_commit(offsets: Offsets) -> list[pb.OffsetToCommit]:
    """The offsets as a request has them."""
    return [
        pb.OffsetToCommit(
            topic=topic,
            partition=partition,
            offset=entry.offset,
            leader_epoch=NONE_ID if entry.leader_epoch is None else entry.leader_epoch,
            metadata=entry.metadata,
        )
        for (topic, partition), entry in offsets.items()
    ]


def _commit_request(member: ConsumerGroupMetadata, offsets: Offsets) -> pb.OffsetCommitRequest:
    return pb.OffsetCommitRequest(
        group_id=member.group_id or "",
        generation_id=NONE_ID if member.generation_id is None else member.generation_id,
        member_id=member.member_id,
        group_instance_id=member.group_instance_id or "",
        offsets=offsets_to_commit(offsets),
    )
