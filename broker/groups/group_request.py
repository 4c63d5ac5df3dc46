"""What is asked of a group coordinator, and what it answers: values, whatever door they came by. Pure.

The words are those of Kafka's JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit, OffsetFetch, OffsetDelete,
ListGroups, DescribeGroups, DeleteGroups, ConsumerGroupHeartbeat and ConsumerGroupDescribe. "None" is None here, never
-1; only `member_id` is "" for a member that has none yet, as it is part of many keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ...proto.errors import ErrorCode
from ...proto.identifiers import LeaderEpoch, Offset, TopicId

UNKNOWN_MEMBER_ID: Final = ""
NO_GENERATION: Final = -1
CONSUMER_PROTOCOL_TYPE: Final = "consumer"


class GroupType(Enum):
    """Which protocol a group speaks; the values are Kafka's words."""

    CLASSIC = "classic"
    CONSUMER = "consumer"


class GroupState(Enum):
    """The values are Kafka's words. ASSIGNING and RECONCILING belong to GroupType.CONSUMER alone."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    DEAD = "Dead"


# --- the classic protocol ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JoinRequest:
    group_id: str
    member_id: str
    group_instance_id: str | None  # KIP-345
    client_id: str
    client_host: str  # "/127.0.0.1", as Kafka writes it
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]  # name and metadata, in order of preference
    session_timeout_ms: int
    rebalance_timeout_ms: int
    require_known_member_id: bool  # KIP-394: the client understands MEMBER_ID_REQUIRED (JoinGroup version 4 and up)
    supports_skipping_assignment: bool  # KIP-814 (JoinGroup version 9 and up)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class JoinedMember:
    member_id: str
    group_instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    error: ErrorCode
    member_id: str = UNKNOWN_MEMBER_ID
    generation_id: int = NO_GENERATION
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader: str = ""
    skip_assignment: bool = False
    members: tuple[JoinedMember, ...] = ()  # for the leader alone


@dataclass(frozen=True, slots=True)
class SyncRequest:
    group_id: str
    generation_id: int
    member_id: str
    group_instance_id: str | None
    protocol_type: str | None  # None: not told (before version 5); else checked
    protocol_name: str | None
    assignments: Mapping[str, bytes]  # by member id; the leader's alone count


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    error: ErrorCode
    protocol_type: str | None = None
    protocol_name: str | None = None
    assignment: bytes = b""


@dataclass(frozen=True, slots=True)
class HeartbeatRequest:
    group_id: str
    generation_id: int
    member_id: str
    group_instance_id: str | None


@dataclass(frozen=True, slots=True)
class LeavingMember:
    member_id: str
    group_instance_id: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LeaveRequest:
    group_id: str
    members: tuple[LeavingMember, ...]


@dataclass(frozen=True, slots=True)
class LeaveAnswer:
    """`members` has one entry for each in the request, in its order."""

    error: ErrorCode
    members: tuple[tuple[LeavingMember, ErrorCode], ...] = ()


# --- offsets ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OffsetToCommit:
    topic: str
    partition: int
    offset: Offset
    leader_epoch: LeaderEpoch | None
    metadata: str
    topic_id: TopicId | None = None
    commit_timestamp_ms: int | None = None  # None: now
    expire_timestamp_ms: int | None = None  # None: by offsets.retention.minutes


@dataclass(frozen=True, slots=True)
class OffsetCommitRequest:
    group_id: str
    generation_or_member_epoch: int  # NO_GENERATION with member_id "": from outside of the group protocol
    member_id: str
    group_instance_id: str | None
    offsets: tuple[OffsetToCommit, ...]
    understands_member_epochs: bool = False  # knows the errors of KIP-848 (OffsetCommit version 9 and up)


@dataclass(frozen=True, slots=True)
class OffsetCommitAnswer:
    """One error for each offset of the request, in its order."""

    errors: tuple[ErrorCode, ...]


@dataclass(frozen=True, slots=True)
class OffsetFetchRequest:
    group_id: str
    partitions: tuple[tuple[str, int], ...] | None  # None: all that the group has committed
    require_stable: bool = False
    member_id: str | None = None  # with a member epoch: checked (version 9 and up)
    member_epoch: int = NO_GENERATION


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """`offset` is None where nothing is committed."""

    topic: str
    partition: int
    offset: Offset | None
    leader_epoch: LeaderEpoch | None = None
    metadata: str = ""
    error: ErrorCode = ErrorCode.NONE


@dataclass(frozen=True, slots=True)
class OffsetFetchAnswer:
    error: ErrorCode
    offsets: tuple[CommittedOffset, ...] = ()


@dataclass(frozen=True, slots=True)
class OffsetDeleteAnswer:
    """One error for each partition of the request, in its order; empty when `error` says it all."""

    error: ErrorCode
    errors: tuple[ErrorCode, ...] = ()


# --- lists and descriptions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListedGroup:
    group_id: str
    protocol_type: str
    state: GroupState
    type: GroupType


@dataclass(frozen=True, slots=True)
class DescribedMember:
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True)
class DescribedGroup:
    """An answer of DescribeGroups; an unknown group is DEAD (GROUP_ID_NOT_FOUND from version 6 on, KIP-1043)."""

    group_id: str
    error: ErrorCode
    message: str = ""
    state: GroupState = GroupState.DEAD
    type: GroupType = GroupType.CLASSIC
    protocol_type: str = ""
    protocol_name: str = ""
    members: tuple[DescribedMember, ...] = ()


# --- KIP-848 ----------------------------------------------------------------------------------------------------


Partitions = Mapping[TopicId, tuple[int, ...]]
"""Partitions by topic id; in ascending order."""


@dataclass(frozen=True, slots=True)
class ConsumerGroupHeartbeatRequest:
    """None means "as in the last heartbeat"."""

    group_id: str
    member_id: str
    member_epoch: int  # 0: join, -1: leave, -2: leave for a while (static member)
    group_instance_id: str | None
    rack_id: str | None
    rebalance_timeout_ms: int | None
    subscribed_topic_names: tuple[str, ...] | None
    subscribed_topic_regex: str | None
    server_assignor: str | None
    owned_partitions: Partitions | None
    client_id: str = ""
    client_host: str = ""


@dataclass(frozen=True, slots=True)
class ConsumerGroupHeartbeatAnswer:
    """`assignment` is None where it has not changed."""

    error: ErrorCode
    message: str = ""
    member_id: str | None = None
    member_epoch: int = 0
    heartbeat_interval_ms: int = 0
    assignment: Partitions | None = None


@dataclass(frozen=True, slots=True)
class DescribedConsumer:
    member_id: str
    group_instance_id: str | None
    rack_id: str | None
    member_epoch: int
    client_id: str
    client_host: str
    subscribed_topic_names: tuple[str, ...]
    subscribed_topic_regex: str | None
    assignment: Partitions
    target_assignment: Partitions
    is_classic: bool = False


@dataclass(frozen=True, slots=True)
class DescribedConsumerGroup:
    group_id: str
    error: ErrorCode
    message: str = ""
    state: GroupState = GroupState.DEAD
    group_epoch: int = 0
    assignment_epoch: int = 0
    assignor_name: str = ""
    members: tuple[DescribedConsumer, ...] = ()
