"""One table of errors: Kafka's number and name, whether a retry may help, the exception, the gRPC status.

An error that the protocol foresees is a value, `ErrorCode`. What is raised to a user of the SDK is a `KafkaError`:

    KafkaError
    +-- RetriableError         the same call may succeed later; nothing needs to change
    |   +-- NotLeaderOrFollowerError, RequestTimedOutError, ...
    +-- NotLeaderOrFollowerError and all others: one class for each code, named as in kafka-python
    +-- NodeNotReadyError, KafkaTimeoutError, ...: failures on the client's own side, with no code on the wire

The numbers are Kafka's (https://kafka.apache.org/protocol#protocol_error_codes).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final


class ErrorCode(IntEnum):
    """Kafka's error numbers, as far as Klamm uses them."""

    NONE = 0
    UNKNOWN_SERVER_ERROR = -1
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    BROKER_NOT_AVAILABLE = 8
    REPLICA_NOT_AVAILABLE = 9
    MESSAGE_TOO_LARGE = 10
    STALE_CONTROLLER_EPOCH = 11
    OFFSET_METADATA_TOO_LARGE = 12
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    INVALID_TOPIC_EXCEPTION = 17
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    INVALID_REQUIRED_ACKS = 21
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    INVALID_COMMIT_OFFSET_SIZE = 28
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_REPLICA_ASSIGNMENT = 39
    INVALID_CONFIG = 40
    NOT_CONTROLLER = 41
    INVALID_REQUEST = 42
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    KAFKA_STORAGE_ERROR = 56
    LOG_DIR_NOT_FOUND = 57
    UNKNOWN_PRODUCER_ID = 59
    REASSIGNMENT_IN_PROGRESS = 60
    NON_EMPTY_GROUP = 68
    GROUP_ID_NOT_FOUND = 69
    FETCH_SESSION_ID_NOT_FOUND = 70
    INVALID_FETCH_SESSION_EPOCH = 71
    LISTENER_NOT_FOUND = 72
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    UNSUPPORTED_COMPRESSION_TYPE = 76
    STALE_BROKER_EPOCH = 77
    OFFSET_NOT_AVAILABLE = 78
    MEMBER_ID_REQUIRED = 79
    PREFERRED_LEADER_NOT_AVAILABLE = 80
    GROUP_MAX_SIZE_REACHED = 81
    FENCED_INSTANCE_ID = 82
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83
    ELECTION_NOT_NEEDED = 84
    NO_REASSIGNMENT_IN_PROGRESS = 85
    GROUP_SUBSCRIBED_TO_TOPIC = 86
    INVALID_RECORD = 87
    UNSTABLE_OFFSET_COMMIT = 88
    THROTTLING_QUOTA_EXCEEDED = 89
    PRODUCER_FENCED = 90
    INVALID_UPDATE_VERSION = 95
    UNKNOWN_TOPIC_ID = 100
    DUPLICATE_BROKER_REGISTRATION = 101
    BROKER_ID_NOT_REGISTERED = 102
    INCONSISTENT_TOPIC_ID = 103
    INCONSISTENT_CLUSTER_ID = 104
    FETCH_SESSION_TOPIC_ID_ERROR = 106
    INELIGIBLE_REPLICA = 107
    NEW_LEADER_ELECTED = 108
    FENCED_MEMBER_EPOCH = 110
    UNRELEASED_INSTANCE_ID = 111
    UNSUPPORTED_ASSIGNOR = 112
    STALE_MEMBER_EPOCH = 113
    MISMATCHED_ENDPOINT_TYPE = 114
    UNSUPPORTED_ENDPOINT_TYPE = 115
    UNKNOWN_CONTROLLER_ID = 116
    UNKNOWN_SUBSCRIPTION_ID = 117
    TELEMETRY_TOO_LARGE = 118
    INVALID_REGULAR_EXPRESSION = 128

    @property
    def retriable(self) -> bool:
        """True if the same request may succeed later."""
        return self is not ErrorCode.NONE and ERROR_TABLE[self].retriable

    @property
    def message(self) -> str:
        """One clause that says what is wrong; "" for NONE."""
        return "" if self is ErrorCode.NONE else ERROR_TABLE[self].message

    @classmethod
    def of(cls, number: int) -> ErrorCode:
        """The code with this number; UNKNOWN_SERVER_ERROR for a number that this version does not know."""
        try:
            return cls(number)
        except ValueError:
            return cls.UNKNOWN_SERVER_ERROR


class KafkaError(Exception):
    """Anything that went wrong with a request; `error_code` is what it is called on the wire."""

    error_code: ClassVar[ErrorCode] = ErrorCode.UNKNOWN_SERVER_ERROR
    retriable: ClassVar[bool] = False

    def __str__(self) -> str:
        return ", ".join(str(argument) for argument in self.args) or self.error_code.message


class RetriableError(KafkaError):
    """The same call may succeed later."""

    retriable = True


