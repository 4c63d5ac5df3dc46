"""A member of the metadata quorum on an asyncio loop, and the only importer of pysyncobj.

The library is pinned to the release that was read line by line: what it does in private is overridden here
(raft_hardening.py), and another release may do it in other places. Nothing of it is changed for others in the
process: each node runs on a subclass of its own, whose methods see this node's clock and journal where the library
reads globals.
"""

from __future__ import annotations

import _socket
import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from types import FunctionType
from typing import Any, Final

import pysyncobj.syncobj as library
from pysyncobj.node import Node
from pysyncobj.version import VERSION

from ..cluster.clock import Clock
from ..cluster.invariant import InvariantError, invariant
from ..proto.identifiers import NodeId
from ..proto.raft_pb2 import RaftMessage
from .file_system import FileSystem
from .quorum_folder import QuorumFolder, readmit
from .raft_contract import (
    COMMAND_BYTES_MAX,
    DataFolderError,
    NotRaftLeaderError,
    OutcomeUnknownError,
    RaftConfig,
    RaftError,
    RaftRole,
    RaftTransport,
    StateMachine,
)
from .raft_core import RaftCore
from .raft_hardening import HardenedRaft
from .raft_messages import Applier

logger = logging.getLogger(__name__)

__all__ = [
    "DataFolderError",
    "NotRaftLeaderError",
    "OutcomeUnknownError",
    "RaftConfig",
    "RaftError",
    "RaftNode",
    "RaftRole",
    "RaftTransport",
    "StateMachine",
]

LIBRARY_VERSION: Final = "0.3.17"
_NEVER: Final = 1 << 62
# On import the library puts a stand-in for Windows in place of this function, on every system; elsewhere it fails.
socket.inet_ntop = _socket.inet_ntop
invariant(VERSION == LIBRARY_VERSION, f"pysyncobj {VERSION} is installed; only {LIBRARY_VERSION} was checked")


