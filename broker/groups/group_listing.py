"""Lists and descriptions of groups. What they show is on every replica in sync: no failover takes it back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import islice
from typing import Final, TypeVar

from ...proto.errors import ErrorCode
from .consumer_group import ConsumerGroup
from .group_request import DescribedConsumerGroup, DescribedGroup, ListedGroup
from .pending_append import error_of_append
from .shard import GroupShard

A = TypeVar("A")
B = TypeVar("B")

_SLICE: Final = 500
"""Groups listed, or asked for, before others have their turn."""


async def ask_each(asked: Iterable[A], ask: Callable[[A], Awaitable[B]]) -> list[B]:
    """The answers in the order of what is asked, gathered side by side, but not all that a request may name at once."""
    rest = iter(asked)
    answers: list[B] = []
    while some := list(islice(rest, _SLICE)):
        answers += await asyncio.gather(*map(ask, some))
    return answers


async def list_shard(
    shard: GroupShard, states: Collection[str], types: Collection[str]
) -> tuple[ErrorCode, list[ListedGroup]]:
    """The groups of one shard in one of the states and of one of the types (in lower case); none named: any."""
    error = shard.check()
    if error is not ErrorCode.NONE:
        return error, []
    groups: list[ListedGroup] = []
    end_offset = 0
    for number, entry in enumerate(tuple(shard.entries.values()), start=1):
        listed = entry.group.listed()
        wanted = not states or listed.state.value.lower() in states
        if wanted and (not types or listed.type.value in types):
            groups.append(listed)
            end_offset = max(end_offset, entry.last_end_offset)
        if number % _SLICE == 0:
            await asyncio.sleep(0)
    error = await shard.committed_through(end_offset)
    return (ErrorCode.NONE, groups) if error is ErrorCode.NONE else (error_of_append(error), [])


async def describe_group(shard: GroupShard, group_id: str) -> DescribedGroup:
    """For DescribeGroups; a group that is not there is DEAD."""
    entry = shard.entries.get(group_id)
    if entry is None:
        return DescribedGroup(group_id, ErrorCode.NONE, f"Group {group_id} not found.")
    described = entry.group.described()
    error = await shard.committed_through(entry.last_end_offset)
    return described if error is ErrorCode.NONE else DescribedGroup(group_id, error_of_append(error))


async def describe_consumer_group(shard: GroupShard, group_id: str) -> DescribedConsumerGroup:
    """For ConsumerGroupDescribe; only groups of KIP-848 can be described so."""
    entry = shard.entries.get(group_id)
    if entry is None or not isinstance(entry.group, ConsumerGroup):
        what = "not found" if entry is None else "is not a consumer group"
        return DescribedConsumerGroup(group_id, ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} {what}.")
    described = entry.group.described_consumer_group()
    error = await shard.committed_through(entry.last_end_offset)
    return described if error is ErrorCode.NONE else DescribedConsumerGroup(group_id, error_of_append(error))
