"""The one table of APIs: key, name, versions served, and who handles it. ApiVersions is answered from it.

A handler is the function `handle(request, context)` of the module that bears the API's name; it takes kio's request
and returns kio's response (or an awaitable of it). Its module is imported at the API's first request.

Versions: all that Apache Kafka 4.x serves, and the older ones that kio has. Where a later version is left out, the
row says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Api:
    """One row. `name` is kio's name of the message and the name of the module here."""

    key: int
    name: str
    min_version: int
    max_version: int
    pipelined: bool = False  # may begin before the requests like it ahead of it on its connection are answered
    by_hand: bool = False  # the handler takes and gives bytes: `handle(frame, position, context)`, see connection.py
    bulky: bool = False  # carries what programs make, which may be large
    advertised_min_version: int | None = None  # what ApiVersions says instead of `min_version`


_ROWS: Final = (
    # Older librdkafka (2.0.2, for one) takes a broker that does not name version 0 for one that knows no gzip, snappy
    # or lz4, and sends everything uncompressed. So Apache Kafka 4 names it too, and serves it as little (KAFKA-18659).
    Api(0, "produce", 3, 13, pipelined=True, by_hand=True, bulky=True, advertised_min_version=0),
    Api(1, "fetch", 4, 18, by_hand=True),
    Api(2, "list_offsets", 1, 11),
    Api(3, "metadata", 0, 13),
    Api(8, "offset_commit", 2, 10),
    Api(9, "offset_fetch", 1, 10),
    Api(10, "find_coordinator", 0, 6),
    Api(11, "join_group", 0, 9),
    Api(12, "heartbeat", 0, 4),
    Api(13, "leave_group", 0, 5),
    Api(14, "sync_group", 0, 5, bulky=True),
    Api(15, "describe_groups", 0, 6),
    Api(16, "list_groups", 0, 5),
    Api(18, "api_versions", 0, 4),
    Api(19, "create_topics", 2, 7),
    Api(20, "delete_topics", 1, 6),
    Api(21, "delete_records", 0, 2),
    Api(22, "init_producer_id", 0, 5),  # 6 is for two-phase commit (KIP-939)
    Api(23, "offset_for_leader_epoch", 2, 4),
    Api(32, "describe_configs", 1, 4),
    Api(33, "alter_configs", 0, 2),
    Api(35, "describe_log_dirs", 1, 5),
    Api(37, "create_partitions", 0, 3),
    Api(42, "delete_groups", 0, 2),
    Api(43, "elect_leaders", 0, 2),
    Api(44, "incremental_alter_configs", 0, 1),
    Api(45, "alter_partition_reassignments", 0, 1),
    Api(46, "list_partition_reassignments", 0, 0),
    Api(47, "offset_delete", 0, 0),
    Api(55, "describe_quorum", 0, 2),
    Api(60, "describe_cluster", 0, 2),
    Api(61, "describe_producers", 0, 0),
    Api(68, "consumer_group_heartbeat", 0, 1),
    Api(69, "consumer_group_describe", 0, 1),
    Api(71, "get_telemetry_subscriptions", 0, 0),
    Api(72, "push_telemetry", 0, 0),
    Api(75, "describe_topic_partitions", 0, 0),
)

APIS: Final[Mapping[int, Api]] = {row.key: row for row in _ROWS}
