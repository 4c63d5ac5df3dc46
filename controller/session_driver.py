"""Brokers' sessions, driven: heartbeats and broken streams go in, a timer ticks, and what follows is proposed.

The rules are in sessions.py, which is pure; here are the streams and the clock. Answers are not queued: a stream holds
the latest one only, and a change of what a broker should know (it is unfenced, it may shut down) is pushed to it
without waiting for its next heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Final, Protocol

from ..cluster.clock import Clock
from ..proto.command_pb2 import Command, CommandResponse
from ..proto.controller_pb2 import BrokerHeartbeat, BrokerHeartbeatAnswer
from ..proto.errors import ErrorCode
from ..proto.identifiers import NONE_ID, BrokerEpoch, BrokerId, MetadataOffset
from .sessions import (
    FAILED_PROPOSAL_RETRY_MS,
    BrokerSessions,
    HeartbeatAnswer,
    Proposal,
    ProposeFence,
    ProposeUnfence,
)
from .state_machine import MetadataStateMachine

logger = logging.getLogger(__name__)

TICK_MS_MAX: Final = 250


class Proposer(Protocol):
    """What this needs of `ActiveController`."""

    async def propose(self, command: Command) -> CommandResponse: ...


class SessionStream:
    """One broker's stream: the latest answer, until it ends."""

    def __init__(self) -> None:
        self.heartbeat: BrokerHeartbeat | None = None  # the latest
        self._answer: BrokerHeartbeatAnswer | None = None
        self._ended = False
        self._changed = asyncio.Event()
        self.last_sent: BrokerHeartbeatAnswer | None = None

    def answer(self, answer: BrokerHeartbeatAnswer) -> None:
        """To be sent; replaces one that was not sent yet."""
        self._answer = answer
        self.last_sent = answer
        self._changed.set()

    def end(self) -> None:
        """What is there is still sent, then the stream ends."""
        self._ended = True
        self._changed.set()

    async def next_answer(self) -> BrokerHeartbeatAnswer | None:
        """The next answer; None once the stream has ended."""
        while True:
            if self._answer is not None:
                answer, self._answer = self._answer, None
                return answer
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()


