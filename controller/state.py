"""The controller's state machine: `apply` decides a command and replays what it decided.

Total and deterministic: the same commands in the same order make the same state, records and answers on every
controller. A command is refused by an answer, never by an exception. It reads no clock and rolls no dice: a command
brings its time and its seed. What it decides is carried out whole or not at all, as no state is changed in place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from ..cluster.image import MetadataImage, PartitionImage
from ..cluster.invariant import InvariantError
from ..proto.command_pb2 import Command, CommandResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import NONE_ID, BrokerId, MetadataOffset, TopicId
from ..proto.metadata_pb2 import ControllerSnapshot, MetadataRecord, RememberedAnswer
from .activation import decide_allocate_producer_ids, decide_become_controller
from .alter_partition import decide_alter_partition
from .answers import RememberedAnswers
from .brokers import (
    decide_controlled_shutdown,
    decide_fence_brokers,
    decide_register_broker,
    decide_unfence_broker,
    decide_unregister_broker,
)
from .configs import decide_incremental_alter_configs
from .election import decide_elect_leaders
from .limits import COMMAND_BYTES_MAX, REQUEST_ID_LENGTH_MAX
from .partitions import decide_create_partitions
from .reassignment import decide_alter_partition_reassignments
from .replica_failed import decide_replica_failed
from .result import ControllerResult, refused
from .topics import decide_create_topics, decide_delete_topics

logger = logging.getLogger(__name__)

SNAPSHOT_FORMAT: Final = 1

_DECIDE: Final[dict[str, Callable[[MetadataImage, Command], ControllerResult]]] = {
    "become_controller": lambda image, command: decide_become_controller(image, command.become_controller),
    "register_broker": lambda image, command: decide_register_broker(image, command.register_broker),
    "fence_brokers": lambda image, command: decide_fence_brokers(image, command.fence_brokers),
    "unfence_broker": lambda image, command: decide_unfence_broker(image, command.unfence_broker),
    "controlled_shutdown": lambda image, command: decide_controlled_shutdown(image, command.controlled_shutdown),
    "unregister_broker": lambda image, command: decide_unregister_broker(image, command.unregister_broker),
    "create_topics": lambda image, command: decide_create_topics(image, command.create_topics, command.seed),
    "delete_topics": lambda image, command: decide_delete_topics(image, command.delete_topics),
    "create_partitions": lambda image, command: decide_create_partitions(
        image, command.create_partitions, command.seed
    ),
    "incremental_alter_configs": lambda image, command: decide_incremental_alter_configs(
        image, command.incremental_alter_configs
    ),
    "alter_partition": lambda image, command: decide_alter_partition(image, command.alter_partition),
    "elect_leaders": lambda image, command: decide_elect_leaders(image, command.elect_leaders),
    "alter_partition_reassignments": lambda image, command: decide_alter_partition_reassignments(
        image, command.alter_partition_reassignments
    ),
    "replica_failed": lambda image, command: decide_replica_failed(image, command.replica_failed),
    "allocate_producer_ids": lambda image, command: decide_allocate_producer_ids(image, command.allocate_producer_ids),
}


class SnapshotError(Exception):
    """The bytes are no snapshot of this state machine, or of a later version."""


@dataclass(frozen=True, slots=True)
class ControllerState:
    """All that the commands so far have made."""

    image: MetadataImage
    answers: RememberedAnswers
    last_time_ms: int  # the latest time that a command brought; never falls

    @classmethod
    def empty(cls) -> ControllerState:
        """The state before the first command."""
        return cls(MetadataImage.empty(), RememberedAnswers(), 0)

    def snapshot(self) -> bytes:
        """The state as bytes; `restore` gives it back exactly."""
        return ControllerSnapshot(
            format=SNAPSHOT_FORMAT,
            end_offset=self.image.end_offset,
            records=self.image.to_records(),
            answers=[
                RememberedAnswer(request_id=request_id, response=response) for request_id, response in self.answers
            ],
            last_time_ms=self.last_time_ms,
        ).SerializeToString()

    @classmethod
    def restore(cls, data: bytes) -> ControllerState:
        """The state that `snapshot` made the bytes of.

        :raises SnapshotError: the bytes are damaged, empty, or of a later format (rule 25).
        """
        try:
            snapshot = ControllerSnapshot.FromString(data)
            if snapshot.format != SNAPSHOT_FORMAT:
                raise SnapshotError(f"snapshot of format {snapshot.format}; this version reads {SNAPSHOT_FORMAT}")
            image = MetadataImage.empty().replay(snapshot.records, MetadataOffset(snapshot.end_offset))
        except (DecodeError, InvariantError, LookupError, ValueError) as error:
            raise SnapshotError(f"damaged snapshot: {error}") from error
        answers = RememberedAnswers.of((answer.request_id, answer.response) for answer in snapshot.answers)
        return cls(image, answers, snapshot.last_time_ms)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a command did: `records` stand in the metadata log just before `state.image.end_offset`."""

    state: ControllerState
    records: tuple[MetadataRecord, ...]
    response: CommandResponse


