"""The history of a fault campaign: what each client tried, what came of it, which faults there were, what lies on disk.

Everything that the checker may know is here, and nothing else. The model is that of Jepsen's kafka workload
(jepsen-io/jepsen, jepsen/src/jepsen/tests/kafka.clj): every value is a unique integer, every operation ends as

* `ok`: the client was told that it worked;
* `failed`: it definitely did not take place and never will. A time-out is never this: only an error that says that
  nothing was appended (a record too large, a client closed before it sent), and only once the client gave up for good;
* `unknown`: it may have taken place, or may yet, or may not. Both must be accepted.

Rules that a recorder keeps, and that the checker takes as given:

* Every operation that began is in the history. One that still runs when its process is thrown away is written as
  `unknown`, with the time at which it was given up.
* A process is one producer and one consumer for their whole life. Whoever makes a new producer or consumer, after a
  `crash` or a fatal error, takes a new process number. Nothing follows a `crash`, and all has ended by then.
* The operations of one process stand in the order in which they began; those of different processes in any.
* A `send` may overlap any other operation of its process: it lasts from the first record's call to the last one's
  answer, and the next may begin meanwhile. The producer is given the records in the order of the sends and within each
  in theirs. All other operations of a process, the consumer's, never overlap one another.
* All times are nanoseconds of one monotonic clock, that of the campaign.
* A `partition` is the campaign's number for a topic-partition: with several topics it numbers them through.

The file is JSON lines: a header, then one entry a line, flushed line by line so that a crash of the campaign keeps what
was written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

FORMAT = "klamm-history"
VERSION = 1

Outcome: TypeAlias = Literal["ok", "failed", "unknown"]
Kind: TypeAlias = Literal[
    "send", "poll", "assign", "subscribe", "commit", "committed", "crash", "final-poll", "final-committed"
]

OUTCOMES: frozenset[str] = frozenset(get_args(Outcome))
_COMPACTED_FIELDS = ("topic", "partition", "high_watermark", "log_end_offset", "records", "committed")
KINDS: frozenset[str] = frozenset(get_args(Kind))


class HistoryError(Exception):
    """What was read is no history: the file is damaged, or the recorder broke a rule of the module's docstring."""


class Sent(NamedTuple):  # a tuple, as are those below: a history holds millions of them
    """One record of a `send`, in the order of the calls; each has an outcome of its own."""

    partition: int
    value: int  # unique in the whole campaign
    outcome: Outcome
    offset: int | None = (
        None  # what the ack said; None where it did not say (librdkafka after a retry) or where there is no ack
    )
    ended_ns: int | None = None  # when this record's ack or error came; None: when the operation ended


class Polled(NamedTuple):
    """One record that a consumer gave to its caller."""

    partition: int
    offset: int
    value: int


class Position(NamedTuple):
    """The next offset to read in a partition; None where it is not known, or where there is none."""

    partition: int
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Rebalance:
    """A change of what a subscribed consumer owns, as its listener was told; `revoked` (or lost) is applied first.

    An eager rebalance revokes everything and assigns anew: polls may then start elsewhere. A cooperative one names only
    what changed: in what it does not name, polls go on without a jump.
    """

    revoked: tuple[int, ...] = ()
    assigned: tuple[Position, ...] = ()  # with the offset from which the consumer begins, where it says so
    polled_before: int = 0  # how many records of the operation's `polls` came before it


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client process did, and what came of it.

    * `send`: `sends`. Its outcome: `ok` when all were acked, `failed` when none was appended, else `unknown`.
    * `poll`: `polls`, in the order in which they came, and the `rebalances` told meanwhile. One that raised holds what
      it gave before; `unknown` says that it may have swallowed records, so that the next poll may jump forward.
    * `final-poll`: the same, after the faults healed, by a process that reads from the beginning until all is read.
    * `assign`: from now on exactly the partitions in `positions`, from these offsets. It ends a subscription.
    * `subscribe`: what the consumer had is gone; partitions come with the `rebalances` of this or a later operation.
    * `commit`: `positions` for the `group`, each the next offset to read. `unknown` also where only some were taken, or
      where the library tried again: the first try may have been taken, whatever the last was told.
    * `committed`: the group's committed offsets as `positions`, asked of the coordinator; None where there is none.
    * `final-committed`: the same, after all clients have stopped: the group's offsets change no more.
    * `crash`: the process is thrown away. Its outcome is `ok`.
    """

    process: int
    client: str  # the library: "klamm", "confluent-kafka", "kafka-python"
    kind: Kind
    began_ns: int
    ended_ns: int  # of an unknown one: when the client gave up
    outcome: Outcome
    sends: tuple[Sent, ...] = ()
    polls: tuple[Polled, ...] = ()
    positions: tuple[Position, ...] = ()
    rebalances: tuple[Rebalance, ...] = ()
    group: str | None = None  # of subscribe, commit and committed; None where a consumer has none
    error: str | None = None  # what the client said, where it was not ok


@dataclass(frozen=True, slots=True)
class Fault:
    """What the nemesis did, to whom and for how long.

    It may be written when it begins, without an end, and once more with its end: the later line with the same kind,
    target and beginning stands for both. A kill ends when the node is back, what is over at once when it began.
    """

    kind: str  # "kill", "pause", "cut", "disk-full", ...
    target: str  # "broker 2", "controllers 1, 3 | 2", ...
    began_ns: int
    ended_ns: int | None = None  # None: it lasts, or it lasted to the end
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A batch (or a single record: then both offsets are the same) as it lies on a disk."""

    base_offset: int
    last_offset: int  # inclusive
    leader_epoch: int
    digest: str  # of its bytes, or of its value: whatever is the same where replicas agree


