"""Who of the brokers is alive, as the active controller sees it, and what it should propose because of that (KIP-631).

Pure: events and the time go in, answers and proposals come out. What is proposed takes effect only when it is committed
and shows in the image; until then it is under way, one proposal for a broker at a time, and is made again if nothing
comes of it.

    a broker is alive       from its registration or heartbeat until `session_timeout_ms` later, or until
                            `crash_grace_ms` after its stream broke, whichever is sooner
    propose to fence it     unfenced and not alive, or it asks for it
    propose to unfence it   fenced, alive, does not want to be fenced or to leave, and has replayed its own
                            registration (rule 20)
    propose its shutdown    unfenced, alive, and wants to leave
    tell it to shut down    its leaderships are with others, as far as there are any who might take them, and every
                            active broker has seen that (rule 26)

A controller that becomes active knows nothing of the sessions before it: every unfenced broker gets a full time-out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..cluster.image import BrokerRegistration, MetadataImage
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerEpoch, BrokerId, MetadataOffset

SESSION_TIMEOUT_MS: Final = 2_000
CRASH_GRACE_MS: Final = 250
PROPOSAL_RETRY_MS: Final = 1_000
"""A proposal of which nothing was heard is made again after so long."""
FAILED_PROPOSAL_RETRY_MS: Final = 100


@dataclass(frozen=True, slots=True)
class ProposeFence:
    """Commit a FenceBrokersCommand."""

    broker_id: BrokerId
    broker_epoch: BrokerEpoch
    reason: str


@dataclass(frozen=True, slots=True)
class ProposeUnfence:
    """Commit an UnfenceBrokerCommand."""

    broker_id: BrokerId
    broker_epoch: BrokerEpoch


@dataclass(frozen=True, slots=True)
class ProposeControlledShutdown:
    """Commit a ControlledShutdownCommand."""

    broker_id: BrokerId
    broker_epoch: BrokerEpoch


Proposal = ProposeFence | ProposeUnfence | ProposeControlledShutdown


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """The fields of a BrokerHeartbeatAnswer."""

    error_code: ErrorCode = ErrorCode.NONE
    is_fenced: bool = False
    is_caught_up: bool = False
    should_shut_down: bool = False


@dataclass(slots=True)
class _Session:
    """What is known of one registration of a broker."""

    broker_epoch: BrokerEpoch
    last_contact_ms: int
    broken_since_ms: int | None = None
    metadata_end_offset: MetadataOffset | None = None  # None: not heard from yet
    want_shutdown: bool = False
    want_fence: bool = True  # until it says otherwise
    propose_again_ms: int | None = None  # None: nothing is under way
    leaders_checked: MetadataImage | None = None  # in this image it still had leaderships to hand over
    shutdown_offset: MetadataOffset | None = None  # where it had none left


class BrokerSessions:
    """The sessions with one active controller. Between `became_active` and `resigned` it holds the current image."""

    def __init__(self, *, session_timeout_ms: int = SESSION_TIMEOUT_MS, crash_grace_ms: int = CRASH_GRACE_MS) -> None:
        self._session_timeout_ms = session_timeout_ms
        self._crash_grace_ms = crash_grace_ms
        self._image: MetadataImage | None = None  # None: not active
        self._sessions: dict[BrokerId, _Session] = {}
        self._last_tick_ms: int | None = None

    @property
    def active(self) -> bool:
        """True while this controller is active."""
        return self._image is not None

    @property
    def tick_interval_ms(self) -> int:
        """`tick` must be called at least so often, besides after each event."""
        return max(1, min(100, self._crash_grace_ms // 4 or 1, self._session_timeout_ms // 16))

    def became_active(self, image: MetadataImage, now_ms: int) -> None:
        """This controller is active from now on; `image` holds its BecomeController."""
        self._image = image
        self._last_tick_ms = now_ms
        self._sessions = {
            broker.broker_id: _Session(broker.broker_epoch, now_ms, want_fence=False)
            for broker in image.brokers.values()
            if not broker.fenced
        }

    def resigned(self) -> None:
        """Another controller is, or will be, active."""
        self._image = None
        self._sessions = {}

    def image_changed(self, image: MetadataImage, now_ms: int) -> None:
        """A command was applied. Ignored while not active."""
        old = self._image
        if old is None:
            return
        self._image = image
        if image.brokers is old.brokers:
            return
        for broker in image.brokers.values():
            before = old.brokers.get(broker.broker_id)
            session = self._sessions.get(broker.broker_id)
            if before is None or before.broker_epoch != broker.broker_epoch:
                self._sessions[broker.broker_id] = _Session(broker.broker_epoch, now_ms)
            elif before is not broker and session is not None:
                session.propose_again_ms = None
        for broker_id in [broker_id for broker_id in self._sessions if broker_id not in image.brokers]:
            del self._sessions[broker_id]

    def heartbeat(
        self,
        broker_id: BrokerId,
        broker_epoch: BrokerEpoch,
        metadata_end_offset: MetadataOffset,
        want_shutdown: bool,
        want_fence: bool,
        now_ms: int,
    ) -> HeartbeatAnswer:
        """A broker says that it lives, and what it wants. Call `tick` after it."""
        refused = self._refusal(broker_id, broker_epoch)
        if refused is not None:
            return HeartbeatAnswer(refused)
        session = self._sessions.get(broker_id)
        if session is None:
            session = self._sessions[broker_id] = _Session(broker_epoch, now_ms)
        session.last_contact_ms = now_ms
        session.broken_since_ms = None
        session.metadata_end_offset = metadata_end_offset
        session.want_shutdown = want_shutdown
        session.want_fence = want_fence
        return self.answer(broker_id, broker_epoch)

    def answer(self, broker_id: BrokerId, broker_epoch: BrokerEpoch) -> HeartbeatAnswer:
        """What the broker is told now: it may be another answer than to its last heartbeat. Changes nothing."""
        refused = self._refusal(broker_id, broker_epoch)
        session = self._sessions.get(broker_id)
        if refused is not None or self._image is None or session is None:
            return HeartbeatAnswer(refused or ErrorCode.NONE, is_fenced=True)
        broker = self._image.brokers[broker_id]
        return HeartbeatAnswer(
            is_fenced=broker.fenced,
            is_caught_up=_caught_up(broker, session),
            should_shut_down=session.want_shutdown and self._may_shut_down(self._image, broker, session),
        )

    def stream_broken(self, broker_id: BrokerId, broker_epoch: BrokerEpoch, now_ms: int) -> None:
        """The stream on which this broker's latest heartbeat came broke off: its process has probably died."""
        session = self._sessions.get(broker_id)
        if session is not None and session.broker_epoch == broker_epoch and session.broken_since_ms is None:
            session.broken_since_ms = now_ms

    def proposal_failed(self, broker_id: BrokerId, now_ms: int) -> None:
        """A proposal for this broker was refused or its outcome is not known: it may be made again soon."""
        session = self._sessions.get(broker_id)
        if session is not None and session.propose_again_ms is not None:
            session.propose_again_ms = min(session.propose_again_ms, now_ms + FAILED_PROPOSAL_RETRY_MS)

    def is_alive(self, broker_id: BrokerId, now_ms: int) -> bool:
        """True if the latest registration of this broker has a session."""
        session = self._sessions.get(broker_id)
        if session is None or self._image is None:
            return False
        return self._why_dead(self._image.brokers[broker_id], session, now_ms) is None

    def tick(self, now_ms: int) -> list[Proposal]:
        """What to propose now. Call it after each event and at least every `tick_interval_ms`."""
        if self._image is None:
            return []
        self._forgive_stall(now_ms)
        proposals = []
        for broker in self._image.brokers.values():
            session = self._sessions.get(broker.broker_id)
            if session is None or (session.propose_again_ms is not None and now_ms < session.propose_again_ms):
                continue
            proposal = self._proposal(broker, session, now_ms)
            session.propose_again_ms = None
            if proposal is not None:
                session.propose_again_ms = now_ms + PROPOSAL_RETRY_MS
                proposals.append(proposal)
        return proposals

    def _refusal(self, broker_id: BrokerId, broker_epoch: BrokerEpoch) -> ErrorCode | None:
        if self._image is None:
            return ErrorCode.NOT_CONTROLLER
        broker = self._image.brokers.get(broker_id)
        if broker is None:
            return ErrorCode.BROKER_ID_NOT_REGISTERED
        return None if broker.broker_epoch == broker_epoch else ErrorCode.STALE_BROKER_EPOCH

    def _proposal(self, broker: BrokerRegistration, session: _Session, now_ms: int) -> Proposal | None:
        reason = self._why_dead(broker, session, now_ms)
        if not broker.fenced:
            if reason is None and session.want_fence:
                reason = "it asks for it"
            if reason is not None:
                return ProposeFence(broker.broker_id, broker.broker_epoch, reason)
            if session.want_shutdown and not broker.in_controlled_shutdown:
                return ProposeControlledShutdown(broker.broker_id, broker.broker_epoch)
            return None
        wants_in = not session.want_fence and not session.want_shutdown and not broker.in_controlled_shutdown
        if reason is None and wants_in and _caught_up(broker, session):
            return ProposeUnfence(broker.broker_id, broker.broker_epoch)
        return None

    def _why_dead(self, broker: BrokerRegistration, session: _Session, now_ms: int) -> str | None:
        # Who is shutting down breaks its stream on purpose: there is nothing to wait for.
        grace_ms = 0 if broker.in_controlled_shutdown else self._crash_grace_ms
        if session.broken_since_ms is not None and now_ms - session.broken_since_ms >= grace_ms:
            return "its stream broke"
        if now_ms - session.last_contact_ms >= self._session_timeout_ms:
            return f"no heartbeat for {now_ms - session.last_contact_ms} ms"
        return None

    def _forgive_stall(self, now_ms: int) -> None:
        """Does not hold it against the brokers that this process itself stood still: their heartbeats are waiting."""
        stalled_ms = 0 if self._last_tick_ms is None else now_ms - self._last_tick_ms
        self._last_tick_ms = now_ms
        if stalled_ms < self._session_timeout_ms // 2:
            return
        for session in self._sessions.values():
            session.last_contact_ms = min(now_ms, session.last_contact_ms + stalled_ms)

    def _may_shut_down(self, image: MetadataImage, broker: BrokerRegistration, session: _Session) -> bool:
        if broker.fenced:
            return True
        if not broker.in_controlled_shutdown:
            return False
        if session.shutdown_offset is None and session.leaders_checked is not image:
            session.leaders_checked = image
            if not _has_leaderships_to_hand_over(image, broker.broker_id):
                session.shutdown_offset = image.end_offset
        if session.shutdown_offset is None:
            return False
        return all(
            self._has_seen(other.broker_id, session.shutdown_offset)
            for other in image.brokers.values()
            if other.active or other is broker
        )

    def _has_seen(self, broker_id: BrokerId, end_offset: MetadataOffset) -> bool:
        session = self._sessions.get(broker_id)
        return (
            session is not None
            and session.metadata_end_offset is not None
            and session.metadata_end_offset >= end_offset
        )


def _caught_up(broker: BrokerRegistration, session: _Session) -> bool:
    """Rule 20: the broker has replayed the record of its own registration, whose offset is its epoch."""
    return session.metadata_end_offset is not None and session.metadata_end_offset > broker.broker_epoch


def _has_leaderships_to_hand_over(image: MetadataImage, broker_id: BrokerId) -> bool:
    """True if it leads a partition of which another active broker is a replica, which may yet come into the ISR."""
    return any(
        partition.leader == broker_id
        and any(replica != broker_id and image.is_active(replica) for replica in partition.replicas)
        for _, partition in image.partitions()
    )