class KafkaTimeoutError(RetriableError):
    """The client gave up waiting; where a write is concerned, whether it took effect is not known."""

    error_code = ErrorCode.REQUEST_TIMED_OUT


class NodeNotReadyError(RetriableError):
    """No broker could be reached."""

    error_code = ErrorCode.BROKER_NOT_AVAILABLE


class KafkaConfigurationError(KafkaError):
    """An argument of the client or an entry of a configuration file is not valid."""

    error_code = ErrorCode.INVALID_CONFIG


class IllegalStateError(KafkaError):
    """The call does not fit the state of the object: it is closed, or nothing is assigned."""

    error_code = ErrorCode.INVALID_REQUEST


class CommitFailedError(KafkaError):
    """Offsets were not committed: the consumer is no member of its group's current generation.

    Others may own its partitions by now; records since the last commit may be read again. `poll` joins the group anew.
    """

    error_code = ErrorCode.ILLEGAL_GENERATION


class NoOffsetForPartitionError(KafkaError):
    """Nothing is committed for the partition, and auto_offset_reset is "none"."""

    error_code = ErrorCode.OFFSET_OUT_OF_RANGE


class WakeupError(KafkaError):
    """poll() was ended by wakeup() from another thread."""

    error_code = ErrorCode.INVALID_REQUEST


class UnknownServerError(KafkaError):
    """The server failed in a way it did not foresee; its log says more."""

    error_code = ErrorCode.UNKNOWN_SERVER_ERROR


class OffsetOutOfRangeError(KafkaError):
    """The offset is below the log start or past the log end."""

    error_code = ErrorCode.OFFSET_OUT_OF_RANGE


class CorruptRecordError(RetriableError):
    """A record batch failed its checks (CRC, length, format or count)."""

    error_code = ErrorCode.CORRUPT_MESSAGE


class UnknownTopicOrPartitionError(RetriableError):
    """This broker knows no such topic or partition."""

    error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class LeaderNotAvailableError(RetriableError):
    """The partition has no leader at the moment."""

    error_code = ErrorCode.LEADER_NOT_AVAILABLE


class NotLeaderOrFollowerError(RetriableError):
    """This broker does not lead the partition."""

    error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER


class RequestTimedOutError(RetriableError):
    """The request ran out of time; whether it took effect is not known."""

    error_code = ErrorCode.REQUEST_TIMED_OUT


class BrokerNotAvailableError(KafkaError):
    """The broker is not available."""

    error_code = ErrorCode.BROKER_NOT_AVAILABLE


class ReplicaNotAvailableError(RetriableError):
    """The replica is not available on this broker."""

    error_code = ErrorCode.REPLICA_NOT_AVAILABLE


class MessageSizeTooLargeError(KafkaError):
    """The record batch is larger than max.message.bytes allows."""

    error_code = ErrorCode.MESSAGE_TOO_LARGE


class StaleControllerEpochError(KafkaError):
    """The controller epoch is older than the current one."""

    error_code = ErrorCode.STALE_CONTROLLER_EPOCH


class NetworkError(RetriableError):
    """The connection to the server broke before an answer came."""

    error_code = ErrorCode.NETWORK_EXCEPTION


class CoordinatorLoadInProgressError(RetriableError):
    """The coordinator is loading its state."""

    error_code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS


class CoordinatorNotAvailableError(RetriableError):
    """No coordinator is available at the moment."""

    error_code = ErrorCode.COORDINATOR_NOT_AVAILABLE


class NotCoordinatorError(RetriableError):
    """This broker is not the coordinator asked for."""

    error_code = ErrorCode.NOT_COORDINATOR


class InvalidTopicError(KafkaError):
    """The topic name is not legal."""

    error_code = ErrorCode.INVALID_TOPIC_EXCEPTION


class RecordListTooLargeError(KafkaError):
    """The record batch is larger than a segment may be."""

    error_code = ErrorCode.RECORD_LIST_TOO_LARGE


class NotEnoughReplicasError(RetriableError):
    """Fewer replicas are in sync than min.insync.replicas asks for; nothing was written."""

    error_code = ErrorCode.NOT_ENOUGH_REPLICAS


class NotEnoughReplicasAfterAppendError(RetriableError):
    """The ISR shrank below min.insync.replicas after the write; whether it stays is not known."""

    error_code = ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND


class InvalidRequiredAcksError(KafkaError):
    """Acks must be -1 (all), 0 or 1."""

    error_code = ErrorCode.INVALID_REQUIRED_ACKS


class IllegalGenerationError(KafkaError):
    """The group generation is not the current one."""

    error_code = ErrorCode.ILLEGAL_GENERATION


class UnknownMemberIdError(KafkaError):
    """The coordinator does not know this member."""

    error_code = ErrorCode.UNKNOWN_MEMBER_ID


class RebalanceInProgressError(KafkaError):
    """The group is rebalancing."""

    error_code = ErrorCode.REBALANCE_IN_PROGRESS


