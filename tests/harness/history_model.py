"""Good histories at random: a model of a log that keeps every promise, and clients to which everything legal happens.

The model takes effect step by step; what an operation did lies somewhere between its beginning and its end, and
operations of different processes overlap. Sends end unknown and are appended at once, later or never; logs have holes;
consumers crash, are assigned by hand or share a group; commits are lost on the way or take effect late.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from harness.history import (
    Entry,
    Fault,
    Kind,
    LogEntry,
    Operation,
    Outcome,
    Polled,
    Position,
    Rebalance,
    ReplicaLog,
    Sent,
)

STEP_NS = 10_000_000
GROUP = "g"
CLIENTS = ("klamm", "confluent-kafka", "kafka-python")


@dataclass(slots=True)
class _Process:
    number: int
    client: str
    free_ns: int
    mode: str = "new"  # "assigned" or "member", once it is
    positions: dict[int, int] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)  # by partition, the highest in this assignment
    late: list[tuple[int, int]] = field(default_factory=list)  # partition and value: appended before its next, or never
    dead: bool = False


class ModelCampaign:
    """Call `run` once."""

    def __init__(self, random: Random, *, partitions: int = 3, processes: int = 4) -> None:
        self._random = random
        self._logs: list[list[tuple[int, int]]] = [[] for _ in range(partitions)]  # offset and value
        self._ends = [0] * partitions
        self._processes = [_Process(n, random.choice(CLIENTS), 0) for n in range(processes)]
        self._all: list[_Process] = list(self._processes)
        self._owners: list[_Process | None] = [None] * partitions
        self._wanted: list[_Process | None] = [None] * partitions
        self._committed: dict[int, int] = {}
        self._late_commits: list[tuple[int, int, int]] = []  # not before this step: partition and offset
        self._now_ns = 0
        self._step = 0
        self._value = 1_000
        self._done: list[Operation] = []
        self._faults: list[Fault] = []

    def run(self, steps: int) -> list[Entry]:
        """A history of about so many operations; whole, with a final poll and replicas."""
        for self._step in range(steps):
            self._now_ns += self._random.randrange(STEP_NS)
            self._act_late()
            free = [process for process in self._processes if process.free_ns <= self._now_ns]
            if free:
                self._act(self._random.choice(free))
            if self._random.random() < 0.02:
                kind = self._random.choice(("kill", "pause", "cut"))
                ended_ns = self._now_ns + self._random.randrange(20 * STEP_NS)
                self._faults.append(Fault(kind, f"broker {self._random.randrange(3)}", self._now_ns, ended_ns))
        self._read_all()
        self._done.sort(key=lambda operation: operation.ended_ns)
        replicas = [
            ReplicaLog(broker, "t", partition, tuple(LogEntry(o, o, 1, str(v)) for o, v in log))
            for broker in range(3)
            for partition, log in enumerate(self._logs)
        ]
        return [*self._done, *self._faults, *replicas]

    def _act(self, process: _Process) -> None:
        action = self._random.random()
        if process.mode == "new" or action < 0.03:
            self._begin_reading(process)
        elif action < 0.05:
            self._crash(process)
        elif action < 0.08:
            self._rebalance()
        elif action < 0.45:
            self._send(process)
        elif action < 0.80:
            self._poll(process)
        elif action < 0.97 and process.mode == "member":
            self._commit(process)
        else:
            positions = tuple(Position(partition, self._committed.get(partition)) for partition in self._partitions())
            self._end(process, "committed", positions=positions, group=GROUP)

    def _send(self, process: _Process) -> None:
        sends = []
        for _ in range(self._random.randint(1, 4)):
            partition = self._random.randrange(len(self._logs))
            self._value += 1
            outcome: Outcome = self._random.choices(("ok", "unknown", "failed"), (8, 2, 1))[0]
            offset = None
            if outcome == "ok" or (outcome == "unknown" and self._random.random() < 0.4):
                offset = self._append(process, partition, self._value)
            elif outcome == "unknown":
                process.late.append((partition, self._value))
            told = outcome == "ok" and self._random.random() < 0.9
            sends.append(Sent(partition, self._value, outcome, offset if told else None))
        outcomes = {sent.outcome for sent in sends}
        self._end(process, "send", outcome=outcomes.pop() if len(outcomes) == 1 else "unknown", sends=tuple(sends))

    def _append(self, process: _Process, partition: int, value: int) -> int:
        """What one producer sent before comes before it, or never."""
        late = [sent for sent in process.late if sent[0] == partition]
        process.late = [sent for sent in process.late if sent[0] != partition]
        for _, earlier in late:
            if self._random.random() < 0.5:
                self._place(partition, earlier)
        return self._place(partition, value)

    def _place(self, partition: int, value: int) -> int:
        if self._random.random() < 0.05:
            self._ends[partition] += self._random.randint(1, 3)
        offset = self._ends[partition]
        self._logs[partition].append((offset, value))
        self._ends[partition] = offset + 1
        return offset

    def _act_late(self) -> None:
        """Requests of the past take effect, even those of processes that are gone."""
        process = self._random.choice(self._all)
        if process.late and self._random.random() < 0.2:
            partition, value = process.late.pop(0)
            self._place(partition, value)
        for late in [late for late in self._late_commits if late[0] <= self._step]:
            self._late_commits.remove(late)
            if self._random.random() < 0.5:
                self._committed[late[1]] = late[2]

    def _poll(self, process: _Process) -> None:
        rebalances = self._told(process) if process.mode == "member" else ()
        outcome: Outcome = self._random.choices(("ok", "failed", "unknown"), (20, 1, 1))[0]
        polls: list[Polled] = []
        for partition in process.positions:
            if outcome == "unknown" or self._random.random() < 0.8:
                got = self._read(process, partition, self._random.randint(0, 4))
                polls.extend(got if outcome != "unknown" else got[: self._random.randint(0, len(got))])
        self._end(process, "poll", outcome=outcome, polls=tuple(polls), rebalances=rebalances)

    def _read(self, process: _Process, partition: int, limit: int) -> list[Polled]:
        position = process.positions[partition]
        records = [(offset, value) for offset, value in self._logs[partition] if offset >= position][:limit]
        if records:
            process.positions[partition] = records[-1][0] + 1
        return [Polled(partition, offset, value) for offset, value in records]

    def _begin_reading(self, process: _Process) -> None:
        self._leave(process)
        process.mode = self._random.choice(("assigned", "member"))
        if process.mode == "member":
            self._end(process, "subscribe", group=GROUP)
            self._rebalance()
            return
        partitions = [partition for partition in self._partitions() if self._random.random() < 0.7]
        process.positions = {partition: self._random.randint(0, self._ends[partition]) for partition in partitions}
        positions = tuple(Position(partition, offset) for partition, offset in process.positions.items())
        self._end(process, "assign", positions=positions)

    def _rebalance(self) -> None:
        """Each member is told in its next poll; nobody is given what another was not yet told that it lost."""
        members = [process for process in self._processes if process.mode == "member"]
        if members:
            self._wanted = [self._random.choice(members) for _ in self._logs]

    def _told(self, process: _Process) -> tuple[Rebalance, ...]:
        kept = [p for p in self._partitions() if self._owners[p] is process and self._wanted[p] is process]
        revoked = tuple(p for p in self._partitions() if self._owners[p] is process and p not in kept)
        if kept and self._random.random() < 0.2:
            revoked = (*revoked, *kept)  # an eager rebalance takes everything and gives it back
        for partition in revoked:
            self._owners[partition] = None
            del process.positions[partition]
            process.committed.pop(partition, None)
        assigned = []
        for partition in self._partitions():
            if self._owners[partition] is None and self._wanted[partition] is process:
                self._owners[partition] = process
                offset = process.positions[partition] = self._committed.get(partition, 0)
                assigned.append(Position(partition, offset if self._random.random() < 0.5 else None))
        return (Rebalance(revoked, tuple(assigned)),) if revoked or assigned else ()

    def _commit(self, process: _Process) -> None:
        outcome: Outcome = self._random.choices(("ok", "unknown", "failed"), (8, 2, 1))[0]
        positions = []
        for partition, position in process.positions.items():
            offset = self._random.choice((position, process.committed.get(partition, position)))
            positions.append(Position(partition, offset))
            if outcome == "ok":
                self._committed[partition] = process.committed[partition] = offset
            elif outcome == "unknown":
                self._late_commits.append((self._step + self._random.randrange(20), partition, offset))
        self._end(process, "commit", outcome=outcome, positions=tuple(positions), group=GROUP)

    def _crash(self, process: _Process) -> None:
        self._end(process, "crash")
        self._leave(process)
        process.dead = True
        successor = _Process(len(self._all), process.client, process.free_ns)
        self._all.append(successor)
        self._processes[self._processes.index(process)] = successor

    def _leave(self, process: _Process) -> None:
        for partition, owner in enumerate(self._owners):
            if owner is process:
                self._owners[partition] = None
            if self._wanted[partition] is process:
                self._wanted[partition] = None
        process.positions = {}
        process.committed = {}

    def _read_all(self) -> None:
        reader = _Process(len(self._all), "klamm", 0)
        self._now_ns = max(self._now_ns, *(process.free_ns for process in self._all)) + STEP_NS
        reader.positions = dict.fromkeys(self._partitions(), 0)
        self._end(reader, "assign", positions=tuple(Position(partition, 0) for partition in reader.positions))
        while True:
            self._now_ns = reader.free_ns + STEP_NS
            polls = [polled for p in self._partitions() for polled in self._read(reader, p, self._random.randint(1, 9))]
            self._end(reader, "final-poll", polls=tuple(polls))
            if not polls:
                return

    def _partitions(self) -> range:
        return range(len(self._logs))

    def _end(
        self,
        process: _Process,
        kind: Kind,
        *,
        outcome: Outcome = "ok",
        sends: tuple[Sent, ...] = (),
        polls: tuple[Polled, ...] = (),
        positions: tuple[Position, ...] = (),
        rebalances: tuple[Rebalance, ...] = (),
        group: str | None = None,
    ) -> None:
        began_ns = self._random.randint(process.free_ns, self._now_ns)
        process.free_ns = ended_ns = self._now_ns + self._random.randrange(10 * STEP_NS)
        self._done.append(
            Operation(
                process.number, process.client, kind, began_ns, ended_ns, outcome,
                sends, polls, positions, rebalances, group,
            )
        )  # fmt: skip
