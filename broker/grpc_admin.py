"""The administrative half of service Broker: commands passed on to the active controller, or answers from the image.

A change is answered only when this broker has replayed it, so that who asks this broker next sees it.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from ..cluster.image import MetadataImage
from ..proto import broker_pb2, broker_pb2_grpc
from ..proto.command_pb2 import (
    Command,
    CommandResponse,
    CreatableTopic,
    CreateTopicsCommand,
    UnregisterBrokerCommand,
)
from ..proto.controller_pb2 import DescribeQuorumResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import NONE_ID, BrokerId
from .config_description import ConfigDescriber
from .description import describe_broker, list_reassignments
from .grpc_errors import Context, abort

TIMEOUT_MS_DEFAULT: Final = 30_000
TIMEOUT_MS_MAX: Final = 300_000
AUTO_CREATE_TIMEOUT_MS: Final = 5_000


class ControllerChannel(Protocol):
    """What this door needs of the way to the controllers (`controller_client.ControllerClient`)."""

    async def submit(self, command: Command, *, timeout_ms: int) -> CommandResponse: ...

    async def describe_quorum(self) -> DescribeQuorumResponse | None: ...


@dataclass(frozen=True)
class AdminRooms:
    """What the administrative calls stand on."""

    broker_id: BrokerId
    controller: ControllerChannel
    image: Callable[[], MetadataImage]
    wait_for_metadata: Callable[[int, int], Awaitable[bool]]  # end offset, time-out in ms -> seen in time
    configs: ConfigDescriber
    auto_create_topics: bool


class AdminCalls(broker_pb2_grpc.BrokerServicer):
    """Mixed into `grpc_service.BrokerService`."""

    def __init__(self, rooms: AdminRooms) -> None:
        self._rooms = rooms

    def _image(self) -> MetadataImage:
        return self._rooms.image()

    async def _submit(self, command: Command, timeout_ms: int, context: Context) -> CommandResponse:
        """Carries out one command, once however often it is retried; a failure as a whole ends the call."""
        timeout_ms = min(timeout_ms, TIMEOUT_MS_MAX) if timeout_ms > 0 else TIMEOUT_MS_DEFAULT
        command.request_id = uuid.uuid4().bytes
        response = await self._rooms.controller.submit(command, timeout_ms=timeout_ms)
        if response.error_code:
            await abort(context, ErrorCode.of(response.error_code), response.error_message)
        await self._rooms.wait_for_metadata(response.metadata_end_offset, timeout_ms)
        return response

    async def _create_missing(self, names: Iterable[str]) -> None:
        """Automatic topic creation on first use; a name that cannot be created stays unknown in the answer."""
        image = self._image()
        missing = [name for name in names if name not in image.topics]
        if not missing or not self._rooms.auto_create_topics:
            return
        topics = [CreatableTopic(name=name, num_partitions=NONE_ID, replication_factor=NONE_ID) for name in missing]
        command = Command(request_id=uuid.uuid4().bytes, create_topics=CreateTopicsCommand(topics=topics))
        response = await self._rooms.controller.submit(command, timeout_ms=AUTO_CREATE_TIMEOUT_MS)
        if response.error_code == 0:
            await self._rooms.wait_for_metadata(response.metadata_end_offset, AUTO_CREATE_TIMEOUT_MS)

    # --- passed on -------------------------------------------------------------------------------------------

    async def CreateTopics(
        self, request: broker_pb2.CreateTopicsRequest, context: Context
    ) -> broker_pb2.CreateTopicsResponse:
        response = await self._submit(Command(create_topics=request.command), request.timeout_ms, context)
        return broker_pb2.CreateTopicsResponse(result=response.create_topics)

    async def DeleteTopics(
        self, request: broker_pb2.DeleteTopicsRequest, context: Context
    ) -> broker_pb2.DeleteTopicsResponse:
        response = await self._submit(Command(delete_topics=request.command), request.timeout_ms, context)
        return broker_pb2.DeleteTopicsResponse(result=response.delete_topics)

    async def CreatePartitions(
        self, request: broker_pb2.CreatePartitionsRequest, context: Context
    ) -> broker_pb2.CreatePartitionsResponse:
        response = await self._submit(Command(create_partitions=request.command), request.timeout_ms, context)
        return broker_pb2.CreatePartitionsResponse(result=response.create_partitions)

    async def IncrementalAlterConfigs(
        self, request: broker_pb2.IncrementalAlterConfigsRequest, context: Context
    ) -> broker_pb2.IncrementalAlterConfigsResponse:
        response = await self._submit(Command(incremental_alter_configs=request.command), request.timeout_ms, context)
        return broker_pb2.IncrementalAlterConfigsResponse(result=response.incremental_alter_configs)

    async def ElectLeaders(
        self, request: broker_pb2.ElectLeadersRequest, context: Context
    ) -> broker_pb2.ElectLeadersResponse:
        response = await self._submit(Command(elect_leaders=request.command), request.timeout_ms, context)
        return broker_pb2.ElectLeadersResponse(result=response.elect_leaders)

    async def AlterPartitionReassignments(
        self, request: broker_pb2.AlterPartitionReassignmentsRequest, context: Context
    ) -> broker_pb2.AlterPartitionReassignmentsResponse:
        command = Command(alter_partition_reassignments=request.command)
        response = await self._submit(command, request.timeout_ms, context)
        return broker_pb2.AlterPartitionReassignmentsResponse(result=response.alter_partition_reassignments)

    async def UnregisterBroker(
        self, request: broker_pb2.UnregisterBrokerRequest, context: Context
    ) -> broker_pb2.UnregisterBrokerResponse:
        command = Command(unregister_broker=UnregisterBrokerCommand(broker_id=request.broker_id))
        await self._submit(command, request.timeout_ms, context)
        return broker_pb2.UnregisterBrokerResponse()

    # --- answered from the image -----------------------------------------------------------------------------

    async def DescribeCluster(
        self, request: broker_pb2.DescribeClusterRequest, context: Context
    ) -> broker_pb2.DescribeClusterResponse:
        quorum = await self._rooms.controller.describe_quorum()
        image = self._image()
        return broker_pb2.DescribeClusterResponse(
            cluster_id=image.cluster_id or "",
            broker_id=self._rooms.broker_id,
            brokers=[describe_broker(broker) for _, broker in sorted(image.brokers.items())],
            quorum=quorum,
            metadata_end_offset=image.end_offset,
        )

    async def ListPartitionReassignments(
        self, request: broker_pb2.ListPartitionReassignmentsRequest, context: Context
    ) -> broker_pb2.ListPartitionReassignmentsResponse:
        wanted = [(reference.topic, reference.partition) for reference in request.partitions] or None
        return broker_pb2.ListPartitionReassignmentsResponse(reassignments=list_reassignments(self._image(), wanted))

    async def DescribeConfigs(
        self, request: broker_pb2.DescribeConfigsRequest, context: Context
    ) -> broker_pb2.DescribeConfigsResponse:
        image = self._image()
        return broker_pb2.DescribeConfigsResponse(
            resources=[self._rooms.configs.describe(image, resource) for resource in request.resources]
        )