class TopicAuthorizationFailedError(KafkaError):
    """Not allowed to use this topic."""

    error_code = ErrorCode.TOPIC_AUTHORIZATION_FAILED


class ClusterAuthorizationFailedError(KafkaError):
    """Not allowed to use the cluster this way."""

    error_code = ErrorCode.CLUSTER_AUTHORIZATION_FAILED


class UnsupportedVersionError(KafkaError):
    """The version of the request is not supported."""

    error_code = ErrorCode.UNSUPPORTED_VERSION


class TopicAlreadyExistsError(KafkaError):
    """A topic of this name exists."""

    error_code = ErrorCode.TOPIC_ALREADY_EXISTS


class InvalidPartitionsError(KafkaError):
    """The number of partitions is not valid."""

    error_code = ErrorCode.INVALID_PARTITIONS


class InvalidReplicationFactorError(KafkaError):
    """The replication factor is below 1 or above the number of live brokers."""

    error_code = ErrorCode.INVALID_REPLICATION_FACTOR


class InvalidReplicationAssignmentError(KafkaError):
    """The replica assignment is not valid."""

    error_code = ErrorCode.INVALID_REPLICA_ASSIGNMENT


class InvalidConfigurationError(KafkaError):
    """A configuration key or value is not valid."""

    error_code = ErrorCode.INVALID_CONFIG


class NotControllerError(RetriableError):
    """This is not the active controller."""

    error_code = ErrorCode.NOT_CONTROLLER


class InvalidRequestError(KafkaError):
    """The request makes no sense."""

    error_code = ErrorCode.INVALID_REQUEST


class UnsupportedForMessageFormatError(KafkaError):
    """Only record batches of format v2 are taken."""

    error_code = ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT


class PolicyViolationError(KafkaError):
    """A limit of this cluster forbids it."""

    error_code = ErrorCode.POLICY_VIOLATION


class OutOfOrderSequenceNumberError(KafkaError):
    """The producer's sequence has a gap."""

    error_code = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


class DuplicateSequenceNumberError(KafkaError):
    """The sequence was appended before."""

    error_code = ErrorCode.DUPLICATE_SEQUENCE_NUMBER


class InvalidProducerEpochError(KafkaError):
    """A newer producer with this id took over."""

    error_code = ErrorCode.INVALID_PRODUCER_EPOCH


class KafkaStorageError(RetriableError):
    """The broker's disk failed; another replica will lead."""

    error_code = ErrorCode.KAFKA_STORAGE_ERROR


class LogDirNotFoundError(KafkaError):
    """No such log folder."""

    error_code = ErrorCode.LOG_DIR_NOT_FOUND


class UnknownProducerIdError(KafkaError):
    """The broker knows no such producer id."""

    error_code = ErrorCode.UNKNOWN_PRODUCER_ID


class ReassignmentInProgressError(KafkaError):
    """A reassignment of the partition is under way."""

    error_code = ErrorCode.REASSIGNMENT_IN_PROGRESS


class GroupIdNotFoundError(KafkaError):
    """No such group."""

    error_code = ErrorCode.GROUP_ID_NOT_FOUND


class FetchSessionIdNotFoundError(RetriableError):
    """No such fetch session."""

    error_code = ErrorCode.FETCH_SESSION_ID_NOT_FOUND


class ListenerNotFoundError(RetriableError):
    """The leader has no listener of this name."""

    error_code = ErrorCode.LISTENER_NOT_FOUND


class FencedLeaderEpochError(RetriableError):
    """The leader epoch in the request is older than the current one."""

    error_code = ErrorCode.FENCED_LEADER_EPOCH


class UnknownLeaderEpochError(RetriableError):
    """The leader epoch in the request is newer than this broker knows."""

    error_code = ErrorCode.UNKNOWN_LEADER_EPOCH


class UnsupportedCompressionTypeError(KafkaError):
    """The compression codec is not supported."""

    error_code = ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


class StaleBrokerEpochError(KafkaError):
    """The broker epoch is not the current one: a newer process runs under this id."""

    error_code = ErrorCode.STALE_BROKER_EPOCH


class OffsetNotAvailableError(RetriableError):
    """The new leader does not know its high watermark yet."""

    error_code = ErrorCode.OFFSET_NOT_AVAILABLE


class PreferredLeaderNotAvailableError(RetriableError):
    """The preferred leader is not in sync or not alive."""

    error_code = ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE


class EligibleLeadersNotAvailableError(RetriableError):
    """No replica is fit to lead."""

    error_code = ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE


class ElectionNotNeededError(KafkaError):
    """The partition has the leader it should have."""

    error_code = ErrorCode.ELECTION_NOT_NEEDED


class NoReassignmentInProgressError(KafkaError):
    """There is no reassignment to cancel."""

    error_code = ErrorCode.NO_REASSIGNMENT_IN_PROGRESS


