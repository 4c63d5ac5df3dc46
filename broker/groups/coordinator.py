"""The group coordinator of one broker: a shard for each partition of __consumer_offsets that the broker leads.

It finds the shard that a request belongs to, follows the metadata (who leads what, which topics there are), and asks
all shards where a request is about all groups. The rules of groups and offsets are in the shards (`shard.py`,
`shard_offsets.py`), those of one group in `classic_group.py` and `consumer_group.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from ...cluster.clock import Clock
from ...cluster.image import MetadataImage, TopicImage
from ...proto.errors import ErrorCode
from ...proto.identifiers import BrokerId, LeaderEpoch, TopicId, TopicPartition
from ..deadline_timer import DeadlineTimer
from .group_config import GroupConfig
from .group_factory import GroupFactory
from .group_listing import ask_each, describe_consumer_group, describe_group, list_shard
from .group_log import GroupLog
from .group_request import (
    ConsumerGroupHeartbeatAnswer,
    ConsumerGroupHeartbeatRequest,
    DescribedConsumerGroup,
    DescribedGroup,
    HeartbeatRequest,
    JoinAnswer,
    JoinRequest,
    LeaveAnswer,
    LeaveRequest,
    ListedGroup,
    OffsetCommitAnswer,
    OffsetCommitRequest,
    OffsetDeleteAnswer,
    OffsetFetchAnswer,
    OffsetFetchRequest,
    OffsetToCommit,
    SyncAnswer,
    SyncRequest,
)
from .offsets_topic import OFFSETS_TOPIC, OffsetsTopic, Submit
from .shard import GroupEntry, GroupShard, ShardContext
from .shard_loader import load
from .shard_offsets import ShardOffsets
from .topics_view import ImageTopics

logger = logging.getLogger(__name__)

TEXT_BYTES_MAX: Final = 2**15 - 1
"""Of ids and names: they are written down with a 16-bit length."""


class GroupLogs(Protocol):
    """Where the logs come from; the replica manager's are `ReplicaGroupLogs`."""

    def open(self, topic_id: TopicId, partition: int, leader_epoch: LeaderEpoch) -> GroupLog: ...

    def close(self) -> None: ...


