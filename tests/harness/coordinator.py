"""A group coordinator on a virtual loop, over a modelled log; and requests, filled in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from harness.replicated_group_log import ReplicatedGroupLog
from harness.virtual_loop import VirtualClock, VirtualLoop
from klamm.broker.groups.coordinator import GroupCoordinator
from klamm.broker.groups.group_config import GroupConfig
from klamm.broker.groups.group_request import (
    NO_GENERATION,
    HeartbeatRequest,
    JoinAnswer,
    JoinRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    OffsetToCommit,
    SyncRequest,
)
from klamm.cluster.image import MetadataImage
from klamm.proto.command_pb2 import Command, CommandResponse, CreatedTopic, CreateTopicsResult
from klamm.proto.consumer_protocol import ConsumerProtocolSubscription
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId, Offset, TopicId


def commit_request(
    group_id: str,
    offsets: Mapping[tuple[str, int], int],
    *,
    generation: int = NO_GENERATION,
    member_id: str = "",
    metadata: str = "m",
    expire_timestamp_ms: int | None = None,
    understands_member_epochs: bool = False,
) -> OffsetCommitRequest:
    return OffsetCommitRequest(
        group_id,
        generation,
        member_id,
        None,
        tuple(
            OffsetToCommit(*partition, Offset(offset), None, metadata, expire_timestamp_ms=expire_timestamp_ms)
            for partition, offset in offsets.items()
        ),
        understands_member_epochs=understands_member_epochs,
    )


def fetch_request(group_id: str, *partitions: tuple[str, int], require_stable: bool = False) -> OffsetFetchRequest:
    return OffsetFetchRequest(group_id, partitions, require_stable)


def join_request(
    group_id: str, member_id: str = "", *, topics: tuple[str, ...] = ("t",), session_timeout_ms: int = 10_000
) -> JoinRequest:
    subscription = ConsumerProtocolSubscription(topics=topics).encode()
    return JoinRequest(
        group_id=group_id,
        member_id=member_id,
        group_instance_id=None,
        client_id="client",
        client_host="/127.0.0.1",
        protocol_type="consumer",
        protocols=(("range", subscription),),
        session_timeout_ms=session_timeout_ms,
        rebalance_timeout_ms=10_000,
        require_known_member_id=False,
        supports_skipping_assignment=False,
    )


class CoordinatorUnderTest:
    """Broker 1's; as a context it has a log of one partition and leads it."""

    def __init__(
        self,
        loop: VirtualLoop,
        *,
        brokers: tuple[int, ...] = (1,),
        config: GroupConfig | None = None,
        topics: dict[str, int] | None = None,
        log: ReplicatedGroupLog | None = None,
        broker: int = 1,
    ) -> None:
        self.clock = VirtualClock(loop)
        self.log = log or ReplicatedGroupLog(brokers)
        self.broker = broker
        self.topics = topics
        self.image = MetadataImage.empty()
        self.commands: list[Command] = []
        self.create_error = ErrorCode.NONE
        self.failures: list[Exception] = []
        self.coordinator = GroupCoordinator(
            broker_id=BrokerId(broker),
            config=config or GroupConfig(),
            logs=self.log.logs(broker),
            submit=self._submit,
            clock=self.clock,
            on_fatal=self.failures.append,
        )

    async def _submit(self, command: Command, timeout_ms: int) -> CommandResponse:
        self.commands.append(command)
        await asyncio.sleep(0.01)
        if self.create_error is ErrorCode.NONE:
            await self.metadata()
        return CommandResponse(create_topics=CreateTopicsResult(topics=[CreatedTopic(error_code=self.create_error)]))

    async def __aenter__(self) -> Self:
        await self.coordinator.start()
        await self.metadata()
        await self.loaded()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.coordinator.shutdown()
        assert self.failures == []

    async def metadata(self, topics: dict[str, int] | None = None, topic_ids: dict[str, TopicId] | None = None) -> None:
        """The broker hears of what there is now, replicas first."""
        self.topics = self.topics if topics is None else topics
        old, self.image = self.image, self.log.image(self.topics, topic_ids)
        self.coordinator.resign(self.image)
        self.log.tell(self.broker)
        await self.coordinator.on_metadata(old, self.image)

    async def loaded(self) -> None:
        """Until the coordinator serves."""
        for _ in range(1_000):
            error = (await self.coordinator.fetch_offsets(OffsetFetchRequest("", None))).error
            if error is not ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the coordinator does not load")

    async def failover(self, topics: dict[str, int] | None = None) -> None:
        """The leadership begins anew, on this broker: everything is read from the log."""
        self.log.elect(self.broker)
        await self.metadata(topics)
        if self.log.auto:
            self.log.replicate()
        await self.loaded()

    async def joined(
        self, group_id: str, *, topics: tuple[str, ...] = ("t",), session_timeout_ms: int = 10_000
    ) -> tuple[str, int]:
        """A member alone in its group, with its assignment; its id and the generation."""
        request = join_request(group_id, topics=topics, session_timeout_ms=session_timeout_ms)
        joined: JoinAnswer = await self.coordinator.join(request)
        assert joined.error is ErrorCode.NONE
        synced = await self.coordinator.sync(sync_request(group_id, joined))
        assert synced.error is ErrorCode.NONE
        return joined.member_id, joined.generation_id

    def heartbeat(self, group_id: str, member_id: str, generation: int) -> ErrorCode:
        return self.coordinator.heartbeat(HeartbeatRequest(group_id, generation, member_id, None))


def sync_request(group_id: str, joined: JoinAnswer, **changes: Any) -> SyncRequest:
    """The leader's, with one byte for each member; a follower's has none."""
    assignments = {member.member_id: b"a" for member in joined.members}
    return SyncRequest(
        group_id=group_id,
        generation_id=joined.generation_id,
        member_id=joined.member_id,
        group_instance_id=None,
        protocol_type="consumer",
        protocol_name="range",
        assignments=assignments,
        **changes,
    )
