"""One thread of a client program: one operation after another, drawn at random, each written to the journal.

Sends are not waited for: up to SENDS_MAX of them are under way beside the operation that the thread is at.
The thread is one process of the history at a time: when its producer or consumer fails for good, it throws both away
(a `crash`) and goes on under the next number. Values are unique in the campaign: process number and a count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from chaos.client import ANSWER_SECONDS_MAX, Client, ClientError, PollResult, Sending, SendResult, Spot
from chaos.journal import Journal
from chaos.outcomes import operation_outcome
from harness.history import Kind, Operation, Polled, Position, Rebalance, Sent

VALUES_PER_PROCESS: Final = 1_000_000
PROCESSES_PER_WORKER: Final = 100
SENDS_MAX: Final = 8
_RECORDS_MAX: Final = 32
_SPOTS_MAX: Final = 3  # to which one send goes
_BEHIND_MAX: Final = 10_000
"""A consumer with an assignment by hand that is further behind in a partition gives up on it: so what is read stays in
proportion to what is written, however long a campaign lasts. Everything is read at its end."""
_BACK_MAX: Final = 2_000  # offsets from the end at which it begins anew
_SETTLE_SECONDS: Final = 2.0  # for sends under way when the consumer has failed for good
_RETRY_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.01
_WEIGHTS: Final[Mapping[Kind, float]] = {"send": 15, "poll": 10, "assign": 0.25, "subscribe": 0.25, "committed": 0.1}
_COMMIT_SHARE: Final = 0.3
"""Of the polls of a subscribed consumer that gave something."""


class Worker:
    """Works until `stopping` is set, then closes its client."""

    def __init__(
        self,
        *,
        first_process: int,
        library: str,
        group: str,
        partitions: Sequence[Spot],
        journal: Journal,
        connect: Callable[[str], Client],
        random: Random,
        pace_s: float,
        stopping: threading.Event,
    ) -> None:
        """`partitions`: their places are the history's numbers. `connect` makes a client with this client id."""
        self._process = first_process
        self._last_process = first_process + PROCESSES_PER_WORKER - 1
        self._library = library
        self._group = group
        self._spots = list(partitions)
        self._numbers = {spot: number for number, spot in enumerate(partitions)}
        self._topics = sorted({topic for topic, _ in partitions})
        self._journal = journal
        self._connect = connect
        self._random = random
        self._pace_s = pace_s
        self._stopping = stopping
        self._count = 0
        self._last_began_ns = 0
        self._sendings: list[tuple[Operation, Sending]] = []  # under way
        self._subscribed = False
        self._ends: dict[int, int] = {}  # by partition: the highest end that this thread knows of
        self._positions: dict[int, int] = {}  # by partition, what is assigned by hand: the next offset to read
        self._seen: dict[int, int] = {}  # the next offset to read, by partition, as this process knows it
        self._to_commit: dict[int, int] = {}

    def run(self) -> None:
        """:raises ClientError: the client did not close in good order."""
        while not self._stopping.is_set():
            client = self._new_client()
            if client is None:
                return
            alive = self._work(client)
            # At the end of the campaign a library is held to tell of every record.
            alive = self._settle(ANSWER_SECONDS_MAX if alive else _SETTLE_SECONDS) and alive
            if alive:
                client.close()
                return
            self._crash(client)

    def _new_client(self) -> Client | None:
        while not self._stopping.is_set():
            try:
                return self._connect(f"chaos-{self._process}")
            except ClientError:  # nobody is there yet: kafka-python wants an answer when it is made
                self._stopping.wait(_RETRY_SECONDS)
        return None

    def _work(self, client: Client) -> bool:
        """False when the client is of no use any more."""
        alive = self._subscribe(client) if self._random.random() < 0.5 else self._assign(client)
        while alive and not self._stopping.is_set():
            self._stopping.wait(self._random.uniform(0, 2 * self._pace_s))
            if not self._collect():
                return False
            match self._draw():
                case "send":
                    self._send(client)
                case "poll":
                    alive = self._poll(client)
                case "assign":
                    alive = self._assign(client)
                case "subscribe":
                    alive = self._subscribe(client)
                case _:
                    alive = self._committed(client)
        return alive

    def _draw(self) -> Kind:
        if any(self._ends.get(number, 0) - at > _BEHIND_MAX for number, at in self._positions.items()):
            return "assign"
        (kind,) = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        return "poll" if kind == "send" and len(self._sendings) == SENDS_MAX else kind

    def _crash(self, client: Client) -> None:
        now = self._now_ns()
        self._journal.end(Operation(self._process, self._library, "crash", now, now, "ok"))
        # Closed in the background: a client that has failed may take its time, or never end.
        threading.Thread(target=_close_quietly, args=(client,), daemon=True).start()
        self._process += 1
        self._count = 0
        self._seen, self._positions, self._to_commit, self._subscribed = {}, {}, {}, False
        if self._process > self._last_process:
            raise RuntimeError(f"{self._library} came to its end {PROCESSES_PER_WORKER} times")

    # --- operations ----------------------------------------------------------------------------------------------

    def _begin(self, kind: Kind, *, sends: tuple[Sent, ...] = (), positions: tuple[Position, ...] = ()) -> Operation:
        now = self._now_ns()
        group = self._group if kind in ("subscribe", "commit", "committed") else None
        operation = Operation(
            self._process, self._library, kind, now, now, "unknown", sends=sends, positions=positions, group=group
        )
        self._journal.begin(operation)
        return operation

    def _end(self, operation: Operation) -> None:
        self._journal.end(replace(operation, ended_ns=max(operation.began_ns, time.monotonic_ns())))

    def _send(self, client: Client) -> None:
        some = self._random.sample(self._spots, self._random.randint(1, min(_SPOTS_MAX, len(self._spots))))
        spots = self._random.choices(some, k=self._random.randint(1, _RECORDS_MAX))
        values = [self._next_value() for _ in spots]
        sends = tuple(Sent(self._numbers[spot], value, "unknown") for spot, value in zip(spots, values, strict=True))
        operation = self._begin("send", sends=sends)
        sending = client.send([(spot, b"%d" % value) for spot, value in zip(spots, values, strict=True)])
        self._sendings.append((operation, sending))

    def _collect(self) -> bool:
        """Writes down the sends that have ended; False when the producer has failed for good."""
        deadline = time.monotonic() - ANSWER_SECONDS_MAX
        alive, left = not any(sending.fatal for _, sending in self._sendings), []
        for operation, sending in self._sendings:
            if sending.done or sending.began < deadline:
                alive = self._end_send(operation, sending.results()) and alive
            else:
                left.append((operation, sending))
        self._sendings = left
        return alive

    def _settle(self, seconds: float) -> bool:
        """Waits for the sends under way, and writes them down as they then are; False as `_collect`."""
        alive, deadline = True, time.monotonic() + seconds
        while self._sendings and time.monotonic() < deadline:
            if not self._collect() and alive:  # what is not told soon now is not told at all
                alive, deadline = False, min(deadline, time.monotonic() + _SETTLE_SECONDS)
            time.sleep(_LOOK_SECONDS)
        for operation, sending in self._sendings:
            alive = self._end_send(operation, sending.results()) and alive
        self._sendings = []
        return alive

    def _end_send(self, operation: Operation, results: Sequence[SendResult]) -> bool:
        """False when the producer has failed for good."""
        sent = tuple(_sent(one, result) for one, result in zip(operation.sends, results, strict=True))
        errors = sorted({result.error for result in results if result.error is not None})
        outcome = operation_outcome([result.outcome for result in results])
        ended_ns = max(operation.began_ns, *(result.ended_ns for result in results))
        ended = replace(operation, ended_ns=ended_ns, sends=sent, outcome=outcome, error="; ".join(errors) or None)
        self._journal.end(ended)
        for one in sent:
            if one.offset is not None:
                self._ends[one.partition] = max(one.offset + 1, self._ends.get(one.partition, 0))
        return not any(result.fatal for result in results)

    def _poll(self, client: Client) -> bool:
        operation = self._begin("poll")
        result = client.poll()
        self._end(
            replace(
                operation,
                polls=tuple(Polled(self._numbers[r.spot], r.offset, int(r.value)) for r in result.records),
                rebalances=self._rebalances(result),
                outcome=result.outcome,
                error=result.error,
            )
        )
        self._note_positions(result)
        if self._subscribed and self._to_commit and self._random.random() < _COMMIT_SHARE:
            self._commit(client)
        return not result.fatal

    def _assign(self, client: Client) -> bool:
        spots = self._random.sample(self._spots, self._random.randint(1, len(self._spots)))
        positions = {spot: self._known_offset(self._numbers[spot]) for spot in spots}
        numbered = self._numbered(positions)
        self._subscribed, self._to_commit = False, {}
        self._positions = {self._numbers[spot]: offset for spot, offset in positions.items()}
        return self._carry_out(self._begin("assign", positions=numbered), lambda: client.assign(positions))

    def _subscribe(self, client: Client) -> bool:
        if self._subscribed and client.keeps_subscription:
            return True  # the history would say that what it had is gone
        self._subscribed, self._positions, self._to_commit = True, {}, {}
        return self._carry_out(self._begin("subscribe"), lambda: client.subscribe(self._topics))

    def _commit(self, client: Client) -> bool:
        offsets = {self._spots[number]: offset for number, offset in self._to_commit.items()}
        positions = tuple(Position(number, offset) for number, offset in sorted(self._to_commit.items()))
        return self._carry_out(self._begin("commit", positions=positions), lambda: client.commit(offsets))

    def _committed(self, client: Client) -> bool:
        operation = self._begin("committed")
        try:
            found = client.committed(self._spots)
        except ClientError as error:
            self._end(replace(operation, outcome=error.outcome, error=str(error)))
            return not error.fatal
        self._end(replace(operation, outcome="ok", positions=self._numbered(found)))
        return True

    def _carry_out(self, operation: Operation, do: Callable[[], None]) -> bool:
        try:
            do()
        except ClientError as error:
            self._end(replace(operation, outcome=error.outcome, error=str(error)))
            return not error.fatal
        self._end(replace(operation, outcome="ok"))
        return True

    def _now_ns(self) -> int:
        """No two operations begin at one time: by it the journal knows them."""
        self._last_began_ns = max(time.monotonic_ns(), self._last_began_ns + 1)
        return self._last_began_ns

    # --- what it remembers ---------------------------------------------------------------------------------------

    def _next_value(self) -> int:
        self._count += 1
        return self._process * VALUES_PER_PROCESS + self._count

    def _known_offset(self, partition: int) -> int:
        """Where it stood, or somewhere before the end; the beginning, where it knows of neither."""
        end = self._ends.get(partition, 0)
        last = self._seen.get(partition, 0)
        if self._random.random() < 0.6 and end - last <= _BEHIND_MAX:
            return last
        return self._random.randint(max(0, end - _BACK_MAX), end)

    def _note_positions(self, result: PollResult) -> None:
        for number in (self._numbers[spot] for change in result.ownerships for spot in change.revoked):
            self._to_commit.pop(number, None)
        for record in result.records:
            number = self._numbers[record.spot]
            self._seen[number] = max(self._seen.get(number, 0), record.offset + 1)
            self._ends[number] = max(self._seen[number], self._ends.get(number, 0))
            if number in self._positions:
                self._positions[number] = record.offset + 1
            self._to_commit[number] = record.offset + 1

    def _numbered(self, offsets: Mapping[Spot, int | None]) -> tuple[Position, ...]:
        numbered = sorted((self._numbers[spot], offset) for spot, offset in offsets.items())
        return tuple(Position(number, offset) for number, offset in numbered)

    def _rebalances(self, result: PollResult) -> tuple[Rebalance, ...]:
        return tuple(
            Rebalance(
                tuple(self._numbers[spot] for spot in change.revoked),
                tuple(Position(self._numbers[spot]) for spot in change.assigned),
                change.polled_before,
            )
            for change in result.ownerships
        )


def _sent(sent: Sent, result: SendResult) -> Sent:
    return Sent(sent.partition, sent.value, result.outcome, result.offset, result.ended_ns)


def _close_quietly(client: Client) -> None:
    try:
        client.close()
    except ClientError:
        return  # it had failed for good before; that is in the journal
