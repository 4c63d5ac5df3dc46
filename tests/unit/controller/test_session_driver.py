"""Sessions, driven: what heartbeats, breaks and silence lead to, through the log, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from harness.fake_controllers import until
from harness.fake_raft import OUTCOME_UNKNOWN
from harness.one_controller import OneController, register_command
from harness.virtual_loop import VirtualClock, VirtualLoop, run_virtual
from klamm.controller.session_driver import SessionStream
from klamm.proto.controller_pb2 import BrokerHeartbeat, BrokerHeartbeatAnswer
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId


class Wire:
    """The broker's end of a session."""

    def __init__(self, node: OneController) -> None:
        self.node = node
        self.sent: asyncio.Queue[BrokerHeartbeat] = asyncio.Queue()
        self.answers: list[BrokerHeartbeatAnswer] = []
        self.ended = False
        self.stream: SessionStream = node.sessions.open()
        self._tasks = [
            asyncio.create_task(node.sessions.read(self.stream, self._heartbeats())),
            asyncio.create_task(self._collect()),
        ]

    async def _heartbeats(self) -> AsyncIterator[BrokerHeartbeat]:
        while True:
            yield await self.sent.get()

    async def _collect(self) -> None:
        while (answer := await self.stream.next_answer()) is not None:
            self.answers.append(answer)
        self.ended = True

    async def beat(self, epoch: int, end_offset: int = 0, *, want_shutdown: bool = False) -> None:
        count = len(self.answers)
        heartbeat = BrokerHeartbeat(
            broker_id=1, broker_epoch=epoch, metadata_end_offset=end_offset, want_shutdown=want_shutdown
        )
        self.sent.put_nowait(heartbeat)
        await until(lambda: len(self.answers) > count or self.ended)

    async def cut(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self.node.sessions.closed(self.stream)


def run(test: Callable[[OneController, int], Awaitable[None]], **settings: int) -> None:
    """With an active controller and broker 1 registered; the test gets its epoch."""

    async def main(loop: VirtualLoop) -> None:
        node = OneController(clock=VirtualClock(loop), **settings)  # type: ignore[arg-type]
        try:
            node.raft.lead()
            await until(lambda: node.controller.is_active)
            await test(node, (await node.submit(register_command())).register_broker.broker_epoch)
        finally:
            await node.stop()

    run_virtual(main)


def now_ms() -> float:
    return asyncio.get_running_loop().time() * 1000


def fenced(node: OneController) -> bool:
    return node.machine.image.brokers[BrokerId(1)].fenced


def test_rule_20_a_broker_is_unfenced_when_it_has_replayed_its_registration_and_told_so_at_once() -> None:
    async def test(node: OneController, epoch: int) -> None:
        wire = Wire(node)
        await wire.beat(epoch, epoch)
        assert wire.answers[-1].is_fenced
        assert not wire.answers[-1].is_caught_up
        await wire.beat(epoch, epoch + 1)
        await until(lambda: not fenced(node))
        await until(lambda: not wire.answers[-1].is_fenced)  # pushed: no heartbeat asked for it
        await wire.cut()

    run(test)


def test_a_broken_stream_fences_after_the_grace() -> None:
    async def test(node: OneController, epoch: int) -> None:
        wire = Wire(node)
        await wire.beat(epoch, epoch + 1)
        await until(lambda: not fenced(node))
        began_ms = now_ms()
        await wire.cut()
        await until(lambda: fenced(node))
        assert 100 <= round(now_ms() - began_ms) < 110

    run(test, crash_grace_ms=100)


def test_a_stream_that_replaces_another_keeps_the_session() -> None:
    async def test(node: OneController, epoch: int) -> None:
        old = Wire(node)
        await old.beat(epoch, epoch + 1)
        await until(lambda: not fenced(node))
        new = Wire(node)
        await new.beat(epoch, epoch + 2)
        await old.cut()
        await asyncio.sleep(0.15)
        assert not fenced(node)
        await new.cut()

    run(test, crash_grace_ms=50)


def test_a_stream_that_comes_back_within_the_grace_is_forgiven() -> None:
    async def test(node: OneController, epoch: int) -> None:
        old = Wire(node)
        await old.beat(epoch, epoch + 1)
        await until(lambda: not fenced(node))
        await old.cut()
        new = Wire(node)
        await new.beat(epoch, epoch + 2)
        await asyncio.sleep(0.2)
        assert not fenced(node)
        await new.cut()

    run(test, crash_grace_ms=150)


def test_silence_fences_after_the_session_time_out() -> None:
    async def test(node: OneController, epoch: int) -> None:
        wire = Wire(node)
        await wire.beat(epoch, epoch + 1)
        await until(lambda: not fenced(node))
        began_ms = now_ms()
        await until(lambda: fenced(node))
        assert 195 <= now_ms() - began_ms < 250
        await until(lambda: wire.answers[-1].is_fenced)
        await wire.cut()

    run(test, session_timeout_ms=200)


def test_rule_11_a_stale_epoch_and_an_unknown_broker_are_told_so_and_the_stream_ends() -> None:
    async def test(node: OneController, epoch: int) -> None:
        stale = Wire(node)
        await stale.beat(epoch - 1)
        await until(lambda: stale.ended)
        assert stale.answers[-1].error_code == ErrorCode.STALE_BROKER_EPOCH
        await stale.cut()
        unknown = Wire(node)
        unknown.sent.put_nowait(BrokerHeartbeat(broker_id=9, broker_epoch=1))
        await until(lambda: unknown.ended)
        assert unknown.answers[-1].error_code == ErrorCode.BROKER_ID_NOT_REGISTERED
        await unknown.cut()

    run(test)


def test_streams_end_when_the_controller_resigns_and_a_new_one_gives_a_full_session() -> None:
    async def test(node: OneController, epoch: int) -> None:
        wire = Wire(node)
        await wire.beat(epoch, epoch + 1)
        await until(lambda: not fenced(node))
        node.raft.follow(1)
        await until(lambda: wire.ended)
        await wire.cut()
        refused = Wire(node)
        await refused.beat(epoch, epoch + 1)
        await until(lambda: refused.ended)
        assert refused.answers[-1].error_code == ErrorCode.NOT_CONTROLLER
        await refused.cut()
        node.raft.lead()
        await until(lambda: node.controller.is_active)
        began_ms = now_ms()
        await until(lambda: fenced(node))
        assert 395 <= now_ms() - began_ms < 500  # asked every 2 ms; it looks ten times in a session

    run(test, session_timeout_ms=400, crash_grace_ms=50)


def test_a_proposal_of_unknown_outcome_is_made_again() -> None:
    async def test(node: OneController, epoch: int) -> None:
        node.raft.fail_next = [OUTCOME_UNKNOWN, OUTCOME_UNKNOWN]
        wire = Wire(node)
        await wire.beat(epoch, epoch + 1)
        await until(lambda: not fenced(node))
        await wire.cut()

    run(test)


def test_rule_26_a_broker_that_wants_to_leave_is_told_when_it_may_without_asking_again() -> None:
    async def test(node: OneController, epoch: int) -> None:
        wire = Wire(node)
        await wire.beat(epoch, epoch + 1)
        await until(lambda: not fenced(node))
        await wire.beat(epoch, epoch + 10, want_shutdown=True)
        await until(lambda: wire.answers[-1].should_shut_down)
        assert node.machine.image.brokers[BrokerId(1)].in_controlled_shutdown
        await wire.cut()
        await until(lambda: fenced(node))

    run(test)


def test_answers_are_not_queued() -> None:
    async def main() -> None:
        stream = SessionStream()
        for offset in range(1_000):
            stream.answer(BrokerHeartbeatAnswer(active_controller_id=offset))
        stream.end()
        answer = await stream.next_answer()
        assert answer is not None
        assert answer.active_controller_id == 999
        assert await stream.next_answer() is None

    asyncio.run(main())