class RaftNode:
    """One controller's part in the quorum. It lives on one loop; every call comes from there."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        voters: Mapping[NodeId, tuple[str, int]],
        data_folder: Path,
        state_machine: StateMachine,
        transport: RaftTransport,
        clock: Clock,
        config: RaftConfig,
        on_role_change: Callable[[RaftRole, int], None],
        on_failure: Callable[[Exception], None] | None = None,
        random: Random | None = None,
        file_system: FileSystem | None = None,
    ) -> None:
        """`on_role_change(LEADER, term)` comes once all that was committed before that term is applied.

        `on_failure` comes when the node can run no longer (the disk failed, an invariant broke): it has stopped, and
        the process should, for its state cannot be trusted.
        """
        if node_id not in voters:
            raise ValueError(f"controller {node_id} is not among the voters {sorted(voters)}")
        self._node_id = node_id
        self._voters = dict(voters)
        self._data_folder = data_folder
        self._state_machine = state_machine
        self._transport = transport
        self._clock = clock
        self._config = config
        self._on_role_change = on_role_change
        self._on_failure = on_failure
        self._random = random or Random()
        self._file_system = file_system
        self._core: RaftCore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._step_scheduled = False
        self._timer: asyncio.Handle | None = None
        self._timer_due_s = 0.0  # kept here: a handle of uvloop that is due at once does not tell

    async def start(self) -> None:
        """Opens the data folder and takes part. A folder without a marker makes it a non-voter that does nothing.

        :raises DataFolderError: the folder is damaged, in use, or another controller's; the message says what to do
        """
        self._loop = asyncio.get_running_loop()
        folder = QuorumFolder.open(
            self._data_folder, node_id=self._node_id, voters=self._voters.keys(), file_system=self._file_system
        )
        if folder is None:
            logger.error(
                "data_folder_not_formatted node=%d folder=%s action=%s",
                self._node_id,
                self._data_folder,
                "python -m klamm.controller.format: `new` for a brand-new quorum, `readmit` for a wiped controller",
            )
            self._on_role_change(RaftRole.NON_VOTER, 0)
            return
        if folder.is_learner and len(self._voters) == 1:
            folder.close()
            raise DataFolderError(
                f"{self._data_folder}: the only controller of its quorum has nobody to learn from; its data is lost, "
                "and only a new quorum can begin here"
            )
        try:
            self._core = make_core(
                node_id=self._node_id,
                voters=self._voters.keys(),
                folder=folder,
                state_machine=self._state_machine,
                clock=self._clock,
                config=self._config,
                random=self._random,
            )
        except BaseException:
            folder.close()
            raise
        # With the voters: a majority of those that one knows need not meet a majority of those that another knows.
        token = f"{folder.properties.quorum_id}/{','.join(str(voter) for voter in sorted(self._voters))}"
        await self._transport.start(token, self._on_message, self._on_connection)
        self._step()

    async def stop(self) -> None:
        """Stops taking part. Proposals that wait get OutcomeUnknownError. Idempotent."""
        self._close()
        await self._transport.stop()

    async def propose(self, command: bytes, *, timeout_ms: int) -> bytes:
        """Appends a command and returns what `apply` answered; b"" is a barrier: done once all before it is applied.

        :raises NotRaftLeaderError: nothing was appended
        :raises OutcomeUnknownError: it was appended, and may or may not be committed
        """
        if self._core is None or self._loop is None:
            raise NotRaftLeaderError(None)
        answer: asyncio.Future[bytes] = self._loop.create_future()

        def complete(result: bytes | Exception) -> None:
            if answer.done():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        core = self._core
        index = core.propose(command, complete)
        self._schedule_step()
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await answer
        except TimeoutError:
            raise OutcomeUnknownError(f"entry {index} was not committed within {timeout_ms} ms") from None
        finally:
            core.abandon(index)

    @property
    def role(self) -> RaftRole:
        """LEADER only once everything committed before this term is applied."""
        return self._core.role if self._core else RaftRole.NON_VOTER

    @property
    def is_voter(self) -> bool:
        """False for a wiped controller, until it was re-admitted and has caught up."""
        return self.role is not RaftRole.NON_VOTER

    @property
    def term(self) -> int:
        """The current term."""
        return self._core.term if self._core else 0

    @property
    def leader_id(self) -> NodeId | None:
        """Who leads, as far as this node knows."""
        return self._core.leader_id if self._core else None

    @property
    def commit_index(self) -> int:
        """Index of the last entry known to be committed."""
        return self._core.commit_index if self._core else 0

    @property
    def last_index(self) -> int:
        """Index of the last entry in the log."""
        return self._core.last_index if self._core else 0

    @property
    def last_applied(self) -> int:
        """Index of the last entry that the state machine has seen."""
        return self._core.last_applied if self._core else 0

    def lag_of(self, node_id: NodeId) -> int | None:
        """Entries that a node lacks; None unless this node leads."""
        return self._core.lag_of(node_id) if self._core else None

    def is_reachable(self, node_id: NodeId) -> bool:
        """True if there is a connection to the node; always for itself."""
        return node_id == self._node_id or self._transport.is_connected(node_id)

    @staticmethod
    def readmit(data_folder: Path, quorum_id: str, *, set_aside: bool = False) -> None:
        """Lets a wiped controller join its quorum again, empty; see `quorum_folder.readmit`."""
        readmit(data_folder, quorum_id, learner_id=Random().getrandbits(62) + 1, set_aside=set_aside)

    def _on_message(self, sender: NodeId, message: RaftMessage) -> None:
        self._feed(lambda core: core.receive(sender, message))

    def _on_connection(self, node_id: NodeId, connected: bool) -> None:
        self._feed(lambda core: core.connection_changed(node_id, connected))

    def _feed(self, call: Callable[[RaftCore], None]) -> None:
        if self._core is None:
            return
        try:
            call(self._core)
        except Exception as error:  # noqa: BLE001 - as in _step
            self._fail(error)
            return
        self._schedule_step()

    def _schedule_step(self) -> None:
        """Whatever else comes in this turn of the loop shares one sync and one send."""
        if not self._step_scheduled and self._loop is not None:
            self._step_scheduled = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._step_scheduled = False
        if self._core is None or self._loop is None:
            return
        try:
            for node_id, message in self._core.tick():
                self._transport.send(node_id, message)
            if self._core.is_synced:
                self._send_answers()
            else:
                self._loop.call_soon(self._sync)  # after the transport has written: the disks work at the same time
            self._arm_timer(self._loop, self._core)
            for role, term in self._core.take_role_changes():
                self._on_role_change(role, term)
        except Exception as error:  # noqa: BLE001 - the outermost frame: whatever broke, this node's state is not to be trusted
            self._fail(error)

    def _sync(self) -> None:
        try:
            self._send_answers()
        except Exception as error:  # noqa: BLE001 - as in _step
            self._fail(error)

    def _send_answers(self) -> None:
        if self._core is not None:
            for node_id, message in self._core.sync():
                self._transport.send(node_id, message)

    def _arm_timer(self, loop: asyncio.AbstractEventLoop, core: RaftCore) -> None:
        wait_s = max(core.next_step_s() - self._clock.monotonic_ms() / 1000, 0.0) + 0.001
        due = loop.time() + wait_s
        if self._timer is not None:
            if loop.time() < self._timer_due_s <= due:
                return  # it fires early and is armed anew: cheaper than a new timer for each message
            self._timer.cancel()
        self._timer = loop.call_at(due, self._timer_fired)
        self._timer_due_s = due

    def _timer_fired(self) -> None:
        self._timer = None  # by the loop's clock it may come too early: uvloop rounds to milliseconds
        self._step()

    def _fail(self, error: Exception) -> None:
        what = "broken invariant" if isinstance(error, InvariantError) else type(error).__name__
        logger.critical("raft_node_failed node=%d term=%d reason=%s", self._node_id, self.term, what, exc_info=error)
        try:
            self._close()
        except OSError as closing:  # the disk that failed takes no last note either
            logger.error("raft_node_close_failed node=%d error=%s", self._node_id, closing)
        finally:  # whoever hears of roles may be what broke, and breaks again when it hears of this one
            if self._on_failure is not None:
                self._on_failure(error)

    def _close(self) -> None:
        core, self._core = self._core, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if core is not None:
            led = core.role is RaftRole.LEADER
            term = core.term
            try:
                core.close()
            finally:
                if led:
                    self._on_role_change(RaftRole.FOLLOWER, term)


def make_core(
    *,
    node_id: NodeId,
    voters: Any,
    folder: QuorumFolder,
    state_machine: StateMachine,
    clock: Clock,
    config: RaftConfig,
    random: Random,
) -> RaftCore:
    """A `RaftCore` over the library."""

    def make_library(
        *, folder: QuorumFolder, applier: Applier, config: RaftConfig, clock: Clock, random: Random
    ) -> HardenedRaft:
        def now() -> float:
            return clock.monotonic_ms() / 1000

        seams = {"monotonicTime": now, "createJournal": lambda _: folder.journal}
        node_class = type("KlammRaft", (HardenedRaft, _with_globals(library.SyncObj, seams)), {})
        transport = _LibraryTransport()
        node: HardenedRaft = node_class(
            folder=folder,
            applier=applier,
            config=config,
            now=now,
            random=random,
            self_node=Node(node_id),
            other_nodes=[Node(voter) for voter in sorted(voters) if voter != node_id],
            library_arguments={"conf": _library_config(config), "transport": transport},
        )
        transport.send = node.send
        return node

    return RaftCore(
        node_id=node_id,
        folder=folder,
        state_machine=state_machine,
        clock=clock,
        config=config,
        random=random,
        library=make_library,
    )


def _library_config(config: RaftConfig) -> Any:
    return library.SyncObjConf(
        autoTick=False,
        # "Batch" only means that the library does not send by itself: send_what_is_new does, after every step.
        appendEntriesUseBatch=True,
        appendEntriesPeriod=config.heartbeat_interval_ms / 1000,
        appendEntriesBatchSizeBytes=2 * COMMAND_BYTES_MAX,  # no entry is as large: none is sent in pickled parts
        raftMinTimeout=config.election_timeout_ms_min / 1000,
        raftMaxTimeout=config.election_timeout_ms_max / 1000,
        connectionTimeout=config.election_timeout_ms_max / 1000,
        leaderFallbackTimeout=config.leader_fallback_timeout_ms / 1000,
        dynamicMembershipChange=False,
        useFork=False,
        logCompactionMinEntries=_NEVER,  # RaftCore says when
        logCompactionMinTime=_NEVER,
    )


def _with_globals(base: type, names: Mapping[str, Any]) -> type:
    """A subclass whose methods are the same code, but see `names` in place of their module's globals."""
    namespace = {**vars(library), **names}
    methods = {
        name: FunctionType(method.__code__, namespace, name, method.__defaults__, method.__closure__)
        for name, method in vars(base).items()
        if isinstance(method, FunctionType)
    }
    return type(base.__name__, (base,), methods)


class _LibraryTransport:
    """What the library takes for its transport: it hands messages on, and never hears back from here."""

    ready = True
    send: Callable[[Any, Mapping[str, Any]], bool]

    def _ignore(self, *_: Any) -> None:
        """Membership does not change, connections are the real transport's affair, messages enter by `receive`."""

    setOnNodeConnectedCallback = _ignore
    setOnNodeDisconnectedCallback = _ignore
    setOnMessageReceivedCallback = _ignore
    setOnReadonlyNodeConnectedCallback = _ignore
    setOnReadonlyNodeDisconnectedCallback = _ignore
    setOnUtilityMessageCallback = _ignore
    addNode = _ignore
    dropNode = _ignore

    def destroy(self) -> None:
        """Nothing is held."""
