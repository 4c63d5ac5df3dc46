"""DescribeLogDirs (key 35), versions 1 to 5: what the logs on this broker take up (KIP-113).

    2    flexible
    3    an error of the whole answer, which there is none of here
    4    the size of the disk, and what is left of it (KIP-827)
    5    whether the folder takes no more logs (KIP-1066): it always does

A broker has one folder.
"""

from __future__ import annotations

from typing import Any

from ...proto.errors import ErrorCode
from ...proto.identifiers import NONE_ID
from ..log.partition_log import PartitionLog
from .messages import NO_THROTTLE, make
from .rooms import RequestContext


def handle(request: Any, context: RequestContext) -> Any:
    """The folder with the logs asked for, or all of them."""
    schema, log_manager = context.schema, context.rooms.log_manager
    wanted = None
    if request.topics is not None:
        wanted = {(topic.topic, partition) for topic in request.topics for partition in topic.partitions}
    topics: dict[str, list[Any]] = {}
    for log in sorted(log_manager.logs.values(), key=lambda log: log.topic_partition):
        name = log.topic_partition
        if wanted is None or name in wanted:
            topics.setdefault(name.topic, []).append(_log(context, log))
    total_bytes, usable_bytes = log_manager.disk_space()
    result = make(
        schema.DescribeLogDirsResult,
        error_code=ErrorCode.NONE,
        log_dir=log_manager.folder,
        topics=tuple(schema.DescribeLogDirsTopic(name=name, partitions=tuple(logs)) for name, logs in topics.items()),
        total_bytes=total_bytes,
        usable_bytes=usable_bytes,
        is_cordoned=False,
    )
    return make(schema.DescribeLogDirsResponse, throttle_time=NO_THROTTLE, error_code=ErrorCode.NONE, results=(result,))


def _log(context: RequestContext, log: PartitionLog) -> Any:
    partition = context.rooms.replica_manager.get(*log.topic_partition)
    # Behind the high watermark that this replica knows, which never passes its own log end.
    lag = NONE_ID if partition is None else max(0, partition.high_watermark - log.log_end_offset)
    return context.schema.DescribeLogDirsPartition(
        partition_index=log.topic_partition.partition,
        partition_size=log.size_bytes,
        offset_lag=lag,
        is_future_key=False,
    )