class SessionDriver:
    """All sessions of one controller, in its turns at being active. Lives on one event loop."""

    def __init__(
        self, *, clock: Clock, machine: MetadataStateMachine, session_timeout_ms: int, crash_grace_ms: int
    ) -> None:
        self._clock = clock
        self._machine = machine
        self._sessions = BrokerSessions(session_timeout_ms=session_timeout_ms, crash_grace_ms=crash_grace_ms)
        self._crash_grace_ms = crash_grace_ms
        # Silence is measured in session time-outs; what is due sooner (a broken stream's grace) has its own timer.
        self._tick_interval_ms = max(self._sessions.tick_interval_ms, min(session_timeout_ms // 10, TICK_MS_MAX))
        self._proposer: Proposer | None = None  # while active
        self._streams: dict[SessionStream, None] = {}  # in the order in which they came, as they end
        self._current: dict[BrokerId, SessionStream] = {}  # on which the broker's latest heartbeat came
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def became_active(self, proposer: Proposer) -> None:
        """This controller is active: the sessions begin, with a full time-out for everyone."""
        self._proposer = proposer
        self._sessions.became_active(self._machine.image, self._clock.monotonic_ms())
        self._tick()

    def resigned(self) -> None:
        """It is not active any more: all streams end, so that brokers go to the next active controller."""
        self._proposer = None
        self._sessions.resigned()
        self._current.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for stream in self._streams:
            stream.end()

    async def stop(self) -> None:
        """Ends the proposals under way."""
        self.resigned()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def image_changed(self) -> None:
        """A command was applied. What brokers should know now is pushed to them."""
        if self._proposer is None:
            return
        self._sessions.image_changed(self._machine.image, self._clock.monotonic_ms())
        self._act()

    def is_alive(self, broker_id: BrokerId) -> bool:
        """True if the holder of this id is alive by its session."""
        return self._sessions.is_alive(broker_id, self._clock.monotonic_ms())

    def open(self) -> SessionStream:
        """A broker opened a stream."""
        stream = SessionStream()
        self._streams[stream] = None
        return stream

    async def read(self, stream: SessionStream, heartbeats: AsyncIterator[BrokerHeartbeat]) -> None:
        """Takes a stream's heartbeats until it ends or breaks."""
        try:
            async for heartbeat in heartbeats:
                self._heartbeat(stream, heartbeat)
        finally:
            stream.end()

    def closed(self, stream: SessionStream) -> None:
        """A stream ended. If it was the broker's current one, the broker has probably died."""
        self._streams.pop(stream, None)
        heartbeat = stream.heartbeat
        if heartbeat is None or self._current.get(BrokerId(heartbeat.broker_id)) is not stream:
            return
        del self._current[BrokerId(heartbeat.broker_id)]
        if self._proposer is not None:
            logger.info("broker_stream_broken broker=%d broker_epoch=%d", heartbeat.broker_id, heartbeat.broker_epoch)
            self._sessions.stream_broken(
                BrokerId(heartbeat.broker_id), BrokerEpoch(heartbeat.broker_epoch), self._clock.monotonic_ms()
            )
            self._act()
            self._act_after(self._crash_grace_ms + 1)

    def _heartbeat(self, stream: SessionStream, heartbeat: BrokerHeartbeat) -> None:
        broker_id = BrokerId(heartbeat.broker_id)
        answer = self._sessions.heartbeat(
            broker_id,
            BrokerEpoch(heartbeat.broker_epoch),
            MetadataOffset(heartbeat.metadata_end_offset),
            heartbeat.want_shutdown,
            heartbeat.want_fence,
            self._clock.monotonic_ms(),
        )
        stream.answer(self._on_wire(answer))
        if answer.error_code is not ErrorCode.NONE:
            # It has to find the active controller, or to register, before it can go on.
            stream.end()
            return
        stream.heartbeat = heartbeat
        self._current[broker_id] = stream
        self._act()

    def _act(self) -> None:
        """Proposes what follows from what happened, and tells brokers what they should know."""
        if self._proposer is None:
            return
        for proposal in self._sessions.tick(self._clock.monotonic_ms()):
            task = asyncio.create_task(self._propose(self._proposer, proposal), name="session-proposal")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for broker_id, stream in self._current.items():
            if stream.heartbeat is None:
                continue
            answer = self._on_wire(self._sessions.answer(broker_id, BrokerEpoch(stream.heartbeat.broker_epoch)))
            if answer != stream.last_sent:
                stream.answer(answer)
                if answer.error_code:
                    stream.end()

    def _tick(self) -> None:
        self._act()
        self._timer = asyncio.get_running_loop().call_later(self._tick_interval_ms / 1000, self._tick)

    def _act_after(self, wait_ms: int) -> None:
        """For what is due before the next tick."""
        asyncio.get_running_loop().call_later(wait_ms / 1000, self._act)

    async def _propose(self, proposer: Proposer, proposal: Proposal) -> None:
        logger.info("broker_session proposal=%s", proposal)
        response = await proposer.propose(_command(proposal))
        if response.error_code != ErrorCode.NONE:
            logger.info(
                "broker_session_proposal_failed broker=%d error=%s",
                proposal.broker_id,
                response.error_message or ErrorCode.of(response.error_code).name,
            )
            self._sessions.proposal_failed(proposal.broker_id, self._clock.monotonic_ms())
            self._act_after(FAILED_PROPOSAL_RETRY_MS + 1)

    def _on_wire(self, answer: HeartbeatAnswer) -> BrokerHeartbeatAnswer:
        return BrokerHeartbeatAnswer(
            error_code=answer.error_code,
            active_controller_id=NONE_ID,
            is_fenced=answer.is_fenced,
            is_caught_up=answer.is_caught_up,
            should_shut_down=answer.should_shut_down,
        )


def _command(proposal: Proposal) -> Command:
    broker_id, broker_epoch = proposal.broker_id, proposal.broker_epoch
    command = Command(request_id=uuid.uuid4().bytes)
    if isinstance(proposal, ProposeFence):
        command.fence_brokers.brokers.add(broker_id=broker_id, broker_epoch=broker_epoch)
    elif isinstance(proposal, ProposeUnfence):
        command.unfence_broker.broker_id = broker_id
        command.unfence_broker.broker_epoch = broker_epoch
    else:
        command.controlled_shutdown.broker_id = broker_id
        command.controlled_shutdown.broker_epoch = broker_epoch
    return command
