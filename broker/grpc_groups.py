"""The part of service Broker for consumer groups: the coordinator's answers over gRPC, as the SDK asks for them.

The rules are the coordinator's (`groups/coordinator.py`); what is here is how its values stand in proto/broker.proto,
and how many of them a request may hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

from ..cluster.image import MetadataImage
from ..proto import broker_pb2, broker_pb2_grpc
from ..proto.errors import ErrorCode
from ..proto.identifiers import GRPC_LISTENER, NONE_ID, LeaderEpoch, Offset
from .groups.coordinator import GroupCoordinator
from .groups.group_request import (
    GroupType,
    HeartbeatRequest,
    JoinRequest,
    LeaveRequest,
    LeavingMember,
    OffsetCommitRequest,
    OffsetFetchRequest,
    OffsetToCommit,
    SyncRequest,
)
from .grpc_errors import Context, abort
from .grpc_group_descriptions import classic_group, consumer_group

GROUPS_PER_REQUEST_MAX: Final = 10_000
MEMBERS_PER_REQUEST_MAX: Final = 20_000
PROTOCOLS_PER_REQUEST_MAX: Final = 100
OFFSETS_PER_REQUEST_MAX: Final = 100_000


def _one(text: str) -> str | None:
    """ "" stands for none."""
    return text or None


def _host_of(context: Context) -> str:
    """The client's address as Kafka writes one: "/127.0.0.1"."""
    peer = unquote(context.peer())  # ipv4:127.0.0.1:5000, ipv6:[::1]:5000, unix:...
    host = peer.partition(":")[2].rpartition(":")[0].strip("[]")
    return f"/{host}"


async def _check(context: Context, items: Sequence[Any], limit: int, what: str) -> None:
    if len(items) > limit:
        await abort(context, ErrorCode.INVALID_REQUEST, f"{len(items)} {what}; a request may name {limit}")