class InvalidRecordError(KafkaError):
    """A record is not valid for this topic."""

    error_code = ErrorCode.INVALID_RECORD


class InvalidTimestampError(KafkaError):
    """A record's timestamp is outside what the topic allows."""

    error_code = ErrorCode.INVALID_TIMESTAMP


class UnstableOffsetCommitError(RetriableError):
    """An offset commit is still open."""

    error_code = ErrorCode.UNSTABLE_OFFSET_COMMIT


class ThrottlingQuotaExceededError(RetriableError):
    """A quota was exceeded."""

    error_code = ErrorCode.THROTTLING_QUOTA_EXCEEDED


class ProducerFencedError(KafkaError):
    """A newer producer with this transactional id took over."""

    error_code = ErrorCode.PRODUCER_FENCED


class InvalidUpdateVersionError(KafkaError):
    """The partition has changed since the request was made."""

    error_code = ErrorCode.INVALID_UPDATE_VERSION


class UnknownTopicIdError(RetriableError):
    """This broker knows no topic with this id."""

    error_code = ErrorCode.UNKNOWN_TOPIC_ID


class DuplicateBrokerRegistrationError(KafkaError):
    """A live broker holds this id."""

    error_code = ErrorCode.DUPLICATE_BROKER_REGISTRATION


class BrokerIdNotRegisteredError(KafkaError):
    """No broker of this id is registered."""

    error_code = ErrorCode.BROKER_ID_NOT_REGISTERED


class InconsistentTopicIdError(RetriableError):
    """The topic id is not the one the broker has for this name."""

    error_code = ErrorCode.INCONSISTENT_TOPIC_ID


class InconsistentClusterIdError(KafkaError):
    """The node belongs to another cluster."""

    error_code = ErrorCode.INCONSISTENT_CLUSTER_ID


class IneligibleReplicaError(KafkaError):
    """A new member of the ISR is fenced, leaving, or of an older epoch."""

    error_code = ErrorCode.INELIGIBLE_REPLICA


class NewLeaderElectedError(KafkaError):
    """The change ended the leadership of the broker that asked for it."""

    error_code = ErrorCode.NEW_LEADER_ELECTED


class UnknownControllerIdError(KafkaError):
    """No controller of this id."""

    error_code = ErrorCode.UNKNOWN_CONTROLLER_ID


class OffsetMetadataTooLargeError(KafkaError):
    """The metadata of the committed offset is too large."""

    error_code = ErrorCode.OFFSET_METADATA_TOO_LARGE


class InconsistentGroupProtocolError(KafkaError):
    """The member's protocols do not fit those of the group."""

    error_code = ErrorCode.INCONSISTENT_GROUP_PROTOCOL


class InvalidGroupIdError(KafkaError):
    """The group id is not valid."""

    error_code = ErrorCode.INVALID_GROUP_ID


class InvalidSessionTimeoutError(KafkaError):
    """The session time-out is outside the range that the broker allows."""

    error_code = ErrorCode.INVALID_SESSION_TIMEOUT


class InvalidCommitOffsetSizeError(KafkaError):
    """The committed offsets do not fit a record batch."""

    error_code = ErrorCode.INVALID_COMMIT_OFFSET_SIZE


class GroupAuthorizationFailedError(KafkaError):
    """Not allowed to use this group."""

    error_code = ErrorCode.GROUP_AUTHORIZATION_FAILED


class TransactionalIdAuthorizationFailedError(KafkaError):
    """Not allowed to use this transactional id."""

    error_code = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


class NonEmptyGroupError(KafkaError):
    """The group has members."""

    error_code = ErrorCode.NON_EMPTY_GROUP


class InvalidFetchSessionEpochError(RetriableError):
    """The epoch of the fetch session is not the next one."""

    error_code = ErrorCode.INVALID_FETCH_SESSION_EPOCH


class MemberIdRequiredError(KafkaError):
    """Join again with the member id that was given."""

    error_code = ErrorCode.MEMBER_ID_REQUIRED


class GroupMaxSizeReachedError(KafkaError):
    """The group has as many members as group.max.size allows."""

    error_code = ErrorCode.GROUP_MAX_SIZE_REACHED


class FencedInstanceIdError(KafkaError):
    """Another member took over this group.instance.id."""

    error_code = ErrorCode.FENCED_INSTANCE_ID


class GroupSubscribedToTopicError(KafkaError):
    """The group is subscribed to the topic."""

    error_code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC


class FetchSessionTopicIdError(RetriableError):
    """The fetch session was begun with topic names and goes on with ids, or the other way round."""

    error_code = ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


class FencedMemberEpochError(KafkaError):
    """The member epoch is not the current one; join again."""

    error_code = ErrorCode.FENCED_MEMBER_EPOCH


class UnreleasedInstanceIdError(KafkaError):
    """Another member still holds this group.instance.id."""

    error_code = ErrorCode.UNRELEASED_INSTANCE_ID


