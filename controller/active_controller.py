"""One controller's turn at being active: from the Raft leadership to its loss.

A Raft leader is active once its BecomeController command has been applied: its epoch (the Raft term) is then in the
image, and commands of earlier epochs are refused by every state machine. Only an active controller takes commands. It
stamps what the state machine may not choose for itself (time, epoch, randomness, topic ids, who is alive) and
proposes; what happens is decided when the command is committed.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ..cluster.clock import Clock
from ..cluster.image import MetadataImage
from ..proto.command_pb2 import BecomeControllerCommand, Command, CommandResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import NONE_ID, BrokerId, ControllerEpoch, NodeId
from .raft_contract import COMMAND_BYTES_MAX, NotRaftLeaderError, OutcomeUnknownError, RaftRole
from .state_machine import MetadataStateMachine

logger = logging.getLogger(__name__)

PROPOSALS_MAX: Final = 1_000
"""Commands under way at once; more are turned away, so that memory stays bounded when the quorum is stuck."""
PROPOSE_TIMEOUT_MS: Final = 2_000
PROPOSE_TIMEOUT_MS_MAX: Final = 30_000
BECOME_TIMEOUT_MS: Final = 1_000

INTERNAL_COMMANDS: Final = frozenset({"become_controller", "fence_brokers", "unfence_broker"})
"""Nobody may send these but a controller itself."""


class Raft(Protocol):
    """What this needs of `RaftNode`."""

    @property
    def role(self) -> RaftRole: ...

    @property
    def term(self) -> int: ...

    @property
    def leader_id(self) -> NodeId | None: ...

    async def propose(self, command: bytes, *, timeout_ms: int) -> bytes: ...


@dataclass(frozen=True)
class TopicDefaults:
    """What the controller's own file says of topics that are created without a number; the cluster-wide
    configuration comes before it."""

    num_partitions: int | None = None
    default_replication_factor: int | None = None


class ActiveController:
    """Lives on one event loop."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        raft: Raft,
        machine: MetadataStateMachine,
        clock: Clock,
        defaults: TopicDefaults,
        is_broker_alive: Callable[[BrokerId], bool],
        on_active: Callable[[], None],
        on_resigned: Callable[[], None],
    ) -> None:
        self._node_id = node_id
        self._raft = raft
        self._machine = machine
        self._clock = clock
        self._defaults = defaults
        self._is_broker_alive = is_broker_alive
        self._on_active = on_active
        self._on_resigned = on_resigned
        self._epoch: ControllerEpoch | None = None  # while active
        self._becoming: asyncio.Task[None] | None = None
        self._under_way = 0

    @property
    def is_active(self) -> bool:
        """True if this controller takes commands."""
        return self._epoch is not None and self._raft.role is RaftRole.LEADER and self._raft.term == self._epoch

    @property
    def image(self) -> MetadataImage:
        """The metadata as far as it is committed and applied here."""
        return self._machine.image

    @property
    def active_id(self) -> NodeId | None:
        """Who leads, as far as this controller knows."""
        return self._node_id if self.is_active else self._raft.leader_id

    def role_changed(self, role: RaftRole, term: int) -> None:
        """The Raft node's role or term changed; LEADER comes once the state machine is current."""
        self._resign()
        if role is RaftRole.LEADER:
            self._becoming = asyncio.create_task(self._become_active(term), name="become-controller")

    async def stop(self) -> None:
        """No more commands."""
        becoming = self._becoming
        self._resign()
        if becoming is not None:
            await asyncio.wait({becoming})

    async def submit(self, command: Command, *, timeout_ms: int) -> CommandResponse:
        """Carries out a command that came from outside."""
        kind = command.WhichOneof("command")
        if kind is None or kind in INTERNAL_COMMANDS:
            return self._refused(ErrorCode.INVALID_REQUEST, f"command {kind or 'of unknown kind'} is not accepted")
        if len(command.request_id) != 16:
            return self._refused(ErrorCode.INVALID_REQUEST, "request_id must be 16 bytes")
        return await self.propose(command, timeout_ms=max(1, min(timeout_ms, PROPOSE_TIMEOUT_MS_MAX)))

    async def propose(self, command: Command, *, timeout_ms: int = PROPOSE_TIMEOUT_MS) -> CommandResponse:
        """Stamps a command and has it committed and applied.

        The answer is NOT_CONTROLLER if it was not taken, REQUEST_TIMED_OUT if its outcome is not known.
        """
        epoch = self._epoch
        if epoch is None or not self.is_active:
            return self._refused(ErrorCode.NOT_CONTROLLER)
        if self._under_way >= PROPOSALS_MAX:
            return self._refused(ErrorCode.THROTTLING_QUOTA_EXCEEDED, f"{PROPOSALS_MAX} commands are under way")
        self._stamp(command, epoch)
        entry = command.SerializeToString(deterministic=True)
        if len(entry) > COMMAND_BYTES_MAX:  # with its stamps: topic ids are a part of it
            return self._refused(
                ErrorCode.INVALID_REQUEST, f"the command has {len(entry)} bytes; at most {COMMAND_BYTES_MAX}"
            )
        self._under_way += 1
        try:
            answer = await self._raft.propose(entry, timeout_ms=timeout_ms)
        except NotRaftLeaderError:
            return self._refused(ErrorCode.NOT_CONTROLLER)
        except OutcomeUnknownError:
            return self._refused(ErrorCode.REQUEST_TIMED_OUT, "the command may or may not be carried out")
        finally:
            self._under_way -= 1
        response = CommandResponse.FromString(answer)
        response.active_controller_id = self._id_on_wire()
        return response

    def _stamp(self, command: Command, epoch: ControllerEpoch) -> None:
        command.time_ms = self._clock.wall_ms()
        command.controller_epoch = epoch
        command.seed = secrets.randbits(64)
        kind = command.WhichOneof("command")
        if kind == "create_topics":
            self._stamp_topics(command)
        elif kind == "register_broker":
            register = command.register_broker
            register.previous_incarnation_alive = self._is_broker_alive(BrokerId(register.broker_id))

    def _stamp_topics(self, command: Command) -> None:
        dynamic = self._machine.image.cluster_config()
        for topic in command.create_topics.topics:
            topic.topic_id = uuid.uuid4().bytes
            if topic.assignments:
                continue
            if topic.num_partitions == NONE_ID and "num.partitions" not in dynamic:
                topic.num_partitions = self._defaults.num_partitions or NONE_ID
            if topic.replication_factor == NONE_ID and "default.replication.factor" not in dynamic:
                topic.replication_factor = self._defaults.default_replication_factor or NONE_ID

    async def _become_active(self, term: int) -> None:
        command = Command(
            request_id=uuid.uuid4().bytes,
            controller_epoch=term,
            become_controller=BecomeControllerCommand(
                controller_id=self._node_id, controller_epoch=term, proposed_cluster_id=new_cluster_id()
            ),
        )
        while self._raft.role is RaftRole.LEADER and self._raft.term == term:
            command.time_ms = self._clock.wall_ms()
            command.seed = secrets.randbits(64)
            try:
                answer = await self._raft.propose(command.SerializeToString(), timeout_ms=BECOME_TIMEOUT_MS)
            except NotRaftLeaderError:
                return
            except OutcomeUnknownError:
                continue  # the same request id: it is carried out once
            response = CommandResponse.FromString(answer)
            if response.error_code != ErrorCode.NONE:
                logger.error("become_controller_refused epoch=%d error=%s", term, response.error_message)
                return
            if self._raft.role is RaftRole.LEADER and self._raft.term == term:
                self._epoch = ControllerEpoch(term)
                logger.info(
                    "controller_active controller=%d epoch=%d end_offset=%d",
                    self._node_id,
                    term,
                    self._machine.image.end_offset,
                )
                self._on_active()
            return

    def _resign(self) -> None:
        if self._becoming is not None and not self._becoming.done():
            self._becoming.cancel()
        if self._epoch is not None:
            logger.info("controller_resigned controller=%d epoch=%d", self._node_id, self._epoch)
            self._epoch = None
            self._on_resigned()

    def _refused(self, code: ErrorCode, message: str = "") -> CommandResponse:
        return CommandResponse(
            error_code=code,
            error_message=message or code.message,
            metadata_end_offset=self._machine.image.end_offset,
            active_controller_id=self._id_on_wire(),
        )

    def _id_on_wire(self) -> int:
        active_id = self.active_id
        return NONE_ID if active_id is None else active_id


def new_cluster_id() -> str:
    """22 characters, as Kafka makes them: 16 random bytes in URL-safe base64; none that begins with a dash."""
    while True:
        text = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        if not text.startswith("-"):
            return text