class GroupCalls(broker_pb2_grpc.BrokerServicer):
    """Mixed into `grpc_service.BrokerService`."""

    _groups: GroupCoordinator

    def _image(self) -> MetadataImage:
        raise NotImplementedError

    # --- who coordinates -------------------------------------------------------------------------------------

    async def FindCoordinator(
        self, request: broker_pb2.FindCoordinatorRequest, context: Context
    ) -> broker_pb2.FindCoordinatorResponse:
        await _check(context, request.group_ids, GROUPS_PER_REQUEST_MAX, "groups")
        return broker_pb2.FindCoordinatorResponse(
            coordinators=[await self._coordinator_address(group_id) for group_id in request.group_ids]
        )

    async def _coordinator_address(self, group_id: str) -> broker_pb2.GroupCoordinatorAddress:
        found = await self._groups.find(group_id)
        if not isinstance(found, ErrorCode):
            broker = self._image().brokers.get(found)
            endpoint = None if broker is None else broker.endpoints.get(GRPC_LISTENER)
            if endpoint is not None:
                return broker_pb2.GroupCoordinatorAddress(
                    group_id=group_id, broker_id=found, host=endpoint.host, port=endpoint.port
                )
            found = ErrorCode.COORDINATOR_NOT_AVAILABLE
        return broker_pb2.GroupCoordinatorAddress(
            group_id=group_id, error_code=found, error_message=found.message, broker_id=NONE_ID, port=NONE_ID
        )

    # --- members ---------------------------------------------------------------------------------------------

    async def JoinGroup(self, request: broker_pb2.JoinGroupRequest, context: Context) -> broker_pb2.JoinGroupResponse:
        await _check(context, request.protocols, PROTOCOLS_PER_REQUEST_MAX, "protocols")
        answer = await self._groups.join(
            JoinRequest(
                group_id=request.group_id,
                member_id=request.member_id,
                group_instance_id=_one(request.group_instance_id),
                client_id=request.client_id,
                client_host=_host_of(context),
                protocol_type=request.protocol_type,
                protocols=tuple((protocol.name, protocol.metadata) for protocol in request.protocols),
                session_timeout_ms=request.session_timeout_ms,
                rebalance_timeout_ms=request.rebalance_timeout_ms,
                require_known_member_id=True,
                supports_skipping_assignment=True,
                reason=_one(request.reason),
            )
        )
        return broker_pb2.JoinGroupResponse(
            error_code=answer.error,
            error_message=answer.error.message,
            generation_id=answer.generation_id,
            protocol_type=answer.protocol_type or "",
            protocol_name=answer.protocol_name or "",
            leader=answer.leader,
            skip_assignment=answer.skip_assignment,
            member_id=answer.member_id,
            members=[
                broker_pb2.JoinedMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id or "",
                    metadata=member.metadata,
                )
                for member in answer.members
            ],
        )

    async def SyncGroup(self, request: broker_pb2.SyncGroupRequest, context: Context) -> broker_pb2.SyncGroupResponse:
        await _check(context, request.assignments, MEMBERS_PER_REQUEST_MAX, "assignments")
        answer = await self._groups.sync(
            SyncRequest(
                group_id=request.group_id,
                generation_id=request.generation_id,
                member_id=request.member_id,
                group_instance_id=_one(request.group_instance_id),
                protocol_type=_one(request.protocol_type),
                protocol_name=_one(request.protocol_name),
                assignments={assignment.member_id: assignment.assignment for assignment in request.assignments},
            )
        )
        return broker_pb2.SyncGroupResponse(
            error_code=answer.error,
            error_message=answer.error.message,
            protocol_type=answer.protocol_type or "",
            protocol_name=answer.protocol_name or "",
            assignment=answer.assignment,
        )

    async def Heartbeat(self, request: broker_pb2.HeartbeatRequest, context: Context) -> broker_pb2.HeartbeatResponse:
        error = self._groups.heartbeat(
            HeartbeatRequest(
                request.group_id, request.generation_id, request.member_id, _one(request.group_instance_id)
            )
        )
        return broker_pb2.HeartbeatResponse(error_code=error)

    async def LeaveGroup(
        self, request: broker_pb2.LeaveGroupRequest, context: Context
    ) -> broker_pb2.LeaveGroupResponse:
        await _check(context, request.members, MEMBERS_PER_REQUEST_MAX, "members")
        members = tuple(
            LeavingMember(member.member_id, _one(member.group_instance_id), _one(member.reason))
            for member in request.members
        )
        answer = await self._groups.leave(LeaveRequest(request.group_id, members))
        return broker_pb2.LeaveGroupResponse(
            error_code=answer.error,
            members=[
                broker_pb2.LeftMember(
                    member_id=member.member_id, group_instance_id=member.group_instance_id or "", error_code=error
                )
                for member, error in answer.members
            ],
        )

    # --- offsets ---------------------------------------------------------------------------------------------

    async def OffsetCommit(
        self, request: broker_pb2.OffsetCommitRequest, context: Context
    ) -> broker_pb2.OffsetCommitResponse:
        await _check(context, request.offsets, OFFSETS_PER_REQUEST_MAX, "offsets")
        answer = await self._groups.commit_offsets(
            OffsetCommitRequest(
                group_id=request.group_id,
                generation_or_member_epoch=request.generation_id,
                member_id=request.member_id,
                group_instance_id=_one(request.group_instance_id),
                offsets=tuple(
                    OffsetToCommit(
                        topic=offset.topic,
                        partition=offset.partition,
                        offset=Offset(offset.offset),
                        leader_epoch=None if offset.leader_epoch < 0 else LeaderEpoch(offset.leader_epoch),
                        metadata=offset.metadata,
                    )
                    for offset in request.offsets
                ),
            )
        )
        return broker_pb2.OffsetCommitResponse(
            partitions=[
                broker_pb2.CommittedPartition(topic=offset.topic, partition=offset.partition, error_code=error)
                for offset, error in zip(request.offsets, answer.errors, strict=True)
            ]
        )

    async def OffsetFetch(
        self, request: broker_pb2.OffsetFetchRequest, context: Context
    ) -> broker_pb2.OffsetFetchResponse:
        await _check(context, request.partitions, OFFSETS_PER_REQUEST_MAX, "partitions")
        partitions = (
            None if request.all_partitions else tuple((each.topic, each.partition) for each in request.partitions)
        )
        answer = await self._groups.fetch_offsets(
            OffsetFetchRequest(request.group_id, partitions, require_stable=request.require_stable)
        )
        return broker_pb2.OffsetFetchResponse(
            error_code=answer.error,
            partitions=[
                broker_pb2.FetchedOffset(
                    topic=each.topic,
                    partition=each.partition,
                    error_code=each.error,
                    offset=NONE_ID if each.offset is None else each.offset,
                    leader_epoch=NONE_ID if each.leader_epoch is None else each.leader_epoch,
                    metadata=each.metadata,
                )
                for each in answer.offsets
            ],
        )

    async def OffsetDelete(
        self, request: broker_pb2.OffsetDeleteRequest, context: Context
    ) -> broker_pb2.OffsetDeleteResponse:
        await _check(context, request.partitions, OFFSETS_PER_REQUEST_MAX, "partitions")
        partitions = [(each.topic, each.partition) for each in request.partitions]
        answer = await self._groups.delete_offsets(request.group_id, partitions)
        errors = answer.errors or (answer.error,) * len(partitions)
        return broker_pb2.OffsetDeleteResponse(
            error_code=answer.error,
            partitions=[
                broker_pb2.CommittedPartition(topic=topic, partition=number, error_code=error)
                for (topic, number), error in zip(partitions, errors, strict=True)
            ],
        )

    # --- lists, descriptions, deletion -----------------------------------------------------------------------

    async def ListGroups(
        self, request: broker_pb2.ListGroupsRequest, context: Context
    ) -> broker_pb2.ListGroupsResponse:
        error, groups = await self._groups.list_groups(request.states, request.types)
        return broker_pb2.ListGroupsResponse(
            error_code=error,
            groups=[
                broker_pb2.ListedGroup(
                    group_id=group.group_id,
                    protocol_type=group.protocol_type,
                    state=group.state.value,
                    type=group.type.value,
                )
                for group in groups
            ],
        )

    async def DescribeGroups(
        self, request: broker_pb2.DescribeGroupsRequest, context: Context
    ) -> broker_pb2.DescribeGroupsResponse:
        await _check(context, request.group_ids, GROUPS_PER_REQUEST_MAX, "groups")
        described = await self._groups.describe_groups(list(request.group_ids))
        of_kip_848 = [group.group_id for group in described if group.type is GroupType.CONSUMER]
        consumer_groups = {group.group_id: group for group in await self._groups.consumer_group_describe(of_kip_848)}
        return broker_pb2.DescribeGroupsResponse(
            groups=[
                consumer_group(found, self._image())
                if (found := consumer_groups.get(group.group_id)) is not None
                else classic_group(group)
                for group in described
            ]
        )

    async def DeleteGroups(
        self, request: broker_pb2.DeleteGroupsRequest, context: Context
    ) -> broker_pb2.DeleteGroupsResponse:
        await _check(context, request.group_ids, GROUPS_PER_REQUEST_MAX, "groups")
        names = list(dict.fromkeys(request.group_ids))
        errors = await self._groups.delete_groups(names)
        return broker_pb2.DeleteGroupsResponse(
            groups=[
                broker_pb2.DeletedGroup(group_id=name, error_code=error, error_message=error.message)
                for name, error in zip(names, errors, strict=True)
            ]
        )
