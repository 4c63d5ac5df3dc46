"""The administrative half of service Broker: commands passed on to the active controller, or answers from the image.

A change is answered only when this broker has replayed it, so that who asks this broker next sees it.
"""

from __future__ import annotations

from typing import Final

from ..cluster.image import MetadataImage
from ..proto import broker_pb2, broker_pb2_grpc
from ..proto.command_pb2 import Command, CommandResponse, UnregisterBrokerCommand
from ..proto.errors import ErrorCode
from .admin_rooms import AdminRooms, ControllerChannel
from .description import describe_broker, list_reassignments
from .grpc_errors import Context, abort

__all__ = ["AdminCalls", "AdminRooms", "ControllerChannel"]

TIMEOUT_MS_DEFAULT: Final = 30_000


class AdminCalls(broker_pb2_grpc.BrokerServicer):
    """Mixed into `grpc_service.BrokerService`."""

    def __init__(self, rooms: AdminRooms) -> None:
        self._rooms = rooms

    def _image(self) -> MetadataImage:
        return self._rooms.image()

    async def _submit(self, command: Command, timeout_ms: int, context: Context) -> CommandResponse:
        """Carries out one command, once however often it is retried; a failure as a whole ends the call."""
        response = await self._rooms.submit(command, timeout_ms if timeout_ms > 0 else TIMEOUT_MS_DEFAULT)
        if response.error_code:
            await abort(context, ErrorCode.of(response.error_code), response.error_message)
        return response

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
            resources=[self._described(image, resource) for resource in request.resources]
        )

    def _described(self, image: MetadataImage, resource: broker_pb2.ConfigResource) -> broker_pb2.ConfigsDescription:
        described = self._rooms.configs.describe(
            image, resource.resource_type, resource.resource_name, frozenset(resource.keys)
        )
        return broker_pb2.ConfigsDescription(
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            error_code=described.error,
            error_message=described.message,
            configs=[
                broker_pb2.ConfigEntry(
                    name=config.name,
                    value=config.value or "",
                    source=config.source.name,
                    read_only=config.read_only,
                    documentation=config.documentation,
                    type=config.type,
                )
                for config in described.configs
            ],
        )