class GroupCoordinator:
    """Lives on the broker's event loop. `start` before the first metadata, `shutdown` after the last request."""

    def __init__(
        self,
        *,
        broker_id: BrokerId,
        config: GroupConfig,
        logs: GroupLogs,
        submit: Submit,
        clock: Clock,
        on_fatal: Callable[[Exception], None],
    ) -> None:
        """`on_fatal` is called when an invariant broke: the process must end."""
        self._broker_id = broker_id
        self._config = config
        self._logs = logs
        self._on_fatal = on_fatal
        self._image = MetadataImage.empty()
        self._topic = OffsetsTopic(config, lambda: self._image, submit)
        self._shards: dict[int, GroupShard] = {}
        self._loads: dict[GroupShard, asyncio.Task[None]] = {}
        self._expiry: asyncio.Task[None] | None = None
        self._timer: DeadlineTimer[GroupEntry] = DeadlineTimer(clock, self._tick)
        self._context = ShardContext(
            config=config,
            clock=clock,
            factory=GroupFactory(config, clock, ImageTopics(self._image)),
            timer=self._timer,
            guard=self._guard,
        )
        self._down = False

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # outermost: the event loop would log it and go on
            logger.critical("group_coordinator_failed broker=%d", self._broker_id, exc_info=error)
            self._on_fatal(error)

    def _tick(self, entry: GroupEntry) -> None:
        self._guard(lambda: entry.shard.tick(entry))

    # --- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins the work in the background."""
        self._expiry = asyncio.create_task(self._expire(), name="offsets-expiry")
        self._expiry.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            logger.critical("group_coordinator_failed broker=%d", self._broker_id, exc_info=error)
            self._on_fatal(error)

    async def shutdown(self) -> None:
        """Coordinates nothing any more; whoever waits is told NOT_COORDINATOR."""
        self._down = True
        tasks = [*self._loads.values(), *([self._expiry] if self._expiry is not None else [])]
        for number in tuple(self._shards):
            self._close(number)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._topic.close()
        self._timer.close()
        self._logs.close()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(self._config.offsets_retention_check_interval_ms / 1000)
            for shard in tuple(self._shards.values()):
                await ShardOffsets(shard).expire()

    # --- metadata --------------------------------------------------------------------------------------------

    def resign(self, new: MetadataImage) -> None:
        """Gives up at once what another broker, or another epoch of this one, coordinates according to `new`."""
        topic = new.topics.get(OFFSETS_TOPIC)
        for number, shard in tuple(self._shards.items()):
            if not self._leads(topic, number, shard):
                self._close(number)

    def _leads(self, topic: TopicImage | None, number: int, shard: GroupShard) -> bool:
        if topic is None or topic.topic_id != shard.topic_id or number >= len(topic.partitions):
            return False
        partition = topic.partitions[number]
        return partition.leader == self._broker_id and partition.leader_epoch == shard.log.leader_epoch

    def _close(self, number: int) -> None:
        shard = self._shards.pop(number)
        logger.info(
            "groups_unloaded partition=%s epoch=%d groups=%d waiting=%d",
            shard,
            shard.log.leader_epoch,
            len(shard.entries),
            len(shard.waiters),
        )
        shard.close()
        task = self._loads.pop(shard, None)
        if task is not None:
            task.cancel()

    async def on_metadata(self, old: MetadataImage, new: MetadataImage) -> None:
        """Takes up what changed; to be called after the replica manager did. Loading goes on in the background."""
        self._image = new
        if self._down:
            return
        self.resign(new)
        if old.topics is new.topics:
            return
        self._context.factory.topics = ImageTopics(new)
        deleted = {topic.name for topic in old.topics.values() if topic.topic_id not in new.topic_names}
        for shard in self._shards.values():
            if shard.check() is ErrorCode.NONE:
                shard.topics_changed()
                if deleted:
                    ShardOffsets(shard).topics_deleted(deleted)
        topic = new.topics.get(OFFSETS_TOPIC)
        if topic is not None:
            self._open(topic)

    def _open(self, topic: TopicImage) -> None:
        for partition in topic.partitions:
            number = partition.partition
            if partition.leader != self._broker_id or number in self._shards:
                continue
            log = self._logs.open(topic.topic_id, number, partition.leader_epoch)
            shard = self._shards[number] = GroupShard(log, topic.topic_id, self._context)
            task = asyncio.create_task(load(shard, lambda: self._image.topics), name=f"load-{shard}")
            self._loads[shard] = task
            task.add_done_callback(self._ended)
            task.add_done_callback(lambda _, shard=shard: self._loads.pop(shard, None))  # type: ignore[misc]

    # --- whose group it is -----------------------------------------------------------------------------------

    async def find(self, group_id: str) -> BrokerId | ErrorCode:
        """The broker that coordinates the group.

        Creates __consumer_offsets when it is missing; COORDINATOR_NOT_AVAILABLE while the partition has no leader.
        """
        error = await self._topic.ensure()
        if error is not ErrorCode.NONE:
            return error
        topic, number = self._topic.get(), self._topic.partition_of(group_id)
        if topic is None or number is None:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        leader = topic.partitions[number].leader
        return ErrorCode.COORDINATOR_NOT_AVAILABLE if leader is None else leader

    def _shard(self, group_id: str) -> GroupShard | ErrorCode:
        """The shard of the group, if it serves; or what is to be answered."""
        if self._down:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        number = self._topic.partition_of(group_id)
        if number is None:
            return ErrorCode.NOT_COORDINATOR
        shard = self._shards.get(number)
        if shard is None:
            return ErrorCode.NOT_COORDINATOR
        error = shard.check()
        return shard if error is ErrorCode.NONE else error

    # --- the classic protocol --------------------------------------------------------------------------------

    async def join(self, request: JoinRequest) -> JoinAnswer:
        error = self._complaint_about_join(request)
        if error is not ErrorCode.NONE:
            return JoinAnswer(error, member_id=request.member_id)
        shard = self._shard(request.group_id)
        if isinstance(shard, ErrorCode):
            return JoinAnswer(shard, member_id=request.member_id)
        return await shard.join(request)

    def _complaint_about_join(self, request: JoinRequest) -> ErrorCode:
        if not _is_group_id(request.group_id):
            return ErrorCode.INVALID_GROUP_ID
        if not self._config.min_session_timeout_ms <= request.session_timeout_ms <= self._config.max_session_timeout_ms:
            return ErrorCode.INVALID_SESSION_TIMEOUT
        texts = (
            request.member_id,
            request.group_instance_id or "",
            # A member id is one of these and a unique part.
            request.client_id + " " * 40,
            request.client_host,
            request.protocol_type,
            *(name for name, _ in request.protocols),
        )
        return ErrorCode.NONE if all(map(_fits, texts)) else ErrorCode.INVALID_REQUEST

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        if not _is_group_id(request.group_id):
            return SyncAnswer(ErrorCode.INVALID_GROUP_ID)
        shard = self._shard(request.group_id)
        return SyncAnswer(shard) if isinstance(shard, ErrorCode) else await shard.sync(request)

    def heartbeat(self, request: HeartbeatRequest) -> ErrorCode:
        if not _is_group_id(request.group_id):
            return ErrorCode.INVALID_GROUP_ID
        shard = self._shard(request.group_id)
        if isinstance(shard, ErrorCode):
            # While the group is loaded its members are taken for alive, as in Kafka: they need not find out more.
            return ErrorCode.NONE if shard is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS else shard
        return shard.heartbeat(request)

    async def leave(self, request: LeaveRequest) -> LeaveAnswer:
        if not _is_group_id(request.group_id):
            return LeaveAnswer(ErrorCode.INVALID_GROUP_ID)
        shard = self._shard(request.group_id)
        return LeaveAnswer(shard) if isinstance(shard, ErrorCode) else await shard.leave(request)

    # --- offsets ---------------------------------------------------------------------------------------------

    async def commit_offsets(self, request: OffsetCommitRequest) -> OffsetCommitAnswer:
        """The empty group id is allowed, as it has always been."""
        unknown = self._unknown([(offset.topic, offset.partition) for offset in request.offsets])
        known = tuple(offset for offset, error in zip(request.offsets, unknown, strict=True) if not error)
        if not known:
            return OffsetCommitAnswer(tuple(unknown))
        answer = await self._commit(
            request if len(known) == len(request.offsets) else _with_offsets(request, known), len(known)
        )
        errors = iter(answer.errors)
        return OffsetCommitAnswer(tuple(error or next(errors) for error in unknown))

    async def _commit(self, request: OffsetCommitRequest, count: int) -> OffsetCommitAnswer:
        if not _fits(request.group_id):
            return OffsetCommitAnswer((ErrorCode.INVALID_GROUP_ID,) * count)
        shard = self._shard(request.group_id)
        if isinstance(shard, ErrorCode):
            return OffsetCommitAnswer((shard,) * count)
        return await ShardOffsets(shard).commit(request)

    def _unknown(self, partitions: Sequence[tuple[str, int]]) -> list[ErrorCode]:
        """UNKNOWN_TOPIC_OR_PARTITION for each that there is not."""
        topics = self._image.topics
        errors = []
        for name, number in partitions:
            topic = topics.get(name)
            known = topic is not None and 0 <= number < len(topic.partitions)
            errors.append(ErrorCode.NONE if known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return errors

    async def fetch_offsets(self, request: OffsetFetchRequest) -> OffsetFetchAnswer:
        """What is told holds for the moment of the question: a deposed coordinator would go back behind what its
        successor has acked (rule 21)."""
        shard = self._shard(request.group_id)
        if isinstance(shard, ErrorCode):
            return OffsetFetchAnswer(shard)
        if not await shard.log.still_leads() or self._shard(request.group_id) is not shard:
            return OffsetFetchAnswer(ErrorCode.NOT_COORDINATOR)
        return await ShardOffsets(shard).fetch(request)

    async def delete_offsets(self, group_id: str, partitions: Sequence[tuple[str, int]]) -> OffsetDeleteAnswer:
        if not _is_group_id(group_id):
            return OffsetDeleteAnswer(ErrorCode.INVALID_GROUP_ID)
        shard = self._shard(group_id)
        if isinstance(shard, ErrorCode):
            return OffsetDeleteAnswer(shard)
        unknown = self._unknown(partitions)
        known = [TopicPartition(*each) for each, error in zip(partitions, unknown, strict=True) if not error]
        answer = await ShardOffsets(shard).delete(group_id, known)
        if answer.error is not ErrorCode.NONE:
            return answer
        errors = iter(answer.errors)
        return OffsetDeleteAnswer(ErrorCode.NONE, tuple(error or next(errors) for error in unknown))

    # --- lists, descriptions, deletion -----------------------------------------------------------------------

    async def list_groups(self, states: Collection[str], types: Collection[str]) -> tuple[ErrorCode, list[ListedGroup]]:
        """All groups that this broker coordinates, in one of the states and of one of the types; none named: any.

        COORDINATOR_LOAD_IN_PROGRESS while some of them are loaded.
        """
        if self._down:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE, []
        wanted_states = {state.lower() for state in states}
        wanted_types = {kind.lower() for kind in types}
        answers = await ask_each(
            tuple(self._shards.values()), lambda shard: list_shard(shard, wanted_states, wanted_types)
        )
        groups: list[ListedGroup] = []
        for error, listed in answers:
            if error not in (ErrorCode.NONE, ErrorCode.NOT_COORDINATOR):
                return error, []
            groups.extend(listed)
        return ErrorCode.NONE, groups

    async def describe_groups(self, group_ids: Sequence[str]) -> list[DescribedGroup]:
        async def describe(group_id: str) -> DescribedGroup:
            shard = self._shard(group_id)
            if isinstance(shard, ErrorCode):
                return DescribedGroup(group_id, shard)
            return await describe_group(shard, group_id)

        return await ask_each(group_ids, describe)

    async def consumer_group_describe(self, group_ids: Sequence[str]) -> list[DescribedConsumerGroup]:
        async def describe(group_id: str) -> DescribedConsumerGroup:
            shard = self._shard(group_id) if _is_group_id(group_id) else ErrorCode.INVALID_GROUP_ID
            if isinstance(shard, ErrorCode):
                return DescribedConsumerGroup(group_id, shard)
            return await describe_consumer_group(shard, group_id)

        return await ask_each(group_ids, describe)

    async def delete_groups(self, group_ids: Sequence[str]) -> list[ErrorCode]:
        async def delete(group_id: str) -> ErrorCode:
            shard = self._shard(group_id)
            return shard if isinstance(shard, ErrorCode) else await ShardOffsets(shard).delete_group(group_id)

        return await ask_each(group_ids, delete)

    # --- KIP-848 ---------------------------------------------------------------------------------------------

    async def consumer_group_heartbeat(self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatAnswer:
        if not _is_group_id(request.group_id):
            return ConsumerGroupHeartbeatAnswer(ErrorCode.INVALID_REQUEST, "GroupId can't be empty.")
        shard = self._shard(request.group_id)
        if isinstance(shard, ErrorCode):
            return ConsumerGroupHeartbeatAnswer(shard, shard.message)
        return await shard.consumer_group_heartbeat(request)


def _fits(text: str) -> bool:
    # Most texts are short: a character takes four bytes at most.
    return len(text) * 4 <= TEXT_BYTES_MAX or len(text.encode("utf-8", "surrogatepass")) <= TEXT_BYTES_MAX


def _is_group_id(group_id: str) -> bool:
    return bool(group_id) and _fits(group_id)


def _with_offsets(request: OffsetCommitRequest, offsets: tuple[OffsetToCommit, ...]) -> OffsetCommitRequest:
    return replace(request, offsets=offsets)