@dataclass(frozen=True, slots=True)
class ReplicaLog:
    """One replica, read from its disk after the faults healed and the cluster stopped."""

    broker: int
    topic: str
    partition: int
    entries: tuple[LogEntry, ...]  # by offset, from the log's start


class KeyedRecord(NamedTuple):
    """A record of a compacted log."""

    offset: int
    key: str  # as is the value: its bytes in hexadecimal
    value: str | None  # None: a tombstone


class CommittedOffset(NamedTuple):
    """What a record of __consumer_offsets says."""

    group: str
    partition: int  # the campaign's number
    offset: int


@dataclass(frozen=True, slots=True)
class CompactedLog:
    """One replica of a compacted topic, read as a `ReplicaLog`: what cleaning must keep of it."""

    broker: int
    topic: str
    partition: int  # of the topic itself: the campaign has no number for it
    high_watermark: int  # before the cluster stopped, when every replica was in sync
    log_end_offset: int
    records: tuple[KeyedRecord, ...]  # each key's latest, by offset
    committed: tuple[CommittedOffset, ...] = ()  # what they say, where it is __consumer_offsets


Entry: TypeAlias = Operation | Fault | ReplicaLog | CompactedLog


class HistoryWriter:
    """Appends entries to a file; any thread may call it.

    :raises FileExistsError: a history is never written over another.
    """

    def __init__(self, path: Path, facts: dict[str, str] | None = None) -> None:
        """`facts` go to the header and from there to the timeline: the seed, the commit, what was asked for."""
        self._lock = Lock()
        self._file = path.open("x", encoding="utf-8", buffering=1)
        self._file.write(_dump({"format": FORMAT, "version": VERSION, "facts": facts or {}}))

    def append(self, entry: Entry) -> None:
        """Writes the entry as one line; it is in the kernel's hands when this returns."""
        line = to_line(entry)
        with self._lock:
            self._file.write(line)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HistoryFile:
    """A history on disk. Iterating reads it anew, entry by entry, so that a long one need not fit into memory.

    The entries are numbered from 0; entry n stands in line n + 2. A last line without its end is what a crash of the
    campaign leaves: it is passed over.

    :raises HistoryError: there is no header, or it is of another version; while iterating: a line is no entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts = self._read_facts()

    def __iter__(self) -> Iterator[Entry]:
        with self.path.open(encoding="utf-8") as file:
            file.readline()
            for number, line in enumerate(file, start=2):
                if not line.endswith("\n"):
                    return
                try:
                    entry = from_line(line)
                except HistoryError as error:
                    raise HistoryError(f"{self.path}, line {number}: {error}") from None
                yield entry

    def _read_facts(self) -> dict[str, str]:
        with self.path.open(encoding="utf-8") as file:
            line = file.readline()
        try:
            header = json.loads(line)
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise HistoryError(f"{self.path} is no history: its first line is {line[:80]!r}")
        if header.get("version") != VERSION:
            raise HistoryError(f"{self.path} is a history of version {header.get('version')}; this reads {VERSION}")
        return {str(name): str(value) for name, value in dict(header.get("facts", {})).items()}


def faults_of(entries: Iterable[Entry]) -> list[Fault]:
    """Every fault once, with its end where one was written, in the order of their beginnings."""
    faults: dict[tuple[str, str, int], Fault] = {}
    for entry in entries:
        if isinstance(entry, Fault):
            faults[entry.kind, entry.target, entry.began_ns] = entry
    return sorted(faults.values(), key=lambda fault: fault.began_ns)


def to_line(entry: Entry) -> str:
    """The entry as a line of JSON, with its end; what is empty is left out."""
    match entry:
        case Operation():
            return _dump(_operation_to_json(entry))
        case Fault(kind, target, began_ns, ended_ns, detail):
            return _dump(
                {"fault": kind, "target": target, "began_ns": began_ns, "ended_ns": ended_ns, "detail": detail}
            )
        case ReplicaLog(broker, topic, partition, entries):
            batches = [[batch.base_offset, batch.last_offset, batch.leader_epoch, batch.digest] for batch in entries]
            return _dump({"replica": broker, "topic": topic, "partition": partition, "entries": batches})
        case CompactedLog():
            return _dump({"compacted": entry.broker} | {name: getattr(entry, name) for name in _COMPACTED_FIELDS})


def from_line(line: str) -> Entry:
    """The entry of a line.

    :raises HistoryError: it is none.
    """
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise HistoryError(f"not JSON ({error}): {line[:80]!r}") from None
    try:
        if "kind" in value:
            return _operation_from_json(value)
        if "fault" in value:
            ended_ns = None if value["ended_ns"] is None else int(value["ended_ns"])
            return Fault(
                str(value["fault"]), str(value["target"]), int(value["began_ns"]), ended_ns, str(value["detail"])
            )
        if "compacted" in value:
            return _compacted_from_json(value)
        entries = tuple(LogEntry(int(a), int(b), int(epoch), str(d)) for a, b, epoch, d in value["entries"])
        return ReplicaLog(int(value["replica"]), str(value["topic"]), int(value["partition"]), entries)
    except (KeyError, TypeError, ValueError) as error:
        raise HistoryError(f"no entry ({type(error).__name__}: {error}): {line[:80]!r}") from None


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def _operation_to_json(operation: Operation) -> dict[str, Any]:
    value: dict[str, Any] = {
        "process": operation.process,
        "client": operation.client,
        "kind": operation.kind,
        "began_ns": operation.began_ns,
        "ended_ns": operation.ended_ns,
        "outcome": operation.outcome,
    }
    if operation.sends:
        value["sends"] = operation.sends
    if operation.polls:
        value["polls"] = operation.polls
    if operation.positions:
        value["positions"] = operation.positions
    if operation.rebalances:
        value["rebalances"] = [[r.revoked, r.assigned, r.polled_before] for r in operation.rebalances]
    if operation.group is not None:
        value["group"] = operation.group
    if operation.error is not None:
        value["error"] = operation.error
    return value


def _operation_from_json(value: dict[str, Any]) -> Operation:
    if value["kind"] not in KINDS or value["outcome"] not in OUTCOMES:
        raise ValueError(f"{value['kind']!r} that ended {value['outcome']!r}")
    if not type(value["process"]) is type(value["began_ns"]) is type(value["ended_ns"]) is int:
        raise ValueError(f"process {value['process']!r} from {value['began_ns']!r} to {value['ended_ns']!r}")
    return Operation(
        value["process"],
        value["client"],
        value["kind"],
        value["began_ns"],
        value["ended_ns"],
        value["outcome"],
        _sends(value["sends"]) if "sends" in value else (),
        _polls(value["polls"]) if "polls" in value else (),
        _positions(value["positions"]) if "positions" in value else (),
        tuple(Rebalance(tuple(r), _positions(a), before) for r, a, before in value.get("rebalances", ())),
        value.get("group"),
        value.get("error"),
    )


def _compacted_from_json(value: dict[str, Any]) -> CompactedLog:
    records = tuple(KeyedRecord(int(o), str(k), None if v is None else str(v)) for o, k, v in value["records"])
    committed = tuple(CommittedOffset(str(group), int(p), int(o)) for group, p, o in value["committed"])
    ends = (int(value["high_watermark"]), int(value["log_end_offset"]))
    return CompactedLog(
        int(value["compacted"]), str(value["topic"]), int(value["partition"]), *ends, records, committed
    )


def _sends(values: list[list[Any]]) -> tuple[Sent, ...]:
    sends = tuple(map(Sent._make, values))
    for partition, value, outcome, offset, _ in sends:
        if not (
            type(partition) is type(value) is int and outcome in OUTCOMES and (offset is None or type(offset) is int)
        ):
            raise ValueError(f"a record sent as {(partition, value, outcome, offset)}")
    return sends


def _polls(values: list[list[Any]]) -> tuple[Polled, ...]:
    if not set(map(type, chain.from_iterable(values))) <= {int}:
        raise ValueError("a record polled that is no three numbers")
    return tuple(map(Polled._make, values))


def _positions(values: list[list[Any]]) -> tuple[Position, ...]:
    return tuple(map(Position._make, values))
