"""What the metadata quorum offers and asks for: the roles, the errors, the settings, and the two seams.

`StateMachine` is what committed commands are applied to; `RaftTransport` is what carries messages. Both are given to
`RaftNode` (raft_node.py), which knows neither the controller's state nor gRPC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from ..proto.identifiers import NodeId
from ..proto.raft_pb2 import RaftMessage

Entry = tuple[bytes, int, int]
"""(what is logged, index, term), in the order the library keeps them."""

REGULAR: Final = b"\x00"
"""First byte of an entry that holds a command."""
COMMAND_BYTES_MAX: Final = 1024 * 1024
"""Not a setting: a journal may hold commands from before it was lowered, and one that does not fit a message would
have to go in parts, which the library pickles."""
NO_OP: Final = b"\x01"
"""An entry that holds none: a new leader's first one, and what stands for the empty command."""


class RaftRole(Enum):
    """What a controller is to its quorum."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"
    NON_VOTER = "non-voter"


class RaftError(Exception):
    """The quorum did not carry out a command, or cannot run."""


class NotRaftLeaderError(RaftError):
    """This node does not lead; nothing was appended. `leader_id` is who does, where it is known."""

    def __init__(self, leader_id: NodeId | None) -> None:
        super().__init__(f"this controller is not the active one; controller {leader_id} is, as far as it knows")
        self.leader_id = leader_id


class OutcomeUnknownError(RaftError):
    """The entry was appended, then leadership was lost or time ran out: it may or may not be committed later."""


class DataFolderError(RaftError):
    """The data folder cannot be used; the message names the file and the way out."""


class StateMachine(Protocol):
    """What committed commands are applied to, on each controller in the same order."""

    def apply(self, command: bytes, index: int, term: int) -> bytes:
        """Carries out one committed command. Total and deterministic: what is wrong with the command is said in the
        answer. An exception is a bug; it stops the node."""

    def snapshot(self) -> bytes:
        """The whole state."""

    def restore(self, data: bytes) -> None:
        """Takes a snapshot's state in place of its own."""


class RaftTransport(Protocol):
    """Carries messages between controllers. It may lose, delay, repeat and reorder them; it must not change them."""

    async def start(
        self,
        cluster_token: str,
        on_message: Callable[[NodeId, RaftMessage], None],
        on_connection: Callable[[NodeId, bool], None],
    ) -> None:
        """Begins to carry messages; the calls come on the loop this runs on. `on_connection` says that a peer can be
        reached, or no longer."""

    async def stop(self) -> None:
        """Ends it; what is queued may be lost."""

    def send(self, node_id: NodeId, message: RaftMessage) -> None:
        """Queues a message; never waits."""

    def is_connected(self, node_id: NodeId) -> bool:
        """True if the peer can be reached, as far as is known."""


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Settings of the quorum; the defaults suit one machine or one data centre."""

    heartbeat_interval_ms: int = 400  # a round of heartbeats costs about 4 ms of CPU in a quorum of three
    election_timeout_ms_min: int = 1300  # of silence; more than three heartbeats
    election_timeout_ms_max: int = 2000
    lost_leader_timeout_ms_max: int = 200  # when the connection to the leader breaks: kill -9 is noticed at once
    campaign_timeout_ms_min: int = 100  # until a candidate that did not win tries again
    campaign_timeout_ms_max: int = 400
    leader_fallback_timeout_ms: int = 1100  # a leader without answers from a majority stops leading
    commit_notice_delay_ms: int = 3  # followers hear of a commit with the next entry, or after this
    snapshot_entries_max: int = 10_000  # applied since the last snapshot
    snapshot_bytes_max: int = 16 * 1024 * 1024
    snapshot_chunk_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        if self.election_timeout_ms_min <= 3 * self.heartbeat_interval_ms:
            raise ValueError("election_timeout_ms_min must be more than three times heartbeat_interval_ms")
        if self.election_timeout_ms_max <= self.election_timeout_ms_min:
            raise ValueError("election_timeout_ms_max must be more than election_timeout_ms_min")
        if self.leader_fallback_timeout_ms <= self.heartbeat_interval_ms:
            raise ValueError("leader_fallback_timeout_ms must be more than heartbeat_interval_ms")
