"""Ways to spoil a good history so that a certain anomaly is in it, whatever else follows from it.

Each takes a whole history (one that ends with a final poll and replicas) and a generator, and returns the spoilt
history, or None where there is nothing that it could spoil.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple, TypeAlias

from harness.history import Entry, LogEntry, Operation, Polled, Position, Rebalance, ReplicaLog, Sent
from harness.history_findings import AnomalyName

History: TypeAlias = list[Entry]
Mutation: TypeAlias = Callable[[History, Random], History | None]

NEW_PROCESS = 1_000_000
NEW_VALUE = 1_000_000_000


class _SentAt(NamedTuple):
    """A record sent and where it stands."""

    entry: int
    place: int
    operation: Operation
    sent: Sent


def lose_a_write(history: History, random: Random) -> History | None:
    last = {polled.partition: polled.offset for polled in _final(history)}
    final = {(polled.partition, polled.value) for polled in _final(history)}
    lost = [
        at.sent for at in _sent(history)
        if at.sent.outcome == "ok" and at.sent.offset is not None
        and at.sent.offset < last[at.sent.partition] and (at.sent.partition, at.sent.value) in final
    ]  # fmt: skip
    return _unread(history, random.choice(lost).value) if lost else None


def lose_the_last_write(history: History, random: Random) -> History | None:
    last = {polled.partition: polled.value for polled in _final(history)}
    acked = {at.sent.value for at in _sent(history) if at.sent.outcome == "ok"}
    lost = sorted(acked.intersection(last.values()))
    return _unread(history, random.choice(lost)) if lost else None


def fail_what_was_read(history: History, random: Random) -> History | None:
    read = {polled.value for polled in _final(history)}
    found = [at for at in _sent(history) if at.sent.value in read]
    if not found:
        return None
    at = random.choice(found)
    return _send_again(history, at, Sent(at.sent.partition, at.sent.value, "failed"))


def repeat_a_record(history: History, random: Random) -> History | None:
    final = _final(history)
    if not final:
        return None
    polled = random.choice(final)
    end = 1 + max(other.offset for other in final if other.partition == polled.partition)
    return _read_more(history, polled._replace(offset=end + random.randrange(3)))


def read_another_value(history: History, random: Random) -> History | None:
    """Of two readers of one offset, the second gets another value."""
    polls = [number for number, operation in _operations(history) if operation.kind == "poll" and operation.polls]
    if not polls:
        return None
    number = random.choice(polls)
    operation = _at(history, number)
    place = random.randrange(len(operation.polls))
    polls_now = [*operation.polls]
    polls_now[place] = polls_now[place]._replace(value=NEW_VALUE)
    return _with(history, number, replace(operation, polls=tuple(polls_now)))


def read_what_nobody_sent(history: History, random: Random) -> History | None:
    final = _final(history)
    return _read_more(history, final[-1]._replace(offset=final[-1].offset + 1_000, value=NEW_VALUE)) if final else None


def skip_within_a_poll(history: History, random: Random) -> History | None:
    return _spoil_poll(history, random, 3, lambda records: [*records[:1], *records[2:]])


def go_back_within_a_poll(history: History, random: Random) -> History | None:
    return _spoil_poll(history, random, 2, lambda records: [*records, records[0]])


def swap_within_a_poll(history: History, random: Random) -> History | None:
    return _spoil_poll(history, random, 2, lambda records: [*records[:-2], records[-1], records[-2]])


def skip_between_polls(history: History, random: Random) -> History | None:
    def drop_the_first(one: Operation, two: Operation) -> Operation | None:
        both = {polled.partition for polled in one.polls}
        for place, polled in enumerate(two.polls):
            if polled.partition in both:
                rest = two.polls[place + 1 :]
                if any(other.partition == polled.partition for other in rest):
                    return replace(two, polls=(*two.polls[:place], *rest))
                both.discard(polled.partition)
        return None

    return _spoil_next(history, random, drop_the_first)


def go_back_between_polls(history: History, random: Random) -> History | None:
    return _spoil_next(history, random, lambda one, two: replace(two, polls=(one.polls[-1], *two.polls)))


def swap_two_acks(history: History, random: Random) -> History | None:
    pairs = [(one, two) for one, two in _pairs(history) if one.sent.offset is not None and two.sent.offset is not None]
    if not pairs:
        return None
    one, two = random.choice(pairs)
    spoilt = _send_again(history, one, one.sent._replace(offset=two.sent.offset))
    return _send_again(spoilt, two, two.sent._replace(offset=one.sent.offset))


def swap_two_sends(history: History, random: Random) -> History | None:
    """Neither ack tells an offset; the log has them the other way round."""
    read = {polled.value for polled in _final(history)}
    pairs = [(one, two) for one, two in _pairs(history) if one.sent.value in read and two.sent.value in read]
    if not pairs:
        return None
    one, two = random.choice(pairs)
    spoilt = _send_again(history, one, one.sent._replace(value=two.sent.value, offset=None))
    return _send_again(spoilt, two, two.sent._replace(value=one.sent.value, offset=None))


def spoil_a_replica(history: History, random: Random) -> History | None:
    return _spoil_replica(history, random, lambda log, at: replace(log[at], digest="spoilt"))


def elect_another_epoch(history: History, random: Random) -> History | None:
    return _spoil_replica(history, random, lambda log, at: replace(log[at], leader_epoch=9))


def cut_a_replica(history: History, random: Random) -> History | None:
    """One replica lacks its end, of which the last record was read."""
    full = [n for n, entry in enumerate(history) if isinstance(entry, ReplicaLog) and entry.entries]
    if not full:
        return None
    number = random.choice(full)
    log = history[number]
    assert isinstance(log, ReplicaLog)
    return _with(history, number, replace(log, entries=log.entries[: random.randrange(len(log.entries))]))


def commit_past_the_end(history: History, random: Random) -> History | None:
    """A consumer that read nothing commits the end."""
    final = _final(history)
    if not final:
        return None
    polled = random.choice(final)
    return _append(history, "commit", (Position(polled.partition, polled.offset + 1),))


def forget_a_commit(history: History, random: Random) -> History | None:
    acked = [
        position.partition for _, operation in _operations(history) for position in operation.positions
        if operation.kind == "commit" and operation.outcome == "ok"
    ]  # fmt: skip
    return _append(history, "committed", (Position(random.choice(acked)),)) if acked else None


def invent_a_commit(history: History, random: Random) -> History | None:
    return _append(history, "committed", (Position(0, NEW_VALUE),))


def commit_backwards(history: History, random: Random) -> History | None:
    commits = [n for n, o in _operations(history) if o.kind == "commit" and o.outcome == "ok" and o.positions]
    if not commits:
        return None
    number = random.choice(commits)
    operation = _at(history, number)
    lower = operation.positions[0]._replace(offset=(operation.positions[0].offset or 0) - 1)
    again = replace(operation, began_ns=operation.ended_ns, positions=(lower,))
    return [*history[: number + 1], again, *history[number + 1 :]]


def begin_past_the_commit(history: History, random: Random) -> History | None:
    final = _final(history)
    if not final:
        return None
    polled = random.choice(final)
    joins = (Rebalance((), (Position(polled.partition, polled.offset + 1),)),)
    spoilt = _append(history, "subscribe", ())
    return [*spoilt, replace(_at(spoilt, len(spoilt) - 1), kind="poll", group=None, rebalances=joins)]


def read_what_is_not_assigned(history: History, random: Random) -> History | None:
    final = _final(history)
    spoilt = _append(history, "assign", (Position(len(history)),))
    return [*spoilt, replace(_at(spoilt, -1), kind="poll", positions=(), polls=(final[-1],))] if final else None


MUTATIONS: dict[Mutation, AnomalyName] = {
    lose_a_write: AnomalyName.LOST_WRITE,
    lose_the_last_write: AnomalyName.UNSEEN,
    fail_what_was_read: AnomalyName.ABORTED_READ,
    repeat_a_record: AnomalyName.DUPLICATE,
    read_another_value: AnomalyName.INCONSISTENT_OFFSETS,
    read_what_nobody_sent: AnomalyName.PHANTOM_READ,
    skip_within_a_poll: AnomalyName.INTERNAL_POLL_SKIP,
    go_back_within_a_poll: AnomalyName.INTERNAL_NONMONOTONIC_POLL,
    swap_within_a_poll: AnomalyName.INTERNAL_NONMONOTONIC_POLL,
    skip_between_polls: AnomalyName.POLL_SKIP,
    go_back_between_polls: AnomalyName.NONMONOTONIC_POLL,
    swap_two_acks: AnomalyName.NONMONOTONIC_SEND,
    swap_two_sends: AnomalyName.ORDER_BROKEN,
    spoil_a_replica: AnomalyName.REPLICAS_DIFFER,
    elect_another_epoch: AnomalyName.REPLICAS_DIFFER,
    cut_a_replica: AnomalyName.REPLICAS_DIFFER,
    commit_past_the_end: AnomalyName.COMMIT_PAST_POLL,
    commit_backwards: AnomalyName.COMMIT_BACKWARDS,
    forget_a_commit: AnomalyName.LOST_COMMIT,
    invent_a_commit: AnomalyName.PHANTOM_COMMIT,
    begin_past_the_commit: AnomalyName.GROUP_SKIP,
    read_what_is_not_assigned: AnomalyName.UNASSIGNED_POLL,
}


def _operations(history: Sequence[Entry]) -> Iterator[tuple[int, Operation]]:
    for number, entry in enumerate(history):
        if isinstance(entry, Operation):
            yield number, entry


def _at(history: Sequence[Entry], number: int) -> Operation:
    operation = history[number]
    assert isinstance(operation, Operation)
    return operation


def _sent(history: Sequence[Entry]) -> Iterator[_SentAt]:
    for number, operation in _operations(history):
        for place, sent in enumerate(operation.sends):
            yield _SentAt(number, place, operation, sent)


def _final(history: Sequence[Entry]) -> list[Polled]:
    return [
        polled for _, operation in _operations(history) if operation.kind == "final-poll" for polled in operation.polls
    ]


def _pairs(history: Sequence[Entry]) -> list[tuple[_SentAt, _SentAt]]:
    """Acked records of one process and partition that follow one another, in two operations."""
    last: dict[tuple[int, int], _SentAt] = {}
    pairs = []
    for at in _sent(history):
        key = (at.operation.process, at.sent.partition)
        if at.sent.outcome == "ok":
            if key in last and last[key].entry != at.entry:
                pairs.append((last[key], at))
            last[key] = at
    return pairs


def _with(history: Sequence[Entry], number: int, entry: Entry) -> History:
    return [*history[:number], entry, *history[number + 1 :]]


def _send_again(history: Sequence[Entry], at: _SentAt, sent: Sent) -> History:
    operation = _at(history, at.entry)
    sends = (*operation.sends[: at.place], sent, *operation.sends[at.place + 1 :])
    outcome = operation.outcome if sent.outcome == at.sent.outcome else "unknown"
    return _with(history, at.entry, replace(operation, sends=sends, outcome=outcome))


def _unread(history: Sequence[Entry], value: int) -> History:
    """Nobody polls a value."""
    return [
        replace(entry, polls=tuple(polled for polled in entry.polls if polled.value != value))
        if isinstance(entry, Operation)
        else entry
        for entry in history
    ]


def _read_more(history: Sequence[Entry], polled: Polled) -> History:
    """The final reader gets one more record, at the very end."""
    number = max(number for number, operation in _operations(history) if operation.kind == "final-poll")
    operation = _at(history, number)
    return _with(history, number, replace(operation, polls=(*operation.polls, polled)))


def _append(history: Sequence[Entry], kind: str, positions: tuple[Position, ...]) -> History:
    """A new process does something after all else."""
    end_ns = max(operation.ended_ns for _, operation in _operations(history)) + 1
    operation = Operation(NEW_PROCESS, "klamm", "commit", end_ns, end_ns, "ok", positions=positions, group="g")
    group = "another" if kind == "subscribe" else None if kind == "assign" else "g"
    return [*history, replace(operation, kind=kind, group=group)]  # type: ignore[arg-type]


def _spoil_poll(
    history: History, random: Random, least: int, spoil: Callable[[list[Polled]], list[Polled]]
) -> History | None:
    """Changes what one poll gave of one partition, where that were at least so many records without a rebalance."""
    found: list[tuple[int, list[Polled]]] = []
    for number, operation in _operations(history):
        by_partition: dict[int, list[Polled]] = {}
        for polled in operation.polls:
            by_partition.setdefault(polled.partition, []).append(polled)
        if operation.kind == "poll":
            found.extend((number, records) for records in by_partition.values() if len(records) >= least)
    if not found:
        return None
    number, records = random.choice(found)
    operation = _at(history, number)
    others = [polled for polled in operation.polls if polled not in records]
    return _with(history, number, replace(operation, polls=(*others, *spoil(records))))


def _spoil_next(
    history: History, random: Random, spoil: Callable[[Operation, Operation], Operation | None]
) -> History | None:
    """Changes the second of two polls of one process that follow one another without an assignment between."""
    before: dict[int, Operation] = {}
    found = []
    for number, operation in _operations(history):
        one = before.get(operation.process)
        follows = one is not None and one.kind == operation.kind == "poll" and not operation.rebalances
        if one is not None and follows and one.outcome == "ok" and one.polls:
            spoilt = spoil(one, operation)
            if spoilt is not None:
                found.append((number, spoilt))
        before[operation.process] = operation
    return _with(history, *random.choice(found)) if found else None


def _spoil_replica(
    history: History, random: Random, spoil: Callable[[Sequence[LogEntry], int], LogEntry]
) -> History | None:
    full = [n for n, entry in enumerate(history) if isinstance(entry, ReplicaLog) and entry.entries]
    if not full:
        return None
    number = random.choice(full)
    log = history[number]
    assert isinstance(log, ReplicaLog)
    at = random.randrange(len(log.entries))
    return _with(
        history, number, replace(log, entries=(*log.entries[:at], spoil(log.entries, at), *log.entries[at + 1 :]))
    )
