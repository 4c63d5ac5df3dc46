"""A broker's life: registering, being unfenced at once, losing its epoch, leaving in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from harness.fake_clock import FakeClock
from harness.fake_controllers import CLUSTER_ID, FakeQuorum, until
from klamm.broker.controller_client import ControllerClient
from klamm.broker.lifecycle import BrokerLifecycle, BrokerState, Registration
from klamm.broker.metadata_follower import MetadataFollower
from klamm.broker.system_clock import SystemClock
from klamm.cluster.clock import Clock
from klamm.cluster.image import Endpoint, MetadataImage
from klamm.proto.command_pb2 import Command, CommandResponse
from klamm.proto.controller_pb2 import BrokerHeartbeat, BrokerHeartbeatAnswer
from klamm.proto.errors import (
    DuplicateBrokerRegistrationError,
    ErrorCode,
    InconsistentClusterIdError,
    KafkaTimeoutError,
)
from klamm.proto.identifiers import BrokerEpoch, BrokerId
from klamm.proto.metadata_pb2 import BrokerRegistrationChangeRecord, MetadataRecord, UnregisterBrokerRecord

REGISTRATION = Registration(
    broker_id=BrokerId(1),
    incarnation_id=b"i" * 16,
    cluster_id=None,
    endpoints={"GRPC": Endpoint("127.0.0.1", 9192)},
    rack="a",
    log_dir_id=b"d" * 16,
)


class Node:
    """A lifecycle and the follower that feeds it, as a broker wires them."""

    def __init__(
        self,
        quorum: FakeQuorum,
        interval_ms: int,
        duplicate_timeout_ms: int,
        registration_timeout_ms: int,
        clock: Clock,
    ) -> None:
        self.fatal: list[Exception] = []
        self.client = ControllerClient(quorum.addresses, SystemClock())
        self.follower = MetadataFollower(self.client, self.on_image, broker_id=BrokerId(1), on_fatal=self.fatal.append)
        self.lifecycle = BrokerLifecycle(
            self.client,
            clock,
            heartbeat_interval_ms=interval_ms,
            on_fatal=self.fatal.append,
            registration_timeout_ms=registration_timeout_ms,
            duplicate_timeout_ms=duplicate_timeout_ms,
        )
        self.follower.add_listener(self.lifecycle.metadata_applied)

    async def on_image(self, old: MetadataImage, new: MetadataImage) -> None:
        pass


class ReadClock(FakeClock):
    """Counts how often it was looked at."""

    reads = 0

    def monotonic_ms(self) -> int:
        self.reads += 1
        return super().monotonic_ms()


@asynccontextmanager
async def a_node(
    quorum: FakeQuorum,
    *,
    interval_ms: int = 600_000,
    duplicate_timeout_ms: int = 300,
    registration_timeout_ms: int = 1_000,
    clock: Clock | None = None,
) -> AsyncIterator[Node]:
    node = Node(quorum, interval_ms, duplicate_timeout_ms, registration_timeout_ms, clock or SystemClock())
    await node.follower.start()
    yield node
    await node.lifecycle.stop()
    await node.follower.stop()
    await node.client.close()


def test_rule_20_it_runs_once_its_image_shows_it_unfenced_and_not_a_heartbeat_later() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum, a_node(quorum) as node:
            quorum.on_command, quorum.on_heartbeat = quorum.register, quorum.unfence_caught_up
            assert await node.lifecycle.start(REGISTRATION, None) == CLUSTER_ID
            assert quorum.commands[0].register_broker.previous_broker_epoch == -1
            assert quorum.commands[0].register_broker.endpoints[0].port == 9192
            await until(lambda: node.lifecycle.state is BrokerState.RECOVERY)
            assert not await node.lifecycle.wait_until_running(30)  # it has not said that it can serve
            node.lifecycle.ready_to_unfence()
            assert await node.lifecycle.wait_until_running(20_000)  # long before a heartbeat is due
            own = node.follower.image.brokers[BrokerId(1)]
            assert not own.fenced
            assert own.broker_epoch == node.lifecycle.broker_epoch

    asyncio.run(main())


def test_the_epoch_of_a_clean_stop_is_passed_on() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum, a_node(quorum) as node:
            quorum.on_command = quorum.register
            await node.lifecycle.start(REGISTRATION, BrokerEpoch(7))
            assert quorum.commands[0].register_broker.previous_broker_epoch == 7

    asyncio.run(main())


def test_rule_19_the_epoch_of_a_killed_process_is_passed_on_and_the_new_one_is_noted_before_anything_else() -> None:
    async def main() -> None:
        noted: list[int] = []
        async with FakeQuorum() as quorum, a_node(quorum) as node:
            quorum.on_command = quorum.register

            async def note(epoch: BrokerEpoch) -> None:
                with pytest.raises(RuntimeError):
                    node.lifecycle.broker_epoch  # noqa: B018 - nobody may have it yet
                noted.append(epoch)

            await node.lifecycle.start(REGISTRATION, None, killed_broker_epoch=BrokerEpoch(7), on_registered=note)
            command = quorum.commands[0].register_broker
            assert command.HasField("killed_broker_epoch") and command.killed_broker_epoch == 7
            assert noted == [node.lifecycle.broker_epoch]

    asyncio.run(main())


def test_it_waits_for_the_session_of_its_former_self_to_end() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum, a_node(quorum, duplicate_timeout_ms=5_000) as node:
            quorum.on_command = lambda command: (
                ErrorCode.DUPLICATE_BROKER_REGISTRATION if len(quorum.commands) < 3 else quorum.register(command)
            )
            await node.lifecycle.start(REGISTRATION, None)
            assert len({command.request_id for command in quorum.commands}) == 3  # each try is a new command

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (ErrorCode.DUPLICATE_BROKER_REGISTRATION, DuplicateBrokerRegistrationError, "broker id 1 is taken"),
        (ErrorCode.INCONSISTENT_CLUSTER_ID, InconsistentClusterIdError, "another cluster"),
        (ErrorCode.REQUEST_TIMED_OUT, KafkaTimeoutError, "could not register"),
    ],
)
def test_a_registration_that_is_refused_for_good_raises(code: ErrorCode, error: type[Exception], message: str) -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum, a_node(quorum) as node:
            quorum.on_command = lambda _: code
            with pytest.raises(error, match=message):
                await node.lifecycle.start(REGISTRATION, None)

    asyncio.run(main())


@pytest.mark.parametrize("code", [ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED])
def test_rule_11_a_refused_epoch_is_replaced_by_registering_the_same_incarnation_anew(code: ErrorCode) -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum, a_node(quorum) as node:
            quorum.on_command, quorum.on_heartbeat = quorum.register, quorum.unfence_caught_up
            await node.lifecycle.start(REGISTRATION, None)
            node.lifecycle.ready_to_unfence()
            assert await node.lifecycle.wait_until_running(5_000)
            first = node.lifecycle.broker_epoch

            def refuse_the_first(heartbeat: BrokerHeartbeat) -> BrokerHeartbeatAnswer | None:
                if heartbeat.broker_epoch == first:
                    return BrokerHeartbeatAnswer(error_code=code)
                return quorum.unfence_caught_up(heartbeat)

            quorum.on_heartbeat = refuse_the_first
            quorum.commit(MetadataRecord(unregister_broker=UnregisterBrokerRecord(broker_id=1, broker_epoch=first)))
            node.lifecycle.ready_to_unfence()  # a heartbeat now
            await until(lambda: node.lifecycle.broker_epoch > first)
            assert await node.lifecycle.wait_until_running(5_000)
            second = quorum.commands[1].register_broker
            assert second.incarnation_id == REGISTRATION.incarnation_id
            assert second.previous_broker_epoch == first
            assert all(heartbeat.broker_epoch == node.lifecycle.broker_epoch for heartbeat in quorum.heartbeats[-1:])
            assert not node.fatal

    asyncio.run(main())


def test_a_taken_id_while_running_is_fatal() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum, a_node(quorum, duplicate_timeout_ms=100) as node:
            quorum.on_command = quorum.register
            await node.lifecycle.start(REGISTRATION, None)
            quorum.on_command = lambda _: ErrorCode.DUPLICATE_BROKER_REGISTRATION
            quorum.on_heartbeat = lambda _: BrokerHeartbeatAnswer(error_code=ErrorCode.STALE_BROKER_EPOCH)
            node.lifecycle.ready_to_unfence()
            await until(lambda: node.fatal)
            assert isinstance(node.fatal[0], DuplicateBrokerRegistrationError)

    asyncio.run(main())


def test_heartbeats_move_to_the_next_active_controller_under_the_same_epoch() -> None:
    async def main() -> None:
        async with FakeQuorum(3) as quorum, a_node(quorum) as node:
            quorum.on_command, quorum.on_heartbeat = quorum.register, quorum.unfence_caught_up
            await node.lifecycle.start(REGISTRATION, None)
            node.lifecycle.ready_to_unfence()
            assert await node.lifecycle.wait_until_running(5_000)
            epoch, sent = node.lifecycle.broker_epoch, len(quorum.heartbeats)
            await quorum.nodes[0].kill()
            quorum.elect(2)
            await until(lambda: len(quorum.heartbeats) > sent)
            assert quorum.heartbeats[-1].broker_epoch == epoch
            assert node.lifecycle.state is BrokerState.RUNNING

    asyncio.run(main())


def test_a_controller_that_answers_nothing_is_left() -> None:
    async def main() -> None:
        async with FakeQuorum(2) as quorum, a_node(quorum, interval_ms=20) as node:
            quorum.on_command = quorum.register
            await node.lifecycle.start(REGISTRATION, None)
            await until(lambda: quorum.heartbeats)
            quorum.nodes[0].hung = True
            quorum.elect(1)
            sent = len(quorum.heartbeats)
            await until(lambda: len(quorum.heartbeats) > sent)
            assert (await node.client.active()).controller_id == 1
            quorum.nodes[0].hung = False
            quorum.elect(1)

    asyncio.run(main())


def test_rule_26_controlled_shutdown_lasts_until_the_controller_says_so() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum, a_node(quorum) as node:
            quorum.on_command, quorum.on_heartbeat = quorum.register, quorum.unfence_caught_up
            await node.lifecycle.start(REGISTRATION, None)
            node.lifecycle.ready_to_unfence()
            assert await node.lifecycle.wait_until_running(5_000)
            epoch = node.lifecycle.broker_epoch
            quorum.on_heartbeat = lambda _: BrokerHeartbeatAnswer()
            leaving = asyncio.ensure_future(node.lifecycle.controlled_shutdown(10_000))
            await until(lambda: quorum.heartbeats[-1].want_shutdown)
            assert node.lifecycle.state is BrokerState.PENDING_CONTROLLED_SHUTDOWN
            assert not leaving.done()
            quorum.on_heartbeat = lambda _: BrokerHeartbeatAnswer(should_shut_down=True)
            # The change is in the metadata: the broker tells at once that it has seen it.
            change = BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=epoch, in_controlled_shutdown=True)
            quorum.commit(MetadataRecord(broker_registration_change=change))
            assert await asyncio.wait_for(leaving, 20)
            assert node.lifecycle.state is BrokerState.SHUTTING_DOWN

    asyncio.run(main())


def test_controlled_shutdown_gives_up_in_time() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum, a_node(quorum) as node:
            quorum.on_command = quorum.register
            await node.lifecycle.start(REGISTRATION, None)
            assert not await node.lifecycle.controlled_shutdown(50)
            assert node.lifecycle.state is BrokerState.SHUTTING_DOWN

    asyncio.run(main())


def test_controllers_that_are_away_for_a_while_are_waited_for() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum, a_node(quorum) as node:
            quorum.elect(None)
            answers: list[Command] = []

            def register(command: Command) -> CommandResponse:
                answers.append(command)
                return quorum.register(command)

            quorum.on_command = register
            starting = asyncio.ensure_future(node.lifecycle.start(REGISTRATION, None))
            await asyncio.sleep(0.05)
            assert not starting.done()
            quorum.elect(0)
            await asyncio.wait_for(starting, 20)
            assert len(answers) == 1

    asyncio.run(main())


def test_a_broker_knows_whether_a_controller_has_just_said_that_it_is_not_fenced() -> None:
    async def main() -> None:
        async with FakeQuorum() as quorum, a_node(quorum, interval_ms=20) as node:
            quorum.on_command, quorum.on_heartbeat = quorum.register, quorum.unfence_caught_up
            await node.lifecycle.start(REGISTRATION, None)
            await until(lambda: node.lifecycle.state is BrokerState.RECOVERY)
            assert not node.lifecycle.is_in_touch, "it is fenced"
            node.lifecycle.ready_to_unfence()
            await until(lambda: node.lifecycle.is_in_touch)
            quorum.on_heartbeat = lambda _: None
            await until(lambda: not node.lifecycle.is_in_touch)  # nobody answers
            quorum.on_heartbeat = lambda _: BrokerHeartbeatAnswer()
            await until(lambda: node.lifecycle.is_in_touch)
            quorum.on_heartbeat = lambda _: BrokerHeartbeatAnswer(is_fenced=True)
            await until(lambda: not node.lifecycle.is_in_touch)

    asyncio.run(main())


def test_the_wait_for_an_active_controller_is_not_one_for_another_process_of_this_id() -> None:
    """A broker that was killed and is back finds itself still registered, for as long as its session lasts."""

    async def main() -> None:
        clock = ReadClock()
        async with (
            FakeQuorum() as quorum,
            a_node(quorum, duplicate_timeout_ms=600, registration_timeout_ms=30_000, clock=clock) as node,
        ):
            quorum.on_command = lambda command: (
                ErrorCode.DUPLICATE_BROKER_REGISTRATION if len(quorum.commands) < 3 else quorum.register(command)
            )
            quorum.elect(None)
            starting = asyncio.ensure_future(node.lifecycle.start(REGISTRATION, None))
            await until(lambda: clock.reads > 1)  # when it began, and before it sent
            clock.advance(20_000)
            quorum.elect(0)
            assert await asyncio.wait_for(starting, 20) == CLUSTER_ID
            assert len(quorum.commands) == 3

    asyncio.run(main())


def test_a_stream_that_breaks_while_its_reader_is_called_off_leaves_no_error_behind() -> None:
    class BrokenCall:
        async def read(self) -> BrokerHeartbeatAnswer:
            raise ConnectionError("the stream broke")

    async def main() -> None:
        unseen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        async with FakeQuorum() as quorum, a_node(quorum) as node:
            active = await node.client.active()
            reading = asyncio.ensure_future(node.lifecycle._next_answer(active, BrokenCall()))  # type: ignore[arg-type]
            await asyncio.sleep(0)  # it waits for an answer
            await asyncio.sleep(0)  # the stream has broken, and it has not heard of it yet
            reading.cancel()
            await asyncio.wait({reading})
            assert reading.cancelled()
            del reading
            gc.collect()
        assert unseen == []

    asyncio.run(main())
