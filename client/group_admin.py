"""The administration of consumer groups: part of Admin and AsyncAdmin.

A call about a group goes to its coordinator and is tried again where that moves; a list of all groups is put together
from what each broker coordinates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any, Final, TypeVar

from ..proto import broker_pb2 as pb
from ..proto import command_pb2 as cmd
from ..proto.consumer_protocol import (
    CONSUMER_PROTOCOL_TYPE,
    ConsumerProtocolAssignment,
    ConsumerProtocolError,
    ConsumerProtocolSubscription,
)
from ..proto.errors import ErrorCode, KafkaError, KafkaTimeoutError, NonEmptyGroupError, error_for
from ..proto.identifiers import NONE_ID, TopicPartition
from .backoff import Backoff
from .cluster_client import ClusterClient
from .config import CommonConfig
from .consumer_group import offsets_given
from .group_coordinator import GroupCoordinatorClient
from .group_offsets import fetched_offsets, offsets_to_commit
from .offset_lookup import look_up_offsets
from .structs import (
    GroupDescription,
    GroupListing,
    MemberDescription,
    OffsetAndMetadata,
    OffsetAndTimestamp,
)

Result = TypeVar("Result")
Partition = TopicPartition | tuple[str, int]
GivenOffsets = Mapping[TopicPartition, OffsetAndMetadata | int]

_AT_ONCE_MAX: Final = 16
_LIST_TIMEOUT_MS: Final = 3000


class AsyncGroupAdmin:
    """What AsyncAdmin can do about groups."""

    _config: CommonConfig

    def _client(self) -> ClusterClient:
        raise NotImplementedError

    async def list_consumer_groups(
        self, states: Collection[str] = (), types: Collection[str] = ()
    ) -> list[GroupListing]:
        """All groups, or those in some states ("Stable", "Empty", ...) or of some types ("classic", "consumer")."""
        cluster = self._client()
        request = pb.ListGroupsRequest(states=list(states), types=list(types))
        deadline_ms = cluster.clock.monotonic_ms() + self._config.request_timeout_ms
        backoff = Backoff(cluster.random)
        while True:
            await cluster.refresh()
            brokers = list(cluster.cache.brokers)
            answers = await asyncio.gather(*(_list_groups(cluster, broker_id, request) for broker_id in brokers))
            error = next((answer for answer in answers if isinstance(answer, KafkaError)), None)
            if error is None:
                # While a coordinator moves, both brokers may tell of its groups.
                found = {
                    group.group_id: group
                    for answer in answers
                    if not isinstance(answer, KafkaError)
                    for group in answer
                }
                return sorted(found.values())
            if not error.retriable:
                raise error
            wait_ms = backoff.next_ms()
            if cluster.clock.monotonic_ms() + wait_ms >= deadline_ms:
                raise KafkaTimeoutError(f"list of groups: {error}")
            await asyncio.sleep(wait_ms / 1000)

    async def describe_consumer_groups(self, group_ids: Iterable[str]) -> dict[str, GroupDescription]:
        """Groups with their members. :raises GroupIdNotFoundError: there is no such group."""
        limit = asyncio.Semaphore(_AT_ONCE_MAX)

        async def describe(group_id: str) -> GroupDescription:
            async with limit:
                return await self._with_coordinator(group_id, "description", lambda client: _describe(client, group_id))

        names = list(dict.fromkeys(group_ids))
        return dict(zip(names, await asyncio.gather(*map(describe, names)), strict=True))

    async def list_consumer_group_offsets(
        self, group_id: str, partitions: Collection[Partition] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a group has committed, for some partitions or all; a partition without is absent."""
        request = pb.OffsetFetchRequest(
            group_id=group_id, partitions=_references(partitions or ()), all_partitions=partitions is None
        )

        async def fetch(client: GroupCoordinatorClient) -> dict[TopicPartition, OffsetAndMetadata]:
            return fetched_offsets(await client.call("OffsetFetch", request))

        return await self._with_coordinator(group_id, "offsets", fetch)

    async def alter_consumer_group_offsets(self, group_id: str, offsets: GivenOffsets) -> None:
        """Sets where a group goes on; the group must have no members, or it is not there yet.

        :raises NonEmptyGroupError: it has members: they would not notice, and commit over it.
        """
        request = pb.OffsetCommitRequest(
            group_id=group_id, generation_id=NONE_ID, offsets=offsets_to_commit(offsets_given(dict(offsets)))
        )

        async def commit(client: GroupCoordinatorClient) -> None:
            response: pb.OffsetCommitResponse = await client.call("OffsetCommit", request)
            for entry in response.partitions:
                if entry.error_code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.REBALANCE_IN_PROGRESS):
                    raise NonEmptyGroupError(f"group {group_id!r} has members; stop them first")
            _raise_partition_errors(response.partitions)

        if request.offsets:
            await self._with_coordinator(group_id, "commit", commit)

    async def delete_consumer_groups(self, group_ids: Iterable[str]) -> None:
        """Deletes groups with their offsets.

        :raises NonEmptyGroupError, GroupIdNotFoundError: the first that failed; those before it are gone.
        """
        for group_id in group_ids:

            async def delete(client: GroupCoordinatorClient, group_id: str = group_id) -> None:
                response: pb.DeleteGroupsResponse = await client.call(
                    "DeleteGroups", pb.DeleteGroupsRequest(group_ids=[group_id])
                )
                for group in response.groups:
                    _raise(group.error_code, group.error_message, f"group {group_id!r}")

            await self._with_coordinator(group_id, "deletion", delete)

    async def delete_consumer_group_offsets(self, group_id: str, partitions: Collection[Partition]) -> None:
        """Forgets what a group has committed for partitions (KIP-496).

        :raises GroupSubscribedToTopicError: members read the topic. :raises GroupIdNotFoundError: no such group.
        """
        request = pb.OffsetDeleteRequest(group_id=group_id, partitions=_references(partitions))

        async def delete(client: GroupCoordinatorClient) -> None:
            response: pb.OffsetDeleteResponse = await client.call("OffsetDelete", request)
            _raise(response.error_code, "", f"group {group_id!r}")
            _raise_partition_errors(response.partitions)

        await self._with_coordinator(group_id, "deletion of offsets", delete)

    async def remove_members_from_consumer_group(
        self,
        group_id: str,
        member_ids: Collection[str] | None = None,
        group_instance_ids: Collection[str] = (),
        reason: str = "removed by an administrator",
    ) -> None:
        """Throws members out, by their ids or as static members by their instance ids (KIP-345); by default all.

        One that still runs joins again as soon as it notices. :raises UnknownMemberIdError: no such member.
        """
        if member_ids is None and not group_instance_ids:
            described = (await self.describe_consumer_groups([group_id]))[group_id]
            member_ids = [member.member_id for member in described.members if member.group_instance_id is None]
            group_instance_ids = [m.group_instance_id for m in described.members if m.group_instance_id is not None]
        leaving = [pb.LeavingMember(member_id=member_id, reason=reason) for member_id in member_ids or ()]
        leaving += [pb.LeavingMember(group_instance_id=name, reason=reason) for name in group_instance_ids]
        request = pb.LeaveGroupRequest(group_id=group_id, members=leaving)

        async def leave(client: GroupCoordinatorClient) -> None:
            response: pb.LeaveGroupResponse = await client.call("LeaveGroup", request)
            _raise(response.error_code, "", f"group {group_id!r}")
            for member in response.members:
                _raise(member.error_code, "", f"member {member.group_instance_id or member.member_id!r}")

        if leaving:
            await self._with_coordinator(group_id, "removal of members", leave)

    async def list_offsets(
        self, partitions: Mapping[Partition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """Offsets by time in ms since 1970, or -2 for the earliest, -1 for the end; None: no record is that young.

        :raises KafkaTimeoutError: a partition has no leader, or does not exist.
        """
        cluster = self._client()
        wanted = {TopicPartition(*partition): timestamp for partition, timestamp in partitions.items()}
        found: dict[TopicPartition, OffsetAndTimestamp | None] = {}
        if wanted:
            await cluster.refresh({partition.topic for partition in wanted})
            timeout_ms = self._config.request_timeout_ms
            await look_up_offsets(cluster, wanted, isolation_level=0, timeout_ms=timeout_ms, on_found=found.__setitem__)
        return found

    async def _with_coordinator(
        self, group_id: str, what: str, attempt: Callable[[GroupCoordinatorClient], Awaitable[Result]]
    ) -> Result:
        client = GroupCoordinatorClient(self._client(), group_id)
        try:
            return await client.retrying(what, lambda: attempt(client), self._config.request_timeout_ms)
        finally:
            await client.close()


class GroupAdmin:
    """What Admin can do about groups: each method is AsyncAdmin's of the same name, awaited."""

    _admin: AsyncGroupAdmin

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        raise NotImplementedError

    def list_consumer_groups(self, states: Collection[str] = (), types: Collection[str] = ()) -> list[GroupListing]:
        """As `AsyncAdmin.list_consumer_groups`."""
        return self._run(self._admin.list_consumer_groups(states, types))

    def describe_consumer_groups(self, group_ids: Iterable[str]) -> dict[str, GroupDescription]:
        """As `AsyncAdmin.describe_consumer_groups`."""
        return self._run(self._admin.describe_consumer_groups(group_ids))

    def list_consumer_group_offsets(
        self, group_id: str, partitions: Collection[Partition] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """As `AsyncAdmin.list_consumer_group_offsets`."""
        return self._run(self._admin.list_consumer_group_offsets(group_id, partitions))

    def alter_consumer_group_offsets(self, group_id: str, offsets: GivenOffsets) -> None:
        """As `AsyncAdmin.alter_consumer_group_offsets`."""
        self._run(self._admin.alter_consumer_group_offsets(group_id, offsets))

    def delete_consumer_groups(self, group_ids: Iterable[str]) -> None:
        """As `AsyncAdmin.delete_consumer_groups`."""
        self._run(self._admin.delete_consumer_groups(group_ids))

    def delete_consumer_group_offsets(self, group_id: str, partitions: Collection[Partition]) -> None:
        """As `AsyncAdmin.delete_consumer_group_offsets`."""
        self._run(self._admin.delete_consumer_group_offsets(group_id, partitions))

    def remove_members_from_consumer_group(
        self,
        group_id: str,
        member_ids: Collection[str] | None = None,
        group_instance_ids: Collection[str] = (),
        reason: str = "removed by an administrator",
    ) -> None:
        """As `AsyncAdmin.remove_members_from_consumer_group`."""
        self._run(self._admin.remove_members_from_consumer_group(group_id, member_ids, group_instance_ids, reason))

    def list_offsets(self, partitions: Mapping[Partition, int]) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """As `AsyncAdmin.list_offsets`."""
        return self._run(self._admin.list_offsets(partitions))


async def _list_groups(
    cluster: ClusterClient, broker_id: int, request: pb.ListGroupsRequest
) -> list[GroupListing] | KafkaError:
    try:
        response: pb.ListGroupsResponse = await cluster.call_broker(broker_id, "ListGroups", request, _LIST_TIMEOUT_MS)
    except KafkaError as error:
        return error
    if response.error_code:
        return error_for(response.error_code)
    return [GroupListing(group.group_id, group.protocol_type, group.state, group.type) for group in response.groups]


async def _describe(client: GroupCoordinatorClient, group_id: str) -> GroupDescription:
    response: pb.DescribeGroupsResponse = await client.call(
        "DescribeGroups", pb.DescribeGroupsRequest(group_ids=[group_id])
    )
    for group in response.groups:
        if group.group_id == group_id:
            _raise(group.error_code, group.error_message, f"group {group_id!r}")
            members = tuple(sorted(_member(entry, group.protocol_type) for entry in group.members))
            return GroupDescription(
                group_id,
                group.state,
                group.type,
                group.protocol_type,
                group.protocol_name,
                str(client.address or ""),
                members,
            )
    raise error_for(ErrorCode.GROUP_ID_NOT_FOUND, f"group {group_id!r} was not described")


def _member(entry: pb.DescribedMember, protocol_type: str) -> MemberDescription:
    topics: tuple[str, ...] = ()
    assignment: tuple[TopicPartition, ...] = ()
    if protocol_type == CONSUMER_PROTOCOL_TYPE:
        try:
            topics = ConsumerProtocolSubscription.decode(entry.metadata).topics if entry.metadata else ()
            assignment = ConsumerProtocolAssignment.decode(entry.assignment).partitions if entry.assignment else ()
        except ConsumerProtocolError:
            pass  # a member may say what it likes; what cannot be read is not shown
    return MemberDescription(
        entry.member_id,
        entry.group_instance_id or None,
        entry.client_id,
        entry.client_host,
        topics,
        tuple(sorted(assignment)),
    )


def _references(partitions: Iterable[Partition]) -> list[cmd.TopicPartitionReference]:
    return [cmd.TopicPartitionReference(topic=topic, partition=partition) for topic, partition in partitions]


def _raise_partition_errors(partitions: Iterable[pb.CommittedPartition]) -> None:
    for entry in partitions:
        _raise(entry.error_code, "", f"{entry.topic}-{entry.partition}")


def _raise(error_code: int, message: str, what: str) -> None:
    if error_code:
        code = ErrorCode.of(error_code)
        raise error_for(code, f"{what}: {message or code.message}")
