"""The gRPC service `Controller`: a thin door to the active controller, the sessions and the metadata log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, Protocol

import grpc
import grpc.aio

from ..cluster.node_config import Address
from ..proto.command_pb2 import Command, CommandResponse
from ..proto.controller_pb2 import (
    BrokerHeartbeat,
    BrokerHeartbeatAnswer,
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    FollowMetadataRequest,
    QuorumNode,
)
from ..proto.controller_pb2_grpc import ControllerServicer
from ..proto.errors import ErrorCode
from ..proto.identifiers import NONE_ID, NodeId
from ..proto.metadata_pb2 import MetadataBatch
from .active_controller import PROPOSE_TIMEOUT_MS, ActiveController
from .metadata_log import snapshot_batches
from .raft_contract import RaftRole
from .session_driver import SessionDriver
from .state_machine import MetadataStateMachine

logger = logging.getLogger(__name__)

ERROR_CODE_KEY: Final = "klamm-error-code"
"""Trailing metadata: the number of the error that ended a call."""
# Answered a little before the caller gives up, so that it learns why.
_ANSWER_MARGIN_MS: Final = 50

Context = grpc.aio.ServicerContext


class QuorumView(Protocol):
    """What this needs of `RaftNode` to describe the quorum."""

    @property
    def role(self) -> RaftRole: ...

    @property
    def term(self) -> int: ...

    @property
    def commit_index(self) -> int: ...

    @property
    def last_index(self) -> int: ...

    @property
    def is_voter(self) -> bool: ...

    def lag_of(self, node_id: NodeId) -> int | None: ...

    def is_reachable(self, node_id: NodeId) -> bool: ...


class ControllerService(ControllerServicer):
    """Lives on one event loop. Any controller follows and describes; only the active one submits and holds sessions."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        voters: Callable[[], Mapping[NodeId, Address]],
        raft: QuorumView,
        machine: MetadataStateMachine,
        controller: ActiveController,
        sessions: SessionDriver,
    ) -> None:
        self._node_id = node_id
        self._voters = voters
        self._raft = raft
        self._machine = machine
        self._controller = controller
        self._sessions = sessions
        self._closed = False

    def close(self) -> None:
        """Ends the metadata streams, which would go on for ever."""
        self._closed = True
        self._machine.log.wake()

    async def Submit(self, request: Command, context: Context[Command, CommandResponse]) -> CommandResponse:
        """Carries out one command, or says who is active."""
        remaining_s = context.time_remaining()
        timeout_ms = PROPOSE_TIMEOUT_MS if remaining_s is None else int(remaining_s * 1000) - _ANSWER_MARGIN_MS
        return await self._controller.submit(request, timeout_ms=timeout_ms)

    async def BrokerSession(
        self,
        request_iterator: AsyncIterator[BrokerHeartbeat],
        context: Context[BrokerHeartbeat, BrokerHeartbeatAnswer],
    ) -> AsyncIterator[BrokerHeartbeatAnswer]:
        """Heartbeats in, answers out. Ends when this controller is not, or no longer, active."""
        stream = self._sessions.open()
        reader = asyncio.create_task(self._sessions.read(stream, request_iterator))
        try:
            while (answer := await stream.next_answer()) is not None:
                yield answer
        finally:
            reader.cancel()
            self._sessions.closed(stream)
            await asyncio.wait({reader})
            if not reader.cancelled() and (error := reader.exception()) is not None:
                logger.info("broker_stream_failed error=%r", error)

    async def FollowMetadata(
        self, request: FollowMetadataRequest, context: Context[FollowMetadataRequest, MetadataBatch]
    ) -> AsyncIterator[MetadataBatch]:
        """Committed records from an offset on; a snapshot first where they are no longer kept."""
        log = self._machine.log
        while self._machine.image.cluster_id is None and not self._closed:
            await log.wait_for_change()
        cluster_id = self._machine.image.cluster_id
        if request.cluster_id and request.cluster_id != cluster_id:
            message = (
                f"broker {request.broker_id} belongs to cluster {request.cluster_id}, this is cluster {cluster_id}"
            )
            logger.warning("metadata_follower_refused broker=%d error=%s", request.broker_id, message)
            context.set_trailing_metadata(((ERROR_CODE_KEY, str(int(ErrorCode.INCONSISTENT_CLUSTER_ID))),))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, message)
        next_offset = request.next_offset
        if next_offset < 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"next_offset {next_offset} is below 0")
        while not self._closed:
            if next_offset < log.start_offset:
                image = self._machine.image  # immutable: whatever is committed meanwhile comes after it
                for batch in snapshot_batches(image):
                    yield batch
                next_offset = image.end_offset
            elif (records := log.read(next_offset)) is None:
                # Also where the broker is ahead of this controller, which will get there.
                await log.wait_for_change()
            else:
                yield records
                next_offset = records.end_offset

    async def DescribeQuorum(
        self, request: DescribeQuorumRequest, context: Context[DescribeQuorumRequest, DescribeQuorumResponse]
    ) -> DescribeQuorumResponse:
        """Who leads and how far everyone is, as this controller knows it."""
        image = self._machine.image
        active_id = self._controller.active_id
        return DescribeQuorumResponse(
            controller_id=self._node_id,
            active_controller_id=NONE_ID if active_id is None else active_id,
            controller_epoch=self._raft.term,
            commit_index=self._raft.commit_index,
            metadata_end_offset=image.end_offset,
            cluster_id=image.cluster_id or "",
            nodes=[self._node(node_id, address, active_id) for node_id, address in self._voters().items()],
            ready=self._controller.is_active or (active_id is not None and active_id != self._node_id),
            voter=self._raft.is_voter,
        )

    def _node(self, node_id: NodeId, address: Address, active_id: NodeId | None) -> QuorumNode:
        leads = self._raft.role is RaftRole.LEADER
        log_end_index, lag = NONE_ID, NONE_ID
        if node_id == self._node_id:
            log_end_index = self._raft.last_index
            if leads:
                lag = 0
        elif leads:
            known = self._raft.lag_of(node_id)
            if known is not None:
                log_end_index, lag = self._raft.last_index - known, known
        return QuorumNode(
            controller_id=node_id,
            host=address.host,
            port=address.port,
            reachable=node_id == self._node_id or self._raft.is_reachable(node_id),
            log_end_index=log_end_index,
            lag=lag,
            is_leader=node_id == active_id,
        )