class UnsupportedAssignorError(KafkaError):
    """The group coordinator has no such assignor."""

    error_code = ErrorCode.UNSUPPORTED_ASSIGNOR


class StaleMemberEpochError(KafkaError):
    """The member epoch is older than the current one."""

    error_code = ErrorCode.STALE_MEMBER_EPOCH


class MismatchedEndpointTypeError(KafkaError):
    """The request was sent to a broker and asks for controllers."""

    error_code = ErrorCode.MISMATCHED_ENDPOINT_TYPE


class UnsupportedEndpointTypeError(KafkaError):
    """There is no endpoint of this type."""

    error_code = ErrorCode.UNSUPPORTED_ENDPOINT_TYPE


class UnknownSubscriptionIdError(KafkaError):
    """The telemetry subscription is not the current one."""

    error_code = ErrorCode.UNKNOWN_SUBSCRIPTION_ID


class TelemetryTooLargeError(KafkaError):
    """The telemetry is larger than is taken."""

    error_code = ErrorCode.TELEMETRY_TOO_LARGE


class InvalidRegularExpressionError(KafkaError):
    """The regular expression is not valid."""

    error_code = ErrorCode.INVALID_REGULAR_EXPRESSION


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What is to be known of one code."""

    retriable: bool
    grpc_status: str  # name of a member of grpc.StatusCode
    exception: type[KafkaError]
    message: str


ERROR_TABLE: Final[dict[ErrorCode, ErrorInfo]] = {
    ErrorCode.UNKNOWN_SERVER_ERROR: ErrorInfo(
        False,
        "UNKNOWN",
        UnknownServerError,
        "the server failed in a way it did not foresee; its log says more",
    ),
    ErrorCode.OFFSET_OUT_OF_RANGE: ErrorInfo(
        False, "OUT_OF_RANGE", OffsetOutOfRangeError, "the offset is below the log start or past the log end"
    ),
    ErrorCode.CORRUPT_MESSAGE: ErrorInfo(
        True,
        "DATA_LOSS",
        CorruptRecordError,
        "a record batch failed its checks (CRC, length, format or count)",
    ),
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorInfo(
        True, "NOT_FOUND", UnknownTopicOrPartitionError, "this broker knows no such topic or partition"
    ),
    ErrorCode.LEADER_NOT_AVAILABLE: ErrorInfo(
        True, "UNAVAILABLE", LeaderNotAvailableError, "the partition has no leader at the moment"
    ),
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorInfo(
        True, "UNAVAILABLE", NotLeaderOrFollowerError, "this broker does not lead the partition"
    ),
    ErrorCode.REQUEST_TIMED_OUT: ErrorInfo(
        True,
        "DEADLINE_EXCEEDED",
        RequestTimedOutError,
        "the request ran out of time; whether it took effect is not known",
    ),
    ErrorCode.BROKER_NOT_AVAILABLE: ErrorInfo(
        False, "UNAVAILABLE", BrokerNotAvailableError, "the broker is not available"
    ),
    ErrorCode.REPLICA_NOT_AVAILABLE: ErrorInfo(
        True, "UNAVAILABLE", ReplicaNotAvailableError, "the replica is not available on this broker"
    ),
    ErrorCode.MESSAGE_TOO_LARGE: ErrorInfo(
        False,
        "RESOURCE_EXHAUSTED",
        MessageSizeTooLargeError,
        "the record batch is larger than max.message.bytes allows",
    ),
    ErrorCode.STALE_CONTROLLER_EPOCH: ErrorInfo(
        False,
        "FAILED_PRECONDITION",
        StaleControllerEpochError,
        "the controller epoch is older than the current one",
    ),
    ErrorCode.NETWORK_EXCEPTION: ErrorInfo(
        True, "UNAVAILABLE", NetworkError, "the connection to the server broke before an answer came"
    ),
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: ErrorInfo(
        True, "UNAVAILABLE", CoordinatorLoadInProgressError, "the coordinator is loading its state"
    ),
    ErrorCode.COORDINATOR_NOT_AVAILABLE: ErrorInfo(
        True, "UNAVAILABLE", CoordinatorNotAvailableError, "no coordinator is available at the moment"
    ),
    ErrorCode.NOT_COORDINATOR: ErrorInfo(
        True, "UNAVAILABLE", NotCoordinatorError, "this broker is not the coordinator asked for"
    ),
    ErrorCode.INVALID_TOPIC_EXCEPTION: ErrorInfo(
        False, "INVALID_ARGUMENT", InvalidTopicError, "the topic name is not legal"
    ),
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorInfo(
        False,
        "RESOURCE_EXHAUSTED",
        RecordListTooLargeError,
        "the record batch is larger than a segment may be",
    ),
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorInfo(
        True,
        "UNAVAILABLE",
        NotEnoughReplicasError,
        "fewer replicas are in sync than min.insync.replicas asks for; nothing was written",
    ),
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorInfo(
        True,
        "UNAVAILABLE",
        NotEnoughReplicasAfterAppendError,
        "the ISR shrank below min.insync.replicas after the write; whether it stays is not known",
    ),
    ErrorCode.INVALID_REQUIRED_ACKS: ErrorInfo(
        False, "INVALID_ARGUMENT", InvalidRequiredAcksError, "acks must be -1 (all), 0 or 1"
    ),
    ErrorCode.ILLEGAL_GENERATION: ErrorInfo(
        False, "FAILED_PRECONDITION", IllegalGenerationError, "the group generation is not the current one"
    ),
    ErrorCode.UNKNOWN_MEMBER_ID: ErrorInfo(
        False, "FAILED_PRECONDITION", UnknownMemberIdError, "the coordinator does not know this member"
    ),
    ErrorCode.REBALANCE_IN_PROGRESS: ErrorInfo(
        False, "FAILED_PRECONDITION", RebalanceInProgressError, "the group is rebalancing"
    ),
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: ErrorInfo(
        False, "PERMISSION_DENIED", TopicAuthorizationFailedError, "not allowed to use this topic"
    ),
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: ErrorInfo(
        False, "PERMISSION_DENIED", ClusterAuthorizationFailedError, "not allowed to use the cluster this way"
    ),
    ErrorCode.UNSUPPORTED_VERSION: ErrorInfo(
        False, "UNIMPLEMENTED", UnsupportedVersionError, "the version of the request is not supported"
    ),
    ErrorCode.TOPIC_ALREADY_EXISTS: ErrorInfo(
        False, "ALREADY_EXISTS", TopicAlreadyExistsError, "a topic of this name exists"
    ),
    ErrorCode.INVALID_PARTITIONS: ErrorInfo(
        False, "INVALID_ARGUMENT", InvalidPartitionsError, "the number of partitions is not valid"
    ),
    ErrorCode.INVALID_REPLICATION_FACTOR: ErrorInfo(
        False,
        "INVALID_ARGUMENT",
        InvalidReplicationFactorError,
        "the replication factor is below 1 or above the number of live brokers",
    ),
    ErrorCode.INVALID_REPLICA_ASSIGNMENT: ErrorInfo(
        False, "INVALID_ARGUMENT", InvalidReplicationAssignmentError, "the replica assignment is not valid"
    ),
    ErrorCode.INVALID_CONFIG: ErrorInfo(
        False, "INVALID_ARGUMENT", InvalidConfigurationError, "a configuration key or value is not valid"
    ),
    ErrorCode.NOT_CONTROLLER: ErrorInfo(True, "UNAVAILABLE", NotControllerError, "this is not the active controller"),
    ErrorCode.INVALID_REQUEST: ErrorInfo(False, "INVALID_ARGUMENT", InvalidRequestError, "the request makes no sense"),
    ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT: ErrorInfo(
        False, "UNIMPLEMENTED", UnsupportedForMessageFormatError, "only record batches of format v2 are taken"
    ),
    ErrorCode.POLICY_VIOLATION: ErrorInfo(
        False, "FAILED_PRECONDITION", PolicyViolationError, "a limit of this cluster forbids it"
    ),
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER: ErrorInfo(
        False, "FAILED_PRECONDITION", OutOfOrderSequenceNumberError, "the producer's sequence has a gap"
    ),
    ErrorCode.DUPLICATE_SEQUENCE_NUMBER: ErrorInfo(
        False, "ALREADY_EXISTS", DuplicateSequenceNumberError, "the sequence was appended before"
    ),
    ErrorCode.INVALID_PRODUCER_EPOCH: ErrorInfo(
        False, "FAILED_PRECONDITION", InvalidProducerEpochError, "a newer producer with this id took over"
    ),
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorInfo(
        True, "UNAVAILABLE", KafkaStorageError, "the broker's disk failed; another replica will lead"
    ),
    ErrorCode.LOG_DIR_NOT_FOUND: ErrorInfo(False, "NOT_FOUND", LogDirNotFoundError, "no such log folder"),
    ErrorCode.UNKNOWN_PRODUCER_ID: ErrorInfo(
        False, "FAILED_PRECONDITION", UnknownProducerIdError, "the broker knows no such producer id"
    ),
    ErrorCode.REASSIGNMENT_IN_PROGRESS: ErrorInfo(
        False,
        "FAILED_PRECONDITION",
        ReassignmentInProgressError,
        "a reassignment of the partition is under way",
    ),
    ErrorCode.GROUP_ID_NOT_FOUND: ErrorInfo(False, "NOT_FOUND", GroupIdNotFoundError, "no such group"),
    ErrorCode.FETCH_SESSION_ID_NOT_FOUND: ErrorInfo(
        True, "NOT_FOUND", FetchSessionIdNotFoundError, "no such fetch session"
    ),
    ErrorCode.LISTENER_NOT_FOUND: ErrorInfo(
        True, "NOT_FOUND", ListenerNotFoundError, "the leader has no listener of this name"
    ),
    ErrorCode.FENCED_LEADER_EPOCH: ErrorInfo(
        True,
        "FAILED_PRECONDITION",
        FencedLeaderEpochError,
        "the leader epoch in the request is older than the current one",
    ),
    ErrorCode.UNKNOWN_LEADER_EPOCH: ErrorInfo(
        True,
        "UNAVAILABLE",
        UnknownLeaderEpochError,
        "the leader epoch in the request is newer than this broker knows",
    ),
    ErrorCode.UNSUPPORTED_COMPRESSION_TYPE: ErrorInfo(
        False, "UNIMPLEMENTED", UnsupportedCompressionTypeError, "the compression codec is not supported"
    ),
    ErrorCode.STALE_BROKER_EPOCH: ErrorInfo(
        False,
        "FAILED_PRECONDITION",
        StaleBrokerEpochError,
        "the broker epoch is not the current one: a newer process runs under this id",
    ),
    ErrorCode.OFFSET_NOT_AVAILABLE: ErrorInfo(
        True, "UNAVAILABLE", OffsetNotAvailableError, "the new leader does not know its high watermark yet"
    ),
    ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE: ErrorInfo(
        True,
        "UNAVAILABLE",
        PreferredLeaderNotAvailableError,
        "the preferred leader is not in sync or not alive",
    ),
    ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE: ErrorInfo(
        True, "UNAVAILABLE", EligibleLeadersNotAvailableError, "no replica is fit to lead"
    ),
    ErrorCode.ELECTION_NOT_NEEDED: ErrorInfo(
        False, "FAILED_PRECONDITION", ElectionNotNeededError, "the partition has the leader it should have"
    ),
    ErrorCode.NO_REASSIGNMENT_IN_PROGRESS: ErrorInfo(
        False, "FAILED_PRECONDITION", NoReassignmentInProgressError, "there is no reassignment to cancel"
    ),
    ErrorCode.INVALID_RECORD: ErrorInfo(
        False, "INVALID_ARGUMENT", InvalidRecordError, "a record is not valid for this topic"
    ),
    ErrorCode.INVALID_TIMESTAMP: ErrorInfo(
        False,
        "INVALID_ARGUMENT",
        InvalidTimestampError,
        "a record's timestamp is outside what the topic allows",
    ),
    ErrorCode.UNSTABLE_OFFSET_COMMIT: ErrorInfo(
        True, "UNAVAILABLE", UnstableOffsetCommitError, "an offset commit is still open"
    ),
    ErrorCode.THROTTLING_QUOTA_EXCEEDED: ErrorInfo(
        True, "RESOURCE_EXHAUSTED", ThrottlingQuotaExceededError, "a quota was exceeded"
    ),
    ErrorCode.PRODUCER_FENCED: ErrorInfo(
        False,
        "FAILED_PRECONDITION",
        ProducerFencedError,
        "a newer producer with this transactional id took over",
    ),
    ErrorCode.INVALID_UPDATE_VERSION: ErrorInfo(
        False,
        "FAILED_PRECONDITION",
        InvalidUpdateVersionError,
        "the partition has changed since the request was made",
    ),
    ErrorCode.UNKNOWN_TOPIC_ID: ErrorInfo(
        True, "NOT_FOUND", UnknownTopicIdError, "this broker knows no topic with this id"
    ),
    ErrorCode.DUPLICATE_BROKER_REGISTRATION: ErrorInfo(
        False, "ALREADY_EXISTS", DuplicateBrokerRegistrationError, "a live broker holds this id"
    ),
    ErrorCode.BROKER_ID_NOT_REGISTERED: ErrorInfo(
        False, "NOT_FOUND", BrokerIdNotRegisteredError, "no broker of this id is registered"
    ),
    ErrorCode.INCONSISTENT_TOPIC_ID: ErrorInfo(
        True,
        "FAILED_PRECONDITION",
        InconsistentTopicIdError,
        "the topic id is not the one the broker has for this name",
    ),
    ErrorCode.INCONSISTENT_CLUSTER_ID: ErrorInfo(
        False, "FAILED_PRECONDITION", InconsistentClusterIdError, "the node belongs to another cluster"
    ),
    ErrorCode.INELIGIBLE_REPLICA: ErrorInfo(
        False,
        "FAILED_PRECONDITION",
        IneligibleReplicaError,
        "a new member of the ISR is fenced, leaving, or of an older epoch",
    ),
    ErrorCode.NEW_LEADER_ELECTED: ErrorInfo(
        False,
        "FAILED_PRECONDITION",
        NewLeaderElectedError,
        "the change ended the leadership of the broker that asked for it",
    ),
    ErrorCode.UNKNOWN_CONTROLLER_ID: ErrorInfo(
        False, "NOT_FOUND", UnknownControllerIdError, "no controller of this id"
    ),
    ErrorCode.OFFSET_METADATA_TOO_LARGE: ErrorInfo(
        False, "INVALID_ARGUMENT", OffsetMetadataTooLargeError, "the metadata of the committed offset is too large"
    ),
    ErrorCode.INCONSISTENT_GROUP_PROTOCOL: ErrorInfo(
        False,
        "FAILED_PRECONDITION",
        InconsistentGroupProtocolError,
        "the member's protocols do not fit those of the group",
    ),
    ErrorCode.INVALID_GROUP_ID: ErrorInfo(False, "INVALID_ARGUMENT", InvalidGroupIdError, "the group id is not valid"),
    ErrorCode.INVALID_SESSION_TIMEOUT: ErrorInfo(
        False,
        "INVALID_ARGUMENT",
        InvalidSessionTimeoutError,
        "the session time-out is outside the range that the broker allows",
    ),
    ErrorCode.INVALID_COMMIT_OFFSET_SIZE: ErrorInfo(
        False, "RESOURCE_EXHAUSTED", InvalidCommitOffsetSizeError, "the committed offsets do not fit a record batch"
    ),
    ErrorCode.GROUP_AUTHORIZATION_FAILED: ErrorInfo(
        False, "PERMISSION_DENIED", GroupAuthorizationFailedError, "not allowed to use this group"
    ),
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ErrorInfo(
        False,
        "PERMISSION_DENIED",
        TransactionalIdAuthorizationFailedError,
        "not allowed to use this transactional id",
    ),
    ErrorCode.NON_EMPTY_GROUP: ErrorInfo(False, "FAILED_PRECONDITION", NonEmptyGroupError, "the group has members"),
    ErrorCode.INVALID_FETCH_SESSION_EPOCH: ErrorInfo(
        True, "FAILED_PRECONDITION", InvalidFetchSessionEpochError, "the epoch of the fetch session is not the next one"
    ),
    ErrorCode.MEMBER_ID_REQUIRED: ErrorInfo(
        False, "FAILED_PRECONDITION", MemberIdRequiredError, "join again with the member id that was given"
    ),
    ErrorCode.GROUP_MAX_SIZE_REACHED: ErrorInfo(
        False, "RESOURCE_EXHAUSTED", GroupMaxSizeReachedError, "the group has as many members as group.max.size allows"
    ),
    ErrorCode.FENCED_INSTANCE_ID: ErrorInfo(
        False, "FAILED_PRECONDITION", FencedInstanceIdError, "another member took over this group.instance.id"
    ),
    ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC: ErrorInfo(
        False, "FAILED_PRECONDITION", GroupSubscribedToTopicError, "the group is subscribed to the topic"
    ),
    ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR: ErrorInfo(
        True,
        "FAILED_PRECONDITION",
        FetchSessionTopicIdError,
        "the fetch session was begun with topic names and goes on with ids, or the other way round",
    ),
    ErrorCode.FENCED_MEMBER_EPOCH: ErrorInfo(
        False, "FAILED_PRECONDITION", FencedMemberEpochError, "the member epoch is not the current one; join again"
    ),
    ErrorCode.UNRELEASED_INSTANCE_ID: ErrorInfo(
        False, "FAILED_PRECONDITION", UnreleasedInstanceIdError, "another member still holds this group.instance.id"
    ),
    ErrorCode.UNSUPPORTED_ASSIGNOR: ErrorInfo(
        False, "INVALID_ARGUMENT", UnsupportedAssignorError, "the group coordinator has no such assignor"
    ),
    ErrorCode.STALE_MEMBER_EPOCH: ErrorInfo(
        False, "FAILED_PRECONDITION", StaleMemberEpochError, "the member epoch is older than the current one"
    ),
    ErrorCode.MISMATCHED_ENDPOINT_TYPE: ErrorInfo(
        False,
        "INVALID_ARGUMENT",
        MismatchedEndpointTypeError,
        "the request was sent to a broker and asks for controllers",
    ),
    ErrorCode.UNSUPPORTED_ENDPOINT_TYPE: ErrorInfo(
        False, "INVALID_ARGUMENT", UnsupportedEndpointTypeError, "there is no endpoint of this type"
    ),
    ErrorCode.UNKNOWN_SUBSCRIPTION_ID: ErrorInfo(
        False, "NOT_FOUND", UnknownSubscriptionIdError, "the telemetry subscription is not the current one"
    ),
    ErrorCode.TELEMETRY_TOO_LARGE: ErrorInfo(
        False, "RESOURCE_EXHAUSTED", TelemetryTooLargeError, "the telemetry is larger than is taken"
    ),
    ErrorCode.INVALID_REGULAR_EXPRESSION: ErrorInfo(
        False, "INVALID_ARGUMENT", InvalidRegularExpressionError, "the regular expression is not valid"
    ),
}


def error_for(code: ErrorCode | int, message: str = "") -> KafkaError:
    """The exception for a code that came in an answer; `message` says more than the table does."""
    info = ERROR_TABLE[ErrorCode.of(code)]
    return info.exception(message) if message else info.exception()
