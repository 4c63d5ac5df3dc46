"""A client of a classic group: joins, syncs, heartbeats, retries, and makes the assignment when it leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from klamm.broker.groups.group_request import (
    HeartbeatRequest,
    JoinAnswer,
    JoinRequest,
    LeaveRequest,
    LeavingMember,
    SyncAnswer,
    SyncRequest,
)
from klamm.proto.errors import ErrorCode

if TYPE_CHECKING:
    from simulation.classic_groups import World

PARTITIONS = 7
SESSION_MS = 10_000
REBALANCE_MS = 20_000
HEARTBEAT_MS = 1_000
REQUEST_TIMEOUT_MS = 25_000
BACKOFF_MS = 50
_NONE = ErrorCode.NONE


class Client:
    """One consumer. A new round of its life makes everything that is still on its way for the last one void."""

    def __init__(self, world: World, name: str, instance_id: str | None) -> None:
        self.world = world
        self.name = name
        self.instance_id = instance_id
        self.running = True
        self.silent_until_ms = 0
        self.owned_generation: int | None = None
        self._life = 0
        self._metadata = 0
        self._asks_for_id = world.random.random() < 0.7
        self._skips = world.random.random() < 0.7
        self._start(world.random.randint(0, 3_000))

    def _start(self, delay_ms: int) -> None:
        self._life += 1
        self.running = True
        self._member_id = ""
        self._generation = -1
        self.owned_generation = None
        self._attempt = 0
        self._later(delay_ms, self._join)

    # --- faults ---

    def crash(self, away_ms: int) -> None:
        self.world.disconnect(self.name)
        self._start(away_ms)

    def leave(self) -> None:
        """Leaves, and stays away or comes back at once."""
        leaving = LeavingMember(self._member_id, self.instance_id)
        self.world.send(self.name, LeaveRequest("g", (leaving,)), lambda answer: None)
        self._life += 1
        self.running = False
        self.owned_generation = None
        if self.world.random.random() < 0.7 or sum(client.running for client in self.world.clients) == 0:
            self._start(100)

    def reconnect(self) -> None:
        """Its connection breaks, it notices, and asks again whatever it waited for; it may decide otherwise now."""
        self.world.disconnect(self.name)
        if self.running:
            self._attempt += 1
            self._later(self.world.random.choice((1, 20, 500)), self._join)

    def change_metadata(self) -> None:
        if self.running:
            self._metadata += 1
            self._join()

    # --- the protocol ---

    def _join(self) -> None:
        request = JoinRequest(
            group_id="g",
            member_id=self._member_id,
            group_instance_id=self.instance_id,
            client_id=self.name,
            client_host="/127.0.0.1",
            protocol_type="consumer",
            protocols=(("range", bytes([self._metadata])), ("sticky", b"")),
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            require_known_member_id=self._asks_for_id,
            supports_skipping_assignment=self._skips,
        )
        self._ask(request, self._joined, self._join)

    def _joined(self, answer: JoinAnswer) -> None:
        if answer.error is ErrorCode.MEMBER_ID_REQUIRED:
            self._member_id = answer.member_id
            self._join()
        elif answer.error is not _NONE:
            self._recover(answer.error)
        else:
            self._member_id, self._generation = answer.member_id, answer.generation_id
            leads = answer.leader == answer.member_id and not answer.skip_assignment
            self._sync(answer, self._assignments(answer) if leads else {})

    def _assignments(self, answer: JoinAnswer) -> dict[str, bytes]:
        """Partition by partition in turn; each part says which decision it is of."""
        members = [member.member_id for member in answer.members]
        self.world.random.shuffle(members)
        decision = f"{answer.generation_id}:{answer.leader}:{self.world.random.getrandbits(32)}"
        parts = {member: range(PARTITIONS)[place :: len(members)] for place, member in enumerate(members)}
        return {m: f"{decision}:{','.join(map(str, part))}".encode() for m, part in parts.items()}

    def _sync(self, joined: JoinAnswer, assignments: dict[str, bytes]) -> None:
        request = SyncRequest(
            group_id="g",
            generation_id=joined.generation_id,
            member_id=self._member_id,
            group_instance_id=self.instance_id,
            protocol_type="consumer",
            protocol_name=joined.protocol_name,
            assignments=assignments,
        )
        self._ask(request, self._synced, self._join)

    def _synced(self, answer: SyncAnswer) -> None:
        if answer.error is not _NONE:
            self._recover(answer.error)
            return
        self.owned_generation = self._generation
        self.world.oracles.owns(self.instance_id or self._member_id, self._generation, answer.assignment)
        self._later(HEARTBEAT_MS, self._heartbeat)

    def _heartbeat(self) -> None:
        if self.world.now < self.silent_until_ms:
            self._later(HEARTBEAT_MS, self._heartbeat)
            return
        request = HeartbeatRequest("g", self._generation, self._member_id, self.instance_id)
        self._ask(request, self._beaten, self._heartbeat)

    def _beaten(self, error: ErrorCode) -> None:
        if error is _NONE:
            self._later(HEARTBEAT_MS, self._heartbeat)
        else:
            self._recover(error)

    def _recover(self, error: ErrorCode) -> None:
        """As a consumer does: joins again, as somebody new where it is not known any more."""
        if error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self._generation = -1
            self.owned_generation = None
        if error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            self._member_id = ""
        self._later(BACKOFF_MS, self._join)

    # --- requests ---

    def _is_current(self) -> Callable[[], bool]:
        """Whether the client still does what it does now: it does one thing at a time."""
        life, attempt = self._life, self._attempt
        return lambda: (life, attempt) == (self._life, self._attempt)

    def _later(self, delay_ms: int, event: Callable[[], None]) -> None:
        current = self._is_current()
        self.world.after(delay_ms, lambda: event() if current() else None)

    def _ask(self, request: Any, answered: Callable[[Any], None], retry: Callable[[], None]) -> None:
        """What is not answered in time is given up, with the connection."""
        self._attempt += 1
        current = self._is_current()

        def on_answer(answer: Any) -> None:
            if current():
                self._attempt += 1
                answered(answer)

        def on_time_out() -> None:
            if current():
                self.world.disconnect(self.name)
                retry()

        self.world.send(self.name, request, on_answer)
        self.world.after(REQUEST_TIMEOUT_MS, on_time_out)
