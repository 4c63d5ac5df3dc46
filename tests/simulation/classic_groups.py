"""One classic group, its coordinators one after the other, and its clients: all in virtual time, drawn from one seed.

Requests and answers are delayed, lost and repeated; clients crash, come back, leave, fall silent; appends are refused,
or their outcome is never learned; a coordinator ends at any moment, and the next one begins with what the log has:
all that was committed, and as much of the rest as chance leaves there.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from klamm.broker.groups.classic_group import ClassicGroup
from klamm.broker.groups.group import Append, Effects, Reply, Ticket
from klamm.broker.groups.group_config import GroupConfig
from klamm.broker.groups.group_request import (
    GroupState,
    HeartbeatRequest,
    JoinRequest,
    SyncRequest,
)
from klamm.broker.groups.records import GroupMetadata, parse_group_metadata
from klamm.proto.errors import ErrorCode
from simulation.classic_group_client import Client
from simulation.classic_group_oracles import Oracles

WALL_MS = 1_700_000_000_000
FAULTS = ("crash", "crash", "leave", "silence", "disconnect", "disconnect", "cut", "fail over", "calm", "metadata")
_ERRORS = (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.REQUEST_TIMED_OUT, ErrorCode.NOT_LEADER_OR_FOLLOWER)


@dataclass
class Waiting:
    """A request at the coordinator, and where its answer goes."""

    client: str
    answered: Callable[[Any], None]


class World:
    """The group, the log, the network and the clients of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0
        self.log: list[GroupMetadata] = []
        self.committed_end = 0  # so many of the log's records are on every replica
        self.oracles = Oracles(self)
        self.config = GroupConfig(initial_rebalance_delay_ms=self.random.choice((0, 0, 200)))
        self.loss = self.random.choice((0.0, 0.05, 0.2))
        self.slow_append = self.random.choice((2, 50, 2_000))
        self.faults = True
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = count()
        self._tickets = count(1)
        self._waiting: dict[Ticket, Waiting] = {}
        self._ids = count(1)
        self._epoch = 0
        self._wake: int | None = None
        self.group = self._load()
        dynamic = self.random.randint(1, 5)
        static = self.random.randint(0, 3)
        self.clients = [Client(self, f"c{number}", None) for number in range(dynamic)]
        self.clients += [Client(self, f"s{number}", f"i{number}") for number in range(static)]

    # --- time ---

    def after(self, delay_ms: int, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_ms, next(self._serial), event))

    def run(self, milliseconds: int) -> None:
        end = self.now + milliseconds
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
            self.oracles.step()
        self.now = end

    def _set_alarm(self) -> None:
        deadline = self.group.next_deadline_ms()
        if deadline is None or (self._wake is not None and self.now < self._wake <= deadline):
            return
        self._wake, epoch = max(deadline, self.now + 1), self._epoch

        def ring() -> None:
            if epoch == self._epoch:
                self._wake = None
                self._carry_out(self.group.tick(self.now))

        self.after(self._wake - self.now, ring)

    # --- the coordinator ---

    def _load(self) -> ClassicGroup:
        values: dict[str, Any] = {
            "config": self.config,
            "new_member_id": lambda prefix: f"{prefix}-{next(self._ids)}",
            "wall_ms": lambda: WALL_MS + self.now,
        }
        if not self.log:
            return ClassicGroup("g", **values)
        return ClassicGroup.from_record("g", self.oracles.value_of(self.log[-1]), now_ms=self.now, **values)

    def fail_over(self) -> None:
        """The next coordinator takes up the log, once all of it is committed."""
        self.log = self.log[: self.random.randint(self.committed_end, len(self.log))]
        self.committed_end = len(self.log)
        self._epoch += 1
        self._wake = None
        self._waiting.clear()
        self.group = self._load()
        self.oracles.new_coordinator()
        self._set_alarm()

    def _carry_out(self, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                self._answer(effect)
            else:
                self._append(effect)
        self._set_alarm()

    def _answer(self, reply: Reply) -> None:
        waiting = self._waiting.pop(reply.ticket, None)
        if waiting is not None:
            self.oracles.answered(reply.answer)
            self._deliver(lambda: waiting.answered(reply.answer))

    def _append(self, effect: Append) -> None:
        (record,) = effect.records
        assert record.value is not None
        token, epoch, fate = effect.token, self._epoch, self.random.random() if self.faults else 1.0
        if fate < 0.05:
            self._carry_out(self.group.failed(token, self.random.choice(_ERRORS), self.now))
            return
        self.log.append(parse_group_metadata(record.value))
        end = len(self.log)
        self.group.appended(token)
        delay = self.random.randint(0, self.slow_append)

        def committed() -> None:
            if epoch == self._epoch:
                self.committed_end = max(self.committed_end, end)
                if fate >= 0.1:
                    self._carry_out(self.group.committed(token, self.now))

        def timed_out() -> None:
            if epoch == self._epoch:
                self._carry_out(self.group.failed(token, ErrorCode.REQUEST_TIMED_OUT, self.now))

        self.after(delay, committed)
        if fate < 0.1:
            self.after(self.random.randint(0, 2 * self.slow_append), timed_out)

    # --- the network ---

    def _deliver(self, arrive: Callable[[], None]) -> None:
        if self.faults and self.random.random() < self.loss:
            return
        self.after(self.random.choice((1, 1, 5, 300 if self.faults else 5)), arrive)

    def send(self, client: str, request: Any, answered: Callable[[Any], None]) -> None:
        """A request sets out; now and then it comes twice, the second time late."""
        self._deliver(lambda: self._arrive(Waiting(client, answered), request))
        if self.faults and self.random.random() < 0.1:
            late = self.random.randint(10, self.random.choice((200, 2_000, 20_000)))
            self.after(late, lambda: self._arrive(Waiting(client, lambda answer: None), request))

    def _arrive(self, waiting: Waiting, request: Any) -> None:
        if isinstance(request, HeartbeatRequest):
            answer = self.group.heartbeat(request, self.now)
            self.oracles.alive(request, answer)
            self._deliver(lambda: waiting.answered(answer))
            return
        ticket = Ticket(next(self._tickets))
        self._waiting[ticket] = waiting
        if isinstance(request, JoinRequest):
            effects = self.group.join(request, ticket, self.now)
        elif isinstance(request, SyncRequest):
            effects = self.group.sync(request, ticket, self.now)
        else:
            effects = self.group.leave(request, ticket, self.now)
        self._carry_out(effects)

    def disconnect(self, client: str) -> None:
        """Its connection breaks, and the coordinator notices."""
        for ticket in [ticket for ticket, waiting in self._waiting.items() if waiting.client == client]:
            del self._waiting[ticket]
            self.group.forget_ticket(ticket)
        self._set_alarm()

    # --- faults ---

    def trouble(self) -> None:
        """One fault of a random kind."""
        client = self.random.choice(self.clients)
        kind = self.random.choice(FAULTS)
        if kind == "fail over":
            self.fail_over()
        elif kind == "crash":
            client.crash(self.random.choice((10, 500, 15_000)))
        elif kind == "leave":
            client.leave()
        elif kind == "silence":
            client.silent_until_ms = self.now + self.random.randint(1_000, 20_000)
        elif kind == "disconnect":
            client.reconnect()
        elif kind == "cut":
            self.disconnect(client.name)
        elif kind == "metadata":
            client.change_metadata()

    def heal(self) -> None:
        self.faults = False
        for client in self.clients:
            client.silent_until_ms = 0
        if not any(client.running for client in self.clients):
            self.clients[0].crash(100)

    def is_settled(self) -> bool:
        """Every client that runs has its part of one and the same generation."""
        running = [client for client in self.clients if client.running]
        generations = {client.owned_generation for client in running}
        stable = self.group.state is GroupState.STABLE and generations == {self.group.generation_id}
        return stable and len(self.group.described().members) == len(running)
