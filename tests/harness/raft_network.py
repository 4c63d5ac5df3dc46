"""A quorum in one thread: the controllers' own code over a network, disks and a clock that are drawn from one seed.

After every step the oracles of Raft are checked: one leader in a term, a committed entry never changes, a commit index
never falls, what a client was told is done stays done.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from harness.memory_disk import DiskDiedError, MemoryDisk
from klamm.controller.quorum_folder import MARKER, QuorumFolder, format_new, readmit
from klamm.controller.raft_contract import Entry, NotRaftLeaderError, RaftConfig, RaftRole
from klamm.controller.raft_core import RaftCore
from klamm.controller.raft_messages import LEADER
from klamm.controller.raft_node import make_core
from klamm.proto.identifiers import NodeId
from klamm.proto.raft_pb2 import RaftMessage

FOLDER = Path("/data")
FAST = RaftConfig(
    heartbeat_interval_ms=50,
    election_timeout_ms_min=160,
    election_timeout_ms_max=320,
    lost_leader_timeout_ms_max=40,
    campaign_timeout_ms_min=50,
    campaign_timeout_ms_max=150,
    leader_fallback_timeout_ms=200,
    snapshot_entries_max=15,
    snapshot_chunk_bytes=200,
)


class FakeClock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.now_ms = 1_000

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.now_ms


class LogMachine:
    """A state machine that remembers every command: its state is the history."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, str]] = []

    def apply(self, command: bytes, index: int, term: int) -> bytes:
        self.applied.append((index, command.decode()))
        return b"done " + command

    def snapshot(self) -> bytes:
        return json.dumps(self.applied).encode()

    def restore(self, data: bytes) -> None:
        self.applied = [(index, command) for index, command in json.loads(data)]


class Controller:
    """One node: its disk lasts, its process comes and goes."""

    def __init__(self, node_id: NodeId, random: Random) -> None:
        self.node_id = node_id
        self.disk = MemoryDisk(random)
        self.core: RaftCore | None = None
        self.folder: QuorumFolder | None = None
        self.machine = LogMachine()
        self.generation = 0  # of the process
        self.sync_planned = False
        self.commit_index_seen = 0
        self.checked_to = 0

    @property
    def alive(self) -> bool:
        """True if the process runs."""
        return self.core is not None


