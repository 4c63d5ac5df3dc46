"""ElectLeaders (key 43), versions 0 to 2: preferred leaders (KIP-183), or any leader where there is none (KIP-460).

    1    the kind of election, and an error of the whole answer
    2    flexible

Null partitions stand for all of them; then those that need no election are left out. The rules are the controllers'
(`controller/election.py`).
"""

from __future__ import annotations

from typing import Any

from ...proto.command_pb2 import Command, ElectLeadersCommand, TopicPartitionReference
from ...proto.errors import ErrorCode
from .fields import milliseconds
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext


async def handle(request: Any, context: RequestContext) -> Any:
    """Each partition by itself; answered when this broker knows of the new leaders."""
    asked = request.topic_partitions
    named = [(topic.topic, partition) for topic in asked or () for partition in topic.partitions]
    if asked is not None and not named:
        return _answer(context, ErrorCode.NONE, [])
    command = ElectLeadersCommand(
        election_type=get(request, "election_type", 0),
        partitions=[TopicPartitionReference(topic=topic, partition=partition) for topic, partition in named],
        all_partitions=asked is None,
    )
    response = await context.rooms.admin.submit(Command(elect_leaders=command), milliseconds(request.timeout))
    if response.error_code:
        error = ErrorCode.of(response.error_code)
        return _answer(context, error, [(*each, error, response.error_message) for each in dict.fromkeys(named)])
    return _answer(
        context,
        ErrorCode.NONE,
        [
            (outcome.topic, outcome.partition, ErrorCode.of(outcome.error_code), outcome.error_message)
            for outcome in response.elect_leaders.partitions
        ],
    )


def _answer(context: RequestContext, error: ErrorCode, outcomes: list[tuple[str, int, ErrorCode, str]]) -> Any:
    topics: dict[str, list[Any]] = {}
    for topic, partition, partition_error, message in outcomes:
        topics.setdefault(topic, []).append(
            context.schema.PartitionResult(
                partition_id=partition,
                error_code=partition_error,
                error_message=(message or partition_error.message) if partition_error else None,
            )
        )
    return make(
        context.schema.ElectLeadersResponse,
        throttle_time=NO_THROTTLE,
        error_code=error,
        replica_election_results=tuple(
            context.schema.ReplicaElectionResult(topic=topic, partition_result=tuple(results))
            for topic, results in topics.items()
        ),
    )
