"""Controllers in the test's own process that answer as they are told: for what a broker makes of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from klamm.cluster.image import MetadataImage
from klamm.cluster.records import cluster_record
from klamm.proto.command_pb2 import Command, CommandResponse, RegisterBrokerResult
from klamm.proto.controller_pb2 import (
    BrokerHeartbeat,
    BrokerHeartbeatAnswer,
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    FollowMetadataRequest,
    QuorumNode,
)
from klamm.proto.controller_pb2_grpc import ControllerServicer, add_ControllerServicer_to_server
from klamm.proto.errors import ErrorCode
from klamm.proto.metadata_pb2 import (
    BrokerRegistrationChangeRecord,
    MetadataBatch,
    MetadataRecord,
    RegisterBrokerRecord,
)

CLUSTER_ID = "c" * 22


class FakeQuorum:
    """What the fake controllers share: one metadata log, one idea of who is active, and what they were asked."""

    def __init__(self, count: int = 1) -> None:
        self.records: list[MetadataRecord] = [cluster_record(CLUSTER_ID)]
        self.nodes = [FakeController(self, node_id) for node_id in range(count)]
        self.active_id: int | None = 0
        self.epoch = 1
        self.commands: list[Command] = []
        self.heartbeats: list[BrokerHeartbeat] = []
        self.follow_requests: list[FollowMetadataRequest] = []
        self.on_command: Callable[[Command], CommandResponse | ErrorCode] = lambda command: CommandResponse()
        self.on_heartbeat: Callable[[BrokerHeartbeat], BrokerHeartbeatAnswer | None] = lambda _: BrokerHeartbeatAnswer()
        self.snapshot_below = 0  # offsets below get a snapshot
        self.batches: Callable[[int], Sequence[MetadataBatch]] | None = None
        self.changed = asyncio.Event()

    async def __aenter__(self) -> FakeQuorum:
        for node in self.nodes:
            await node.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.kill()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", node.port) for node in self.nodes]

    def elect(self, node_id: int | None) -> None:
        """Makes another node the active one."""
        self.active_id = node_id
        self.epoch += 1
        self._wake()

    def commit(self, *records: MetadataRecord) -> int:
        """Appends records; the end offset after them."""
        self.records.extend(records)
        self._wake()
        return len(self.records)

    def image(self) -> MetadataImage:
        return MetadataImage.empty().replay(self.records, len(self.records))

    def register(self, command: Command) -> CommandResponse:
        """An `on_command` that registers brokers as asked, fenced."""
        register = command.register_broker
        epoch = len(self.records)
        record = RegisterBrokerRecord(
            broker_id=register.broker_id, incarnation_id=register.incarnation_id, broker_epoch=epoch, fenced=True
        )
        self.commit(MetadataRecord(register_broker=record))
        return CommandResponse(register_broker=RegisterBrokerResult(broker_epoch=epoch, cluster_id=CLUSTER_ID))

    def unfence_caught_up(self, heartbeat: BrokerHeartbeat) -> BrokerHeartbeatAnswer:
        """An `on_heartbeat` that unfences who has caught up and does not want to be fenced."""
        broker = self.image().brokers.get(heartbeat.broker_id)  # type: ignore[call-overload]
        if broker is None or broker.broker_epoch != heartbeat.broker_epoch:
            return BrokerHeartbeatAnswer(error_code=ErrorCode.STALE_BROKER_EPOCH)
        caught_up = heartbeat.metadata_end_offset > heartbeat.broker_epoch
        if broker.fenced and caught_up and not heartbeat.want_fence:
            change = BrokerRegistrationChangeRecord(broker_id=broker.broker_id, broker_epoch=broker.broker_epoch)
            self.commit(MetadataRecord(broker_registration_change=change))
        return BrokerHeartbeatAnswer(is_fenced=broker.fenced, is_caught_up=caught_up)

    def _wake(self) -> None:
        self.changed.set()
        self.changed.clear()


class FakeController(ControllerServicer):
    """One node."""

    def __init__(self, quorum: FakeQuorum, node_id: int) -> None:
        self.quorum = quorum
        self.node_id = node_id
        self.port = 0
        self.hung = False
        self.hanging = 0  # calls that wait for it to go on
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        add_ControllerServicer_to_server(self, self._server)
        await self._server.start()

    async def kill(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    @property
    def is_active(self) -> bool:
        return self.quorum.active_id == self.node_id

    async def _hang(self) -> None:
        self.hanging += 1
        try:
            while self.hung:
                await self.quorum.changed.wait()
        finally:
            self.hanging -= 1

    async def Submit(self, request: Command, context: Any) -> CommandResponse:
        await self._hang()
        if not self.is_active:
            hint = -1 if self.quorum.active_id is None else self.quorum.active_id
            return CommandResponse(error_code=ErrorCode.NOT_CONTROLLER, active_controller_id=hint)
        self.quorum.commands.append(request)
        answer = self.quorum.on_command(request)
        return CommandResponse(error_code=answer) if isinstance(answer, ErrorCode) else answer

    async def BrokerSession(
        self, request_iterator: AsyncIterator[BrokerHeartbeat], context: Any
    ) -> AsyncIterator[BrokerHeartbeatAnswer]:
        async for heartbeat in request_iterator:
            await self._hang()
            if not self.is_active:
                yield BrokerHeartbeatAnswer(error_code=ErrorCode.NOT_CONTROLLER)
                return
            self.quorum.heartbeats.append(heartbeat)
            answer = self.quorum.on_heartbeat(heartbeat)
            if answer is not None:
                yield answer

    async def FollowMetadata(self, request: FollowMetadataRequest, context: Any) -> AsyncIterator[MetadataBatch]:
        self.quorum.follow_requests.append(request)
        if request.cluster_id not in ("", CLUSTER_ID):
            number = str(int(ErrorCode.INCONSISTENT_CLUSTER_ID))
            context.set_trailing_metadata((("klamm-error-code", number),))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another cluster")
        if self.quorum.batches is not None:
            for batch in self.quorum.batches(request.next_offset):
                yield batch
        next_offset = request.next_offset
        if next_offset < self.quorum.snapshot_below:
            image = self.quorum.image()
            for record in image.to_records():
                yield MetadataBatch(is_snapshot=True, end_offset=image.end_offset, records=[record])
            yield MetadataBatch(is_snapshot=True, end_offset=image.end_offset, last_of_snapshot=True)
            next_offset = image.end_offset
        while True:
            await self._hang()
            records = self.quorum.records[next_offset:]
            if records:
                end_offset = next_offset + len(records)
                yield MetadataBatch(base_offset=next_offset, end_offset=end_offset, records=records)
                next_offset = end_offset
            else:
                await self.quorum.changed.wait()

    async def DescribeQuorum(self, request: DescribeQuorumRequest, context: Any) -> DescribeQuorumResponse:
        await self._hang()
        return DescribeQuorumResponse(
            controller_id=self.node_id,
            active_controller_id=-1 if self.quorum.active_id is None else self.quorum.active_id,
            controller_epoch=self.quorum.epoch,
            ready=True,
            nodes=[
                QuorumNode(controller_id=node.node_id, host="127.0.0.1", port=node.port) for node in self.quorum.nodes
            ],
        )


async def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
    """Waits, on the loop, for a condition."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition is the test's own
            await asyncio.sleep(0.002)
