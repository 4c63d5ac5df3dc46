"""DescribeQuorum (key 55), versions 0 to 2: the controllers, as partition 0 of topic __cluster_metadata (KIP-595).

    1    when each voter fetched, and was caught up (KIP-836): not known here, -1
    2    error messages, and where the controllers listen (KIP-853)

Offsets are those of the Raft log. Brokers follow the metadata through any controller: there are no observers.
"""

from __future__ import annotations

from typing import Any, Final

from ...proto.controller_pb2 import DescribeQuorumResponse, QuorumNode
from ...proto.errors import ErrorCode
from ...proto.identifiers import NONE_ID
from .fields import CLUSTER_METADATA_TOPIC
from .messages import make
from .rooms import RequestContext

_LISTENER: Final = "CONTROLLER"
_EPOCH_MAX: Final = 2**31 - 1


async def handle(request: Any, context: RequestContext) -> Any:
    """What the active controller knows, or any that answers."""
    asked = [(topic.topic_name, tuple(part.partition_index for part in topic.partitions)) for topic in request.topics]
    if asked != [(CLUSTER_METADATA_TOPIC, (0,))]:
        return _answer(
            context, [(name, partitions, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) for name, partitions in asked]
        )
    quorum = await context.rooms.admin.controller.describe_quorum()
    if quorum is None:
        message = "no controller answers"
        return make(
            context.schema.DescribeQuorumResponse,
            error_code=ErrorCode.REQUEST_TIMED_OUT,
            error_message=message,
            topics=(),
            nodes=(),
        )
    leads = quorum.active_controller_id != NONE_ID
    error = ErrorCode.NONE if leads else ErrorCode.NOT_LEADER_OR_FOLLOWER
    return _answer(context, [(CLUSTER_METADATA_TOPIC, (0,), error)], quorum if leads else None)


def _answer(
    context: RequestContext,
    topics: list[tuple[str, tuple[int, ...], ErrorCode]],
    quorum: DescribeQuorumResponse | None = None,
) -> Any:
    schema = context.schema
    return make(
        schema.DescribeQuorumResponse,
        error_code=ErrorCode.NONE,
        error_message=None,
        topics=tuple(
            schema.TopicData(
                topic_name=name,
                partitions=tuple(_partition(schema, partition, error, quorum) for partition in partitions),
            )
            for name, partitions, error in topics
        ),
        nodes=tuple(_node(schema, node) for node in quorum.nodes) if quorum and context.api_version >= 2 else (),
    )


def _partition(schema: Any, partition: int, error: ErrorCode, quorum: DescribeQuorumResponse | None) -> Any:
    return make(
        schema.PartitionData,
        partition_index=partition,
        error_code=error,
        error_message=error.message if error else None,
        leader_id=NONE_ID if quorum is None else quorum.active_controller_id,
        leader_epoch=NONE_ID if quorum is None else min(quorum.controller_epoch, _EPOCH_MAX),
        high_watermark=NONE_ID if quorum is None else quorum.commit_index,
        current_voters=() if quorum is None else tuple(_voter(schema, node) for node in quorum.nodes),
        observers=(),
    )


def _voter(schema: Any, node: QuorumNode) -> Any:
    return make(
        schema.ReplicaState,
        replica_id=node.controller_id,
        replica_directory_id=None,
        log_end_offset=node.log_end_index,
        last_fetch_timestamp=NONE_ID,
        last_caught_up_timestamp=NONE_ID,
    )


def _node(schema: Any, node: QuorumNode) -> Any:
    listener = schema.Listener(name=_LISTENER, host=node.host, port=node.port)
    return schema.Node(node_id=node.controller_id, listeners=(listener,))
