"""The group calls of a fake cluster: one broker coordinates every group, in memory, by the rules of the real one.

The groups are the broker's own state machines (they are pure); appends succeed at once. `faults` answer the next calls
with an error, before or after they were carried out.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from klamm.broker.groups.classic_group import ClassicGroup
from klamm.broker.groups.group import Append, Effects, Ticket
from klamm.broker.groups.group_config import GroupConfig
from klamm.broker.groups.group_request import (
    HeartbeatRequest,
    JoinRequest,
    LeaveRequest,
    LeavingMember,
    OffsetCommitRequest,
    SyncRequest,
)
from klamm.proto import broker_pb2 as pb
from klamm.proto.errors import ErrorCode

if TYPE_CHECKING:
    from harness.fake_broker import FakeCluster


@dataclass
class GroupFault:
    """What happens to the next calls of a name."""

    call: str
    error: ErrorCode
    times: int = 1
    carried_out: bool = False
    hold_s: float = 0.0  # the call takes so long; with `error` NONE it is carried out


class FakeGroups:
    """All groups of the cluster. Moving the coordinator keeps them, as the log does."""

    def __init__(self) -> None:
        self.coordinator_id = 0
        self.groups: dict[str, ClassicGroup] = {}
        self.offsets: dict[tuple[str, str, int], tuple[int, int, str]] = {}  # offset, leader epoch, metadata
        self.commits: list[tuple[str, str, int, int]] = []  # group, topic, partition, offset, in their order
        self.calls: Counter[str] = Counter()
        self.faults: list[GroupFault] = []
        self._tickets = count(1)
        self._ids = count(1)
        self._waiting: dict[Ticket, asyncio.Future[Any]] = {}

    def group(self, group_id: str) -> ClassicGroup:
        config = GroupConfig(min_session_timeout_ms=1)
        if group_id not in self.groups:
            self.groups[group_id] = ClassicGroup(
                group_id,
                config=config,
                new_member_id=lambda name: f"{name}-{next(self._ids)}",
                wall_ms=lambda: 0,
            )
        return self.groups[group_id]

    def restart(self) -> None:
        """The members are forgotten, the offsets are not: as after a loss of the group's state."""
        self.groups.clear()
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    def fault(self, call: str) -> GroupFault | None:
        self.calls[call] += 1
        for fault in self.faults:
            if fault.call == call and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    async def ask(self, group_id: str, method: str, request: Any) -> Any:
        group = self.group(group_id)
        ticket = Ticket(next(self._tickets))
        future = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        self.carry_out(group, getattr(group, method)(request, ticket, _now_ms()))
        try:
            return await future
        finally:
            self._waiting.pop(ticket, None)
            group.forget_ticket(ticket)

    def carry_out(self, group: ClassicGroup, effects: Effects) -> None:
        pending = list(effects)
        while pending:
            effect = pending.pop(0)
            if isinstance(effect, Append):
                group.appended(effect.token)
                pending += group.committed(effect.token, _now_ms())
            elif (future := self._waiting.get(effect.ticket)) is not None and not future.done():
                future.set_result(effect.answer)

    async def tick_forever(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            for group in list(self.groups.values()):
                deadline_ms = group.next_deadline_ms()
                if deadline_ms is not None and deadline_ms <= _now_ms():
                    self.carry_out(group, group.tick(_now_ms()))


class FakeGroupCalls:
    """Mixed into the fake broker."""

    cluster: FakeCluster
    broker_id: int
    running: asyncio.Event

    async def _refusal(self, call: str) -> tuple[ErrorCode, bool]:
        """The error to answer with, and whether the call is to be carried out all the same."""
        await self.running.wait()
        groups = self.cluster.groups
        if groups.coordinator_id != self.broker_id:
            return ErrorCode.NOT_COORDINATOR, False
        fault = groups.fault(call)
        if fault is None:
            return ErrorCode.NONE, True
        await asyncio.sleep(fault.hold_s)
        return fault.error, fault.carried_out or fault.error is ErrorCode.NONE

    async def FindCoordinator(self, request: pb.FindCoordinatorRequest, context: Any) -> pb.FindCoordinatorResponse:
        await self.running.wait()
        groups = self.cluster.groups
        broker = self.cluster.brokers[groups.coordinator_id]
        fault = groups.fault("FindCoordinator")
        return pb.FindCoordinatorResponse(
            coordinators=[
                pb.GroupCoordinatorAddress(
                    group_id=group_id,
                    error_code=ErrorCode.NONE if fault is None else fault.error,
                    broker_id=broker.broker_id,
                    host="127.0.0.1",
                    port=broker.port,
                )
                for group_id in request.group_ids
            ]
        )

    async def JoinGroup(self, request: pb.JoinGroupRequest, context: Any) -> pb.JoinGroupResponse:
        error, go_on = await self._refusal("JoinGroup")
        if not go_on:
            return pb.JoinGroupResponse(error_code=error)
        asked = JoinRequest(
            group_id=request.group_id,
            member_id=request.member_id,
            group_instance_id=request.group_instance_id or None,
            client_id=request.client_id,
            client_host="/127.0.0.1",
            protocol_type=request.protocol_type,
            protocols=tuple((entry.name, entry.metadata) for entry in request.protocols),
            session_timeout_ms=request.session_timeout_ms,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            require_known_member_id=True,
            supports_skipping_assignment=True,
            reason=request.reason,
        )
        answer = await self.cluster.groups.ask(request.group_id, "join", asked)
        return pb.JoinGroupResponse(
            error_code=error or answer.error,
            generation_id=answer.generation_id,
            protocol_type=answer.protocol_type or "",
            protocol_name=answer.protocol_name or "",
            leader=answer.leader,
            skip_assignment=answer.skip_assignment,
            member_id=answer.member_id,
            members=[
                pb.JoinedMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id or "",
                    metadata=member.metadata,
                )
                for member in answer.members
            ],
        )

    async def SyncGroup(self, request: pb.SyncGroupRequest, context: Any) -> pb.SyncGroupResponse:
        error, go_on = await self._refusal("SyncGroup")
        if not go_on:
            return pb.SyncGroupResponse(error_code=error)
        asked = SyncRequest(
            group_id=request.group_id,
            generation_id=request.generation_id,
            member_id=request.member_id,
            group_instance_id=request.group_instance_id or None,
            protocol_type=request.protocol_type,
            protocol_name=request.protocol_name,
            assignments={entry.member_id: entry.assignment for entry in request.assignments},
        )
        answer = await self.cluster.groups.ask(request.group_id, "sync", asked)
        return pb.SyncGroupResponse(error_code=error or answer.error, assignment=answer.assignment)

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Any) -> pb.HeartbeatResponse:
        error, go_on = await self._refusal("Heartbeat")
        if not go_on:
            return pb.HeartbeatResponse(error_code=error)
        asked = HeartbeatRequest(
            request.group_id, request.generation_id, request.member_id, request.group_instance_id or None
        )
        answer = self.cluster.groups.group(request.group_id).heartbeat(asked, _now_ms())
        return pb.HeartbeatResponse(error_code=error or answer)

    async def LeaveGroup(self, request: pb.LeaveGroupRequest, context: Any) -> pb.LeaveGroupResponse:
        error, go_on = await self._refusal("LeaveGroup")
        if not go_on:
            return pb.LeaveGroupResponse(error_code=error)
        members = tuple(
            LeavingMember(entry.member_id, entry.group_instance_id or None, entry.reason) for entry in request.members
        )
        answer = await self.cluster.groups.ask(request.group_id, "leave", LeaveRequest(request.group_id, members))
        return pb.LeaveGroupResponse(
            error_code=answer.error,
            members=[
                pb.LeftMember(
                    member_id=member.member_id, group_instance_id=member.group_instance_id or "", error_code=code
                )
                for member, code in answer.members
            ],
        )

    async def OffsetCommit(self, request: pb.OffsetCommitRequest, context: Any) -> pb.OffsetCommitResponse:
        error, go_on = await self._refusal("OffsetCommit")
        groups = self.cluster.groups
        if go_on:
            asked = OffsetCommitRequest(
                request.group_id, request.generation_id, request.member_id, request.group_instance_id or None, ()
            )
            refused = groups.group(request.group_id).check_offset_commit(asked, _now_ms())
            if refused is ErrorCode.NONE:
                for entry in request.offsets:
                    place = (request.group_id, entry.topic, entry.partition)
                    groups.offsets[place] = (entry.offset, entry.leader_epoch, entry.metadata)
                    groups.commits.append((*place, entry.offset))
            error = error or refused
        return pb.OffsetCommitResponse(
            partitions=[
                pb.CommittedPartition(topic=entry.topic, partition=entry.partition, error_code=error)
                for entry in request.offsets
            ]
        )

    async def OffsetFetch(self, request: pb.OffsetFetchRequest, context: Any) -> pb.OffsetFetchResponse:
        error, go_on = await self._refusal("OffsetFetch")
        if not go_on:
            return pb.OffsetFetchResponse(error_code=error)
        offsets = self.cluster.groups.offsets
        wanted = [(entry.topic, entry.partition) for entry in request.partitions]
        if request.all_partitions:
            wanted = [place[1:] for place in offsets if place[0] == request.group_id]
        answer = pb.OffsetFetchResponse()
        for topic, partition in wanted:
            offset, epoch, metadata = offsets.get((request.group_id, topic, partition), (-1, -1, ""))
            answer.partitions.append(
                pb.FetchedOffset(topic=topic, partition=partition, offset=offset, leader_epoch=epoch, metadata=metadata)
            )
        return answer

    async def OffsetDelete(self, request: pb.OffsetDeleteRequest, context: Any) -> pb.OffsetDeleteResponse:
        error, go_on = await self._refusal("OffsetDelete")
        if not go_on:
            return pb.OffsetDeleteResponse(error_code=error)
        groups = self.cluster.groups
        answer = pb.OffsetDeleteResponse()
        for entry in request.partitions:
            subscribed = groups.group(request.group_id).is_subscribed_to(entry.topic)
            code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if subscribed else ErrorCode.NONE
            if not subscribed:
                groups.offsets.pop((request.group_id, entry.topic, entry.partition), None)
            answer.partitions.append(
                pb.CommittedPartition(topic=entry.topic, partition=entry.partition, error_code=code)
            )
        return answer

    async def ListGroups(self, request: pb.ListGroupsRequest, context: Any) -> pb.ListGroupsResponse:
        await self.running.wait()
        groups = self.cluster.groups
        if groups.coordinator_id != self.broker_id:
            return pb.ListGroupsResponse()
        listed = [groups.group(group_id).listed() for group_id in groups.groups]
        return pb.ListGroupsResponse(
            groups=[
                pb.ListedGroup(
                    group_id=group.group_id,
                    protocol_type=group.protocol_type,
                    state=group.state.value,
                    type=group.type.value,
                )
                for group in listed
                if not request.states or group.state.value in request.states
            ]
        )

    async def DescribeGroups(self, request: pb.DescribeGroupsRequest, context: Any) -> pb.DescribeGroupsResponse:
        error, go_on = await self._refusal("DescribeGroups")
        answer = pb.DescribeGroupsResponse()
        for group_id in request.group_ids:
            known = self.cluster.groups.groups.get(group_id)
            if not go_on or known is None:
                code = error or ErrorCode.GROUP_ID_NOT_FOUND
                answer.groups.append(pb.DescribedGroup(group_id=group_id, error_code=code, state="Dead"))
                continue
            group = known.described()
            answer.groups.append(
                pb.DescribedGroup(
                    group_id=group_id,
                    state=group.state.value,
                    type=group.type.value,
                    protocol_type=group.protocol_type,
                    protocol_name=group.protocol_name,
                    members=[
                        pb.DescribedMember(
                            member_id=member.member_id,
                            group_instance_id=member.group_instance_id or "",
                            client_id=member.client_id,
                            client_host=member.client_host,
                            metadata=member.metadata,
                            assignment=member.assignment,
                        )
                        for member in group.members
                    ],
                )
            )
        return answer

    async def DeleteGroups(self, request: pb.DeleteGroupsRequest, context: Any) -> pb.DeleteGroupsResponse:
        error, go_on = await self._refusal("DeleteGroups")
        answer = pb.DeleteGroupsResponse()
        groups = self.cluster.groups
        for group_id in request.group_ids:
            code = error
            if go_on:
                known = groups.groups.get(group_id)
                code = ErrorCode.GROUP_ID_NOT_FOUND if known is None else known.check_delete()
                if code is ErrorCode.NONE:
                    del groups.groups[group_id]
                    groups.offsets = {place: kept for place, kept in groups.offsets.items() if place[0] != group_id}
            answer.groups.append(pb.DeletedGroup(group_id=group_id, error_code=code))
        return answer


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