def apply(state: ControllerState, command: bytes) -> Applied:
    """Carries out one command. Never raises."""
    if len(command) > COMMAND_BYTES_MAX:
        return _unchanged(
            state,
            refused(ErrorCode.INVALID_REQUEST, f"command of {len(command)} bytes; at most {COMMAND_BYTES_MAX}"),
        )
    try:
        parsed = Command.FromString(command)
    except DecodeError:
        return _unchanged(state, refused(ErrorCode.INVALID_REQUEST, "the bytes are not a command"))
    remembered = state.answers.get(parsed.request_id) if parsed.request_id else None
    if remembered is not None:
        return Applied(state, (), CommandResponse.FromString(remembered))
    refusal = _refusal(state, parsed)
    if refusal is not None:
        # Not remembered: the same request may be carried out by the controller that is active.
        return _unchanged(state, refusal)
    return _carry_out(state, parsed)


def _refusal(state: ControllerState, command: Command) -> ControllerResult | None:
    """Why the command is not even looked into."""
    kind = command.WhichOneof("command")
    if kind is None:
        return refused(ErrorCode.INVALID_REQUEST, "the command is empty")
    if len(command.request_id) > REQUEST_ID_LENGTH_MAX:
        return refused(ErrorCode.INVALID_REQUEST, f"a request id has at most {REQUEST_ID_LENGTH_MAX} bytes")
    if kind == "become_controller":
        return None
    image = state.image
    if image.controller_id is None:
        return refused(ErrorCode.NOT_CONTROLLER, "no controller has become active yet")
    if command.controller_epoch < image.controller_epoch:
        return refused(
            ErrorCode.NOT_CONTROLLER,
            f"controller epoch {command.controller_epoch} is over; it is {image.controller_epoch} now",
        )
    return None


def _carry_out(state: ControllerState, command: Command) -> Applied:
    kind = command.WhichOneof("command") or ""
    try:
        result = _DECIDE[kind](state.image, command)
        image = _replay(state.image, result.records) if result.records else state.image
    except MemoryError:
        raise  # another controller may have had enough memory: to go on here would be to differ from it
    except Exception:
        # The one place that catches everything: a bug in a decision must not become a dead quorum. Deciding is a pure
        # function of state and command, so every controller ends here for the same command, and the state is
        # untouched. Raising would stop the log for good on all of them.
        logger.exception("command_failed command=%s end_offset=%d", kind, state.image.end_offset)
        return _unchanged(state, refused(ErrorCode.UNKNOWN_SERVER_ERROR, f"{kind} failed; see the controllers' logs"))
    response = _completed(image, result.response)
    answers = state.answers
    if command.request_id and response.error_code != ErrorCode.NOT_CONTROLLER:
        answers = answers.with_answer(command.request_id, response.SerializeToString(deterministic=True))
    last_time_ms = max(state.last_time_ms, command.time_ms)
    return Applied(ControllerState(image, answers, last_time_ms), result.records, response)


def _replay(image: MetadataImage, records: tuple[MetadataRecord, ...]) -> MetadataImage:
    """The image after the records, which are held against the rules of replication first.

    :raises InvariantError: they break one.
    """
    after = image.replay(records, MetadataOffset(image.end_offset + len(records)))
    # A topic's records stand together, so it is looked up once for all of them.
    topic_id_bytes, topic, previous_topic = b"", None, None
    for record in records:
        if not record.HasField("partition"):
            continue
        change = record.partition
        if change.topic_id != topic_id_bytes:
            topic_id_bytes = change.topic_id
            topic_id = TopicId(bytes=topic_id_bytes)
            topic, previous_topic = after.topic_by_id(topic_id), image.topic_by_id(topic_id)
        if topic is None:
            raise InvariantError(f"topic {TopicId(bytes=topic_id_bytes)} changed and removed by one command")
        partition = topic.partitions[change.partition]
        partition.check()
        if previous_topic is not None and change.partition < len(previous_topic.partitions):
            partition.check_follows(previous_topic.partitions[change.partition])
        _check_isr(after, partition)
    return after


def _check_isr(image: MetadataImage, partition: PartitionImage) -> None:
    """Rule 7: whoever is in the ISR is active, but for a leader that leaves and that nobody can take over from."""
    for member in partition.isr:
        if not image.is_active(member) and not _leaves_alone(image, partition, member):
            raise InvariantError(f"broker {member} is in the ISR and not active: {partition}")


def _leaves_alone(image: MetadataImage, partition: PartitionImage, member: BrokerId) -> bool:
    broker = image.brokers.get(member)
    return broker is not None and not broker.fenced and partition.isr == (partition.leader,)


def _unchanged(state: ControllerState, result: ControllerResult) -> Applied:
    return Applied(state, (), _completed(state.image, result.response))


def _completed(image: MetadataImage, response: CommandResponse) -> CommandResponse:
    response.metadata_end_offset = image.end_offset
    if response.error_code == ErrorCode.NOT_CONTROLLER:
        response.active_controller_id = NONE_ID if image.controller_id is None else image.controller_id
    return response
