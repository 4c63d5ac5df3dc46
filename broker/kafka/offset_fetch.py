"""OffsetFetch (key 9), versions 1 to 10: the offsets that groups have committed.

2    null topics: all that the group has committed; an error for the group as a whole (before, for each partition)
3    throttle time
5    leader epochs (KIP-320)
6    flexible
7    require_stable: wait for what is on its way to be committed (KIP-447)
8    many groups in one request (KIP-709)
9    member id and epoch are checked (KIP-848)
10   topics by id (KIP-848)

Version 0 (ZooKeeper) is not served, as in Apache Kafka 4. A partition without a committed offset has -1 and no error,
be there such a topic or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

from ...proto.errors import ErrorCode
from ...proto.identifiers import NONE_ID
from ..groups.group_request import CommittedOffset, OffsetFetchAnswer, OffsetFetchRequest
from .fields import number
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext

GROUPS_MAX: Final = 10_000
_GROUP_ERROR_VERSION: Final = 2
_BATCHED_VERSION: Final = 8
_TOPIC_ID_VERSION: Final = 10


async def handle(request: Any, context: RequestContext) -> Any:
    """Each group by itself."""
    schema = context.schema
    require_stable = get(request, "require_stable", False)
    if context.api_version >= _BATCHED_VERSION:
        if len(request.groups) > GROUPS_MAX:
            groups = [_group_answer(group, (), ErrorCode.INVALID_REQUEST, context) for group in request.groups]
        else:
            groups = await asyncio.gather(*(_group(group, require_stable, context) for group in request.groups))
        return make(schema.OffsetFetchResponse, throttle_time=NO_THROTTLE, groups=tuple(groups))
    names = _names(request, context)
    answer = await _fetch(request, names, require_stable, context)
    if answer.error is not ErrorCode.NONE and context.api_version < _GROUP_ERROR_VERSION:
        # Such clients look for errors at each partition alone.
        answer = OffsetFetchAnswer(
            ErrorCode.NONE,
            tuple(
                CommittedOffset(topic.name, index, None, error=answer.error)
                for topic in request.topics
                for index in topic.partition_indexes
            ),
        )
    topics = _topics(request, names, answer, context)
    return make(schema.OffsetFetchResponse, throttle_time=NO_THROTTLE, topics=topics, error_code=answer.error)


async def _group(group: Any, require_stable: bool, context: RequestContext) -> Any:
    names = _names(group, context)
    answer = await _fetch(group, names, require_stable, context)
    return _group_answer(group, _topics(group, names, answer, context), answer.error, context)


def _group_answer(group: Any, topics: tuple[Any, ...], error: ErrorCode, context: RequestContext) -> Any:
    return context.schema.OffsetFetchResponseGroup(group_id=group.group_id, topics=topics, error_code=error)


def _names(asked: Any, context: RequestContext) -> list[str | None]:
    """Of the topics asked for; None for an id that no topic has. `asked` is a group, or a request that has but one."""
    topics = asked.topics or ()
    if context.api_version < _TOPIC_ID_VERSION:
        return [str(topic.name) for topic in topics]
    known = context.rooms.image().topic_names
    return [None if topic.topic_id is None else known.get(topic.topic_id) for topic in topics]


async def _fetch(
    asked: Any, names: Sequence[str | None], require_stable: bool, context: RequestContext
) -> OffsetFetchAnswer:
    partitions = None
    if asked.topics is not None:
        partitions = tuple(
            (name, index)
            for topic, name in zip(asked.topics, names, strict=True)
            if name is not None
            for index in topic.partition_indexes
        )
    return await context.rooms.groups.fetch_offsets(
        OffsetFetchRequest(
            group_id=asked.group_id,
            partitions=partitions,
            require_stable=require_stable,
            member_id=get(asked, "member_id", None),
            member_epoch=get(asked, "member_epoch", NONE_ID),
        )
    )


def _topics(
    asked: Any, names: Sequence[str | None], answer: OffsetFetchAnswer, context: RequestContext
) -> tuple[Any, ...]:
    """In the order of the request; none with an error of the group as a whole."""
    if answer.error is not ErrorCode.NONE:
        return ()
    kind = _kind(context, "Topic")
    if asked.topics is None:
        return _all(kind, answer.offsets, context)
    answers = iter(answer.offsets)
    return tuple(
        make(
            kind,
            name=name,
            topic_id=get(topic, "topic_id", None),
            partitions=tuple(
                _partition(
                    CommittedOffset("", index, None, error=ErrorCode.UNKNOWN_TOPIC_ID)
                    if name is None
                    else next(answers),
                    context,
                )
                for index in topic.partition_indexes
            ),
        )
        for topic, name in zip(asked.topics, names, strict=True)
    )


def _all(kind: Any, offsets: Iterable[CommittedOffset], context: RequestContext) -> tuple[Any, ...]:
    """Where topics are named by their ids, the offsets of one that is gone cannot be told."""
    image = context.rooms.image()
    by_id = context.api_version >= _TOPIC_ID_VERSION
    return tuple(
        make(
            kind,
            name=name,
            topic_id=image.topics[name].topic_id if by_id else None,
            partitions=tuple(_partition(each, context) for each in of_topic),
        )
        for name, of_topic in groupby(offsets, key=lambda each: each.topic)
        if not by_id or name in image.topics
    )


def _partition(committed: CommittedOffset, context: RequestContext) -> Any:
    return make(
        _kind(context, "Partition"),
        partition_index=committed.partition,
        committed_offset=number(committed.offset),
        committed_leader_epoch=number(committed.leader_epoch),
        metadata=committed.metadata,
        error_code=committed.error,
    )


def _kind(context: RequestContext, part: str) -> Any:
    """kio names the parts of a batched answer in the plural."""
    plural = "s" if context.api_version >= _BATCHED_VERSION else ""
    return getattr(context.schema, f"OffsetFetchResponse{part}{plural}")