class RaftNetwork:
    """The quorum, its network and its oracles."""

    def __init__(self, seed: int, *, nodes: int = 3, config: RaftConfig = FAST) -> None:
        self.random = Random(seed)
        self.clock = FakeClock()
        self.config = config
        self.voters = [NodeId(number) for number in range(nodes)]
        self.controllers = {voter: Controller(voter, self.random) for voter in self.voters}
        self.cut: set[tuple[NodeId, NodeId]] = set()  # (from, to)
        self.drop = self.duplicate = self.delay = 0.0
        self.committed: dict[int, Entry] = {}
        self.leader_of_term: dict[int, NodeId] = {}
        self.acked: dict[int, str] = {}
        self.unknown: set[str] = set()
        self.messages = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        for controller in self.controllers.values():
            format_new(FOLDER, "sim", file_system=controller.disk)

    # What happens to nodes.

    def start(self, node_id: NodeId) -> None:
        """Starts a node's process; it may die at once if its disk is about to."""
        controller = self.controllers[node_id]
        controller.machine = LogMachine()
        controller.generation += 1
        controller.sync_planned = False
        controller.commit_index_seen = controller.checked_to = 0
        try:
            folder = QuorumFolder.open(FOLDER, node_id=node_id, voters=self.voters, file_system=controller.disk)
            if folder is None:
                return
            folder.journal.preallocated_bytes = 1024
            controller.folder = folder
            controller.core = make_core(
                node_id=node_id,
                voters=self.voters,
                folder=folder,
                state_machine=controller.machine,
                clock=self.clock,
                config=self.config,
                random=Random(self.random.getrandbits(64)),
            )
        except DiskDiedError:
            self.kill(node_id)
            return
        self._step(controller)

    def kill(self, node_id: NodeId, *, power: bool = False) -> None:
        """kill -9, or a power cut."""
        controller = self.controllers[node_id]
        controller.core = controller.folder = None
        controller.generation += 1
        if power:
            controller.disk.lose_power()
        else:
            controller.disk.kill()

    def wipe(self, node_id: NodeId) -> None:
        """The node is killed and its disk is replaced by an empty one."""
        self.kill(node_id)
        self.controllers[node_id].disk.wipe()

    def readmit(self, node_id: NodeId) -> None:
        """The operator's command for a wiped node."""
        readmit(
            FOLDER,
            "sim",
            learner_id=self.random.getrandbits(60) + 1,
            file_system=self.controllers[node_id].disk,
        )

    def has_its_past(self, node_id: NodeId) -> bool:
        """False for a node that was wiped, until it is admitted again."""
        marker = self.controllers[node_id].disk.read(FOLDER / MARKER)
        return marker is not None and b"state=learner" not in marker

    def cut_off(self, node_id: NodeId) -> None:
        """No message to or from this node."""
        for other in self.voters:
            self.cut |= {(node_id, other), (other, node_id)}

    def heal(self) -> None:
        """A network without faults."""
        self.cut.clear()
        self.drop = self.duplicate = self.delay = 0.0

    # What clients do.

    def leader(self) -> Controller | None:
        """A node that says it leads, the newest term first."""
        leaders = [c for c in self.controllers.values() if c.core is not None and c.core.role is RaftRole.LEADER]
        return max(leaders, key=lambda c: c.core.term if c.core else 0, default=None)

    def propose(self, command: str, node_id: NodeId | None = None) -> bool:
        """Proposes to a node, the leader by default; False if it does not lead."""
        controller = self.leader() if node_id is None else self.controllers[node_id]
        if controller is None or controller.core is None:
            return False
        placed: list[int] = []

        def complete(result: bytes | Exception) -> None:
            if isinstance(result, Exception):
                self.unknown.add(command)
                return
            assert result == b"done " + command.encode()
            self.acked[placed[0]] = command

        try:
            placed.append(controller.core.propose(command.encode(), complete))
        except NotRaftLeaderError:
            return False
        self.at(0, lambda: self._step(controller))
        return True

    # Time.

    def at(self, delay_ms: int, event: Callable[[], None]) -> None:
        """Plans an event."""
        self._sequence += 1
        heapq.heappush(self._events, (self.clock.now_ms + delay_ms, self._sequence, event))

    def run(self, for_ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Lets time pass; True if `until` came true."""
        end = self.clock.now_ms + for_ms
        while self._events and self._events[0][0] <= end:
            if until is not None and until():
                return True
            self.clock.now_ms, _, event = heapq.heappop(self._events)
            event()
        self.clock.now_ms = end
        return until is not None and until()

    def _step(self, controller: Controller) -> None:
        core = controller.core
        if core is None:
            return
        try:
            self._send(controller, core.tick())
        except DiskDiedError:
            self.kill(controller.node_id, power=self.random.random() < 0.5)
            return
        self._check(controller)
        if not controller.sync_planned:
            controller.sync_planned = True
            generation = controller.generation
            self.at(self.random.choice((0, 0, 1, 3)), lambda: self._sync(controller, generation))
        self._plan_timer(controller, core)

    def _sync(self, controller: Controller, generation: int) -> None:
        core = controller.core
        if core is None or controller.generation != generation:
            return
        controller.sync_planned = False
        try:
            self._send(controller, core.sync())
        except DiskDiedError:
            self.kill(controller.node_id, power=self.random.random() < 0.5)

    def _plan_timer(self, controller: Controller, core: RaftCore) -> None:
        generation = controller.generation
        wait_ms = max(1, int(core.next_step_s() * 1000) + 1 - self.clock.now_ms) if core.next_step_s() > 0 else 1

        def fire() -> None:
            if controller.generation == generation and core.next_step_s() * 1000 <= self.clock.now_ms:
                self._step(controller)

        self.at(wait_ms, fire)

    def _send(self, sender: Controller, outbox: list[tuple[NodeId, RaftMessage]]) -> None:
        for node_id, message in outbox:
            self.messages += 1
            if (sender.node_id, node_id) in self.cut or self.random.random() < self.drop:
                continue
            copies = 2 if self.random.random() < self.duplicate else 1
            data = message.SerializeToString()
            for _ in range(copies):
                delay_ms = self.random.randrange(3)
                if self.random.random() < self.delay:
                    delay_ms = self.random.randrange(400)
                self.at(delay_ms, lambda data=data, node_id=node_id: self._deliver(sender.node_id, node_id, data))

    def _deliver(self, sender: NodeId, node_id: NodeId, data: bytes) -> None:
        controller = self.controllers[node_id]
        if controller.core is None or (sender, node_id) in self.cut:
            return
        message = RaftMessage.FromString(data)
        try:
            controller.core.receive(sender, message)
        except DiskDiedError:
            self.kill(node_id, power=self.random.random() < 0.5)
            return
        self._step(controller)

    # Oracles.

    def _check(self, controller: Controller) -> None:
        core, folder = controller.core, controller.folder
        assert core is not None and folder is not None
        if core._library._SyncObj__raftState == LEADER:
            leader = self.leader_of_term.setdefault(core.term, controller.node_id)
            assert leader == controller.node_id, f"term {core.term} has two leaders: {leader} and {controller.node_id}"
        assert core.commit_index >= controller.commit_index_seen, f"commit index of {controller.node_id} fell"
        assert core.commit_index <= folder.journal.last_index
        controller.commit_index_seen = core.commit_index
        for index in range(max(controller.checked_to + 1, folder.journal.first_index), core.commit_index + 1):
            entry = folder.journal.entry_at(index)
            first = self.committed.setdefault(index, entry)
            assert first == entry, f"committed entry {index} is {first}; controller {controller.node_id} has {entry}"
        controller.checked_to = core.commit_index

    def settle(self, for_ms: int = 20_000) -> None:
        """Ends all faults, starts all nodes, and checks that the quorum works again and has lost nothing."""
        self.heal()
        for controller in self.controllers.values():
            controller.disk.crash_after = None
            if not controller.alive:
                self.start(controller.node_id)
        assert self.run(for_ms, lambda: self.leader() is not None), "no leader after all faults have ended"
        assert any(self._commits(f"last-{number}") for number in range(20)), "the quorum takes no more commands"
        assert self.run(for_ms, self._agreed), "the controllers do not come to the same state"
        self.check_acked()

    def _commits(self, command: str) -> bool:
        return self.propose(command) and self.run(1_000, lambda: command in self.acked.values())

    def _agreed(self) -> bool:
        cores = [c.core for c in self.controllers.values()]
        last = max(core.last_applied for core in cores if core is not None)
        return all(
            core is not None and core.last_applied == last and core.role is not RaftRole.NON_VOTER for core in cores
        )

    def check_acked(self) -> None:
        """What clients were told is done is in every controller's state, once, where they were told it is."""
        histories = [controller.machine.applied for controller in self.controllers.values()]
        assert all(history == histories[0] for history in histories), "states differ"
        commands = [command for _, command in histories[0]]
        assert len(set(commands)) == len(commands), "a command was applied twice"
        applied = dict(histories[0])
        for index, command in self.acked.items():
            assert applied.get(index) == command, f"{command} was acked at {index}, where {applied.get(index)} is"
